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
