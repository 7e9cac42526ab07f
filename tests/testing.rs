//! The testing kit: a word about every message, virtual time, what was sent, and failures on request.
#![expect(clippy::panic_in_result_fn, clippy::panic, reason = "tests")]

use anybroker::message::MessageId;
use anybroker::service::{Followers, MemoryDuplicates, Policy};
use anybroker::{
    Body, Channel, Command, Context, ErrorKind, Failure, IntoMessage, Message, MessageKey, Result, Service,
    testing,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

static ORDERS: Channel = Channel::point_to_point("orders").order_per_key();
static PRICING: Channel = Channel::point_to_point("pricing");
static EVENTS: Channel = Channel::publish_subscribe("events");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
}

impl Body for Order {
    const TYPE: &'static str = "order";
    fn key(&self) -> Option<MessageKey> {
        Some(self.customer.as_str().into())
    }
}

impl Command for Order {
    type Reply = Price;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    cents: u64,
}

impl Body for Price {
    const TYPE: &'static str = "price";
}

/// 0 is rejected, 1 fails until its third attempt, 2 panics, others tell of it.
async fn create(order: Order, cx: Context) -> Result<(), Failure> {
    match (order.id, cx.attempt()) {
        (0, _) => Err(Failure::reject("no dishes")),
        (1, ..3) => Err(Failure::retry("the oven is cold")),
        (2, _) => panic!("the pan is hot"),
        _ => Ok(cx.send(&EVENTS, &order).await.map(drop)?),
    }
}

async fn price(order: Order, _: Context) -> Result<Price, Failure> {
    Ok(Price { cents: order.id * 990 })
}

fn kitchen() -> Service {
    Service::new("kitchen").handle(&ORDERS, create).handle(&PRICING, price)
}

fn order(id: u64) -> Order {
    Order { id, customer: "ada".into() }
}

#[tokio::test]
async fn every_message_has_a_fate() -> Result<()> {
    let test = testing::start(kitchen()).await?;
    let fate = test.send(&ORDERS, &order(0)).await?;
    assert!(fate.is_rejected() && !fate.is_retried() && !fate.is_acknowledged());
    assert_eq!((fate.reason(), fate.attempt(), fate.after()), (Some("no dishes"), 1, None));
    let fate = test.send(&ORDERS, &order(3)).await?;
    assert!(fate.is_acknowledged());
    assert_eq!(fate.reason(), None);
    assert_eq!(test.sent::<Order>(&EVENTS)?, [order(3)]);
    assert_eq!(
        test.sent_messages(&EVENTS)[0].correlation_id().map(|id| id.to_string()),
        Some(fate.id().to_string())
    );
    assert_eq!(test.sent::<Order>(&PRICING)?, []);
    assert_eq!(test.sent::<Price>(&EVENTS).unwrap_err().kind(), ErrorKind::InvalidMessage);
    let mut strange = Message::new("{}");
    strange.set_type_name(anybroker::message::Text::from("recipe"));
    let fate = test.send(&ORDERS, strange).await?;
    assert_eq!(fate.reason(), Some("no handler for messages of type `recipe`"));
    let status = test.status();
    assert_eq!((status[0].handled, status[0].rejected), (1, 2));
    Ok(())
}

#[tokio::test]
async fn retries_come_when_time_advances() -> Result<()> {
    let test = testing::start(kitchen()).await?;
    let first = test.send(&ORDERS, &order(1)).await?;
    assert!(first.is_retried());
    assert_eq!(first.reason(), Some("the oven is cold"));
    // A message of its key waits behind it, for as long as time stands still.
    let behind = test.post(&ORDERS, &order(4)).await?;
    test.advance(first.after().unwrap());
    let second = test.next(&first).await?;
    assert_eq!((second.is_retried(), second.attempt()), (true, 2));
    assert_eq!(test.sent::<Order>(&EVENTS)?, []);
    test.advance(Duration::from_secs(3600));
    assert_eq!(test.next(&second).await?.attempt(), 3);
    assert!(test.fate(&behind).await?.is_acknowledged());
    assert_eq!(test.sent::<Order>(&EVENTS)?, [order(1), order(4)]);
    Ok(())
}

#[tokio::test]
async fn a_panic_and_attempts_that_are_used_up_have_their_reasons() -> Result<()> {
    let test = testing::start(kitchen().policy(Policy::new().attempts(2))).await?;
    let first = test.send(&ORDERS, &order(2)).await?;
    assert_eq!(first.reason(), Some("the handler panicked: the pan is hot"));
    test.advance(Duration::from_secs(60));
    let last = test.next(&first).await?;
    assert!(last.is_rejected());
    assert_eq!(last.reason(), Some("attempts exhausted: the handler panicked: the pan is hot"));
    let mut dead = test.broker().consumer(ORDERS.dead_letters()).await?;
    let delivery = dead.receive().await?.unwrap();
    assert_eq!(delivery.message().id(), Some(last.id()));
    delivery.ack().await
}

