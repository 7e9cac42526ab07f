use crate::kitchen::{
    EVENTS, Log, ORDERS, Order, Outcome, Served, counts, dead_letter, next, order, quick, until,
};
use anybroker::message::{MessageId, Text};
use anybroker::{Body, Broker, Context, ErrorKind, Failure, Message, Result, Service};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Cancel {
    id: u64,
}

impl Body for Cancel {
    const TYPE: &'static str = "cancel";
}

async fn serve(order: Order, cx: Context<Log>) -> Outcome {
    cx.state().note(format!("served {}", order.id));
    Ok(())
}

async fn cancel(cancel: Cancel, cx: Context<Log>) -> Outcome {
    cx.state().note(format!("cancelled {}", cancel.id));
    Ok(())
}

async fn answer(order: Order, _: Context) -> std::result::Result<Served, Failure> {
    Ok(Served { id: order.id })
}

fn untyped(text: &'static str) -> Message {
    Message::new(text)
}

#[tokio::test]
async fn handlers_of_one_channel_are_told_apart_by_type() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let service =
        Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve).handle(&ORDERS, cancel);
    let running = service.start(&broker).await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    broker.send(&ORDERS, &Cancel { id: 1 }).await?;
    let mut lines = log.reaches(2).await;
    lines.sort();
    assert_eq!(lines, ["cancelled 1", "served 1"]);
    until(|| counts(&running) == [2, 0, 0, 0]).await;
    running.stop().await?;
    broker.close().await.map(drop)
}

#[tokio::test]
async fn one_handler_takes_messages_without_a_type() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let running =
        Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve).start(&broker).await?;
    broker.send(&ORDERS, untyped(r#"{"id":7,"customer":"ada"}"#)).await?;
    assert_eq!(log.reaches(1).await, ["served 7"]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn what_nobody_handles_goes_to_the_dead_letters() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let service = Service::new("kitchen").with_state(log).handle(&ORDERS, serve).handle(&ORDERS, cancel);
    let running = service.start(&broker).await?;
    let mut strange = untyped("{}");
    strange.set_type_name(Text::from("recipe"));
    for (message, expected) in [
        (strange, "no handler for messages of type `recipe`"),
        (untyped("{}"), "no handler for messages without a type"),
    ] {
        broker.send(&ORDERS, message).await?;
        let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
        assert_eq!((reason.as_str(), attempts.as_str()), (expected, "1"));
    }
    assert_eq!(counts(&running), [0, 0, 2, 0]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn what_cannot_be_decoded_goes_to_the_dead_letters_at_once() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let running =
        Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve).start(&broker).await?;
    broker.send(&ORDERS, untyped("not an order")).await?;
    let (message, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!(message.body(), b"not an order");
    assert!(reason.contains("order"), "{reason}");
    assert_eq!((attempts.as_str(), log.lines().len()), ("1", 0));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn events_that_nobody_handles_are_acknowledged_and_counted() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let running =
        Service::new("kitchen").with_state(log.clone()).handle(&EVENTS, serve).start(&broker).await?;
    broker.send(&EVENTS, &Cancel { id: 1 }).await?;
    broker.send(&EVENTS, &order(2, "ada")).await?;
    assert_eq!(log.reaches(1).await, ["served 2"]);
    until(|| counts(&running) == [1, 0, 0, 1]).await;
    assert_eq!(running.status()[0].channel, "events/kitchen");
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_fallback_takes_what_no_other_handler_does() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let rest = async |message: Message, cx: Context<Log>| -> Outcome {
        cx.state().note(format!("other {}", message.type_name().map_or("?", |name| name)));
        Ok(())
    };
    let service =
        Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve).fallback(&ORDERS, rest);
    let running = service.start(&broker).await?;
    broker.send(&ORDERS, &Cancel { id: 1 }).await?;
    broker.send(&ORDERS, untyped("?")).await?;
    broker.send(&ORDERS, &order(3, "ada")).await?;
    let mut lines = log.reaches(3).await;
    lines.sort();
    assert_eq!(lines, ["other ?", "other cancel", "served 3"]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_command_is_answered_at_its_return_address() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let running = Service::new("kitchen").handle(&ORDERS, answer).start(&broker).await?;
    assert_eq!(broker.request(&ORDERS, &order(5, "ada")).await?, Served { id: 5 });
    // Nobody asked: it is handled all the same.
    broker.send(&ORDERS, &order(6, "ada")).await?;
    until(|| counts(&running) == [2, 0, 0, 0]).await;
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_reply_that_reaches_nobody_is_counted() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let running = Service::new("kitchen").policy(quick()).handle(&ORDERS, answer).start(&broker).await?;
    let mut message = untyped(r#"{"id":7,"customer":"ada"}"#);
    message.set_reply_to(Text::from("not-an-address"));
    broker.send(&ORDERS, message).await?;
    until(|| running.status()[0].unanswered == 1 && counts(&running) == [1, 0, 0, 0]).await;
    running.stop().await.map(drop)
}

#[tokio::test]
async fn what_a_handler_sends_continues_the_conversation() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let mut events = broker.consumer(EVENTS.subscription("test")).await?;
    let tell = async |order: Order, cx: Context| -> Outcome {
        cx.send(&EVENTS, &Served { id: order.id }).await?;
        Ok(())
    };
    let running = Service::new("kitchen").handle(&ORDERS, tell).start(&broker).await?;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut first = untyped(r#"{"id":1,"customer":"ada"}"#);
    first.set_id(MessageId::from("the-order"));
    first.headers_mut().set("traceparent", trace);
    broker.send(&ORDERS, first).await?;
    let delivery = next(&mut events).await;
    let message = delivery.message();
    assert_eq!(message.correlation_id().map(|id| &**id), Some("the-order"));
    assert_eq!(message.headers().text("traceparent"), Some(trace));
    delivery.ack();

    let mut second = untyped(r#"{"id":2,"customer":"ada"}"#);
    second.set_correlation_id(Text::from("the-dinner"));
    broker.send(&ORDERS, second).await?;
    let delivery = next(&mut events).await;
    assert_eq!(delivery.message().correlation_id().map(|id| &**id), Some("the-dinner"));
    delivery.ack();
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_handler_asks_another_service() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let cooks = Service::new("kitchen").handle(&ORDERS, answer).start(&broker).await?;
    let wait = async |order: Order, cx: Context<Log>| -> Outcome {
        let served = cx.request(&ORDERS, &order).await?;
        cx.state().note(format!("brought {}", served.id));
        Ok(())
    };
    let waiters =
        Service::new("waiters").with_state(log.clone()).handle(&EVENTS, wait).start(&broker).await?;
    broker.send(&EVENTS, &order(9, "ada")).await?;
    assert_eq!(log.reaches(1).await, ["brought 9"]);
    waiters.stop().await?;
    cooks.stop().await.map(drop)
}

#[tokio::test]
async fn an_error_of_sending_can_be_passed_on() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let tell = async |order: Order, cx: Context<Log>| -> Outcome {
        let unknown = anybroker::Channel::point_to_point("not a name");
        let error = cx.send(&unknown, &order).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        cx.state().note(format!("attempt {}", cx.attempt()));
        Err(error.into())
    };
    let service = Service::new("kitchen").with_state(log.clone()).policy(quick().attempts(2));
    let running = service.handle(&ORDERS, tell).start(&broker).await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert!(reason.starts_with("attempts exhausted: the channel name \"not a name\""), "{reason}");
    assert_eq!((attempts.as_str(), log.lines()), ("2", vec!["attempt 1".into(), "attempt 2".into()]));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_context_that_is_kept_stays_that_of_its_message() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let serve = move |order: Order, cx: Context| {
        keep.send((order.id, cx)).expect("the test listens");
        async { Ok::<_, Failure>(()) }
    };
    let running = Service::new("kitchen").handle(&ORDERS, serve).start(&broker).await?;
    let mut contexts = Vec::new();
    for id in 1..=20 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
        let (handled, context) = kept.recv().await.expect("it is handled");
        assert_eq!(handled, id);
        // Some are kept, so that what is used again and what is not take turns.
        if id % 3 > 0 {
            contexts.push((id, context));
        }
    }
    until(|| counts(&running) == [20, 0, 0, 0] && running.status()[0].consumer.unsettled == 0).await;
    for (id, context) in &contexts {
        assert_eq!(Order::decode(context.message().body())?.id, *id);
        assert_eq!(context.attempt(), 1);
    }
    assert_eq!(running.status()[0].consumer.acked, 20);
    running.stop().await.map(drop)
}