#[tokio::test]
async fn sending_fails_when_the_test_says_so() -> Result<()> {
    let test = testing::start(kitchen()).await?;
    test.fail_sends(&EVENTS, ErrorKind::Unavailable, 2);
    let mut fate = test.send(&ORDERS, &order(5)).await?;
    for _ in 0..2 {
        assert!(fate.is_retried() && fate.reason().unwrap().contains("the test has it fail"), "{fate:?}");
        test.advance(Duration::from_secs(60));
        fate = test.next(&fate).await?;
    }
    assert!(fate.is_acknowledged());
    assert_eq!(test.sent::<Order>(&EVENTS)?, [order(5)]);
    Ok(())
}

#[tokio::test]
async fn commands_are_answered() -> Result<()> {
    let test = testing::start(kitchen()).await?;
    assert_eq!(test.request(&PRICING, &order(2)).await?, Price { cents: 1980 });
    Ok(())
}

#[tokio::test]
async fn events_and_duplicates_have_fates_of_their_own() -> Result<()> {
    let seen = MemoryDuplicates::new(10, Duration::from_secs(60));
    let policy = Policy::new().discard_duplicates(seen).followers(Followers::Follow);
    let book = async |_: Order, _: Context| -> Result<(), Failure> { Ok(()) };
    let test = testing::start(Service::new("books").policy(policy).handle(&EVENTS, book)).await?;
    let mut known = (&order(3)).into_message()?;
    known.set_id(MessageId::from("three"));
    assert!(test.send(&EVENTS, known.clone()).await?.is_acknowledged());
    assert!(test.send(&EVENTS, known).await?.is_duplicate());
    assert!(test.send(&EVENTS, &Price { cents: 1 }).await?.is_ignored());
    Ok(())
}

#[tokio::test]
async fn a_channel_that_is_not_handled_is_an_error_that_says_so() -> Result<()> {
    static OTHER: Channel = Channel::point_to_point("other");
    let test = testing::start(kitchen()).await?;
    let error = test.send(&OTHER, &order(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no messages of channel `other`"), "{error}");
    assert!(testing::start(Service::new("idle")).await.is_err());
    Ok(())
}

#[tokio::test]
async fn memory_in_the_place_of_a_broker_refuses_what_that_refuses() -> Result<()> {
    static BOUNDED: Channel = Channel::point_to_point("orders").durable().bounded(10);
    let service = || Service::new("kitchen").handle(&BOUNDED, price);
    // Memory itself cannot keep what the two others can.
    let on_memory = testing::start(service()).await.expect_err("memory forgets").to_string();
    assert!(on_memory.contains("requires `durable`, which `memory` cannot keep"), "{on_memory}");
    let on_kafka = testing::start_like("kafka", service()).await.expect_err("a topic has no bound");
    assert_eq!(on_kafka.kind(), ErrorKind::Unsupported);
    let said = "requires `bounded`, which `memory` in the place of `kafka` does not have";
    assert!(on_kafka.to_string().contains(said), "{on_kafka}");
    let test = testing::start_like("rabbitmq", service()).await?;
    assert!(test.send(&BOUNDED, &Order { id: 1, customer: "ada".into() }).await?.is_acknowledged());
    let unknown = testing::start_like("pulsar", service()).await.expect_err("there is no table");
    assert_eq!(unknown.kind(), ErrorKind::Config);

    // By one line of configuration, too.
    static FANNED_OUT: Channel = Channel::publish_subscribe("events").bounded(10);
    let broker = anybroker::Broker::connect("memory://?like=rabbitmq").await?;
    let refused = broker.producer(&FANNED_OUT).await.expect_err("one full queue would hold up the others");
    assert!(refused.to_string().contains("a publish-subscribe channel cannot have a bound"), "{refused}");
    let all = EVENTS.subscription("audit").from(anybroker::channel::Start::Earliest);
    let refused = broker.consumer(all).await.expect_err("queues hold what came later");
    assert!(refused.to_string().contains("in the place of `rabbitmq` does not have"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_handler_that_asks_for_more_time_gets_that_and_no_more() -> Result<()> {
    let (step, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let oven = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let bake = {
        let oven = std::sync::Arc::clone(&oven);
        move |_: Order, cx: Context| {
            let (step, oven) = (step.clone(), std::sync::Arc::clone(&oven));
            async move {
                cx.extend(Duration::from_secs(3600));
                step.send(()).expect("the test listens");
                oven.acquire().await.map(tokio::sync::SemaphorePermit::forget)?;
                Ok::<_, Failure>(())
            }
        }
    };
    let policy = Policy::new().timeout(Duration::from_secs(10));
    let test = testing::start(Service::new("kitchen").policy(policy).handle(&PRICING, bake)).await?;

    let slow = test.post(&PRICING, &Order { id: 1, customer: "ada".into() }).await?;
    begun.recv().await.expect("it is handled");
    test.advance(Duration::from_secs(600));
    oven.add_permits(1);
    assert!(test.fate(&slow).await?.is_acknowledged());

    let slower = test.post(&PRICING, &Order { id: 2, customer: "ada".into() }).await?;
    begun.recv().await.expect("it is handled");
    test.advance(Duration::from_secs(600));
    test.advance(Duration::from_secs(3000));
    let fate = test.fate(&slower).await?;
    assert!(fate.is_retried());
    assert_eq!(fate.reason(), Some("the handler took longer than 10s"));
    Ok(())
}
