//! Layers around handlers and around sending, ready-made and hand-made.

use crate::kitchen::{
    EVENTS, Log, ORDERS, Order, Outcome, Served, counts, dead_letter, next, order, quick, until,
};
use anybroker::adapter::{Clock, ManualClock};
use anybroker::message::{Receipt, Timestamp};
use anybroker::service::{BoxError, Layered, Outgoing, RateLimit};
use anybroker::{Broker, Channel, Context, ErrorKind, Failure, Message, Result, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task;
use std::time::Duration;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{AndThenLayer, MapErrLayer, MapRequestLayer};

static NOWHERE: Channel = Channel::point_to_point("nowhere");

async fn serve(order: Order, cx: Context<Log>) -> Outcome {
    cx.state().note(format!("served {}", order.id));
    match order.id {
        0 => Err(Failure::reject("no dishes")),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn layers_are_around_the_handler_the_last_outermost() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let note = |what: &'static str| {
        MapRequestLayer::new(move |cx: Context<Log>| {
            cx.state().note(format!("{what} {}", cx.message().type_name().map_or("?", |name| name)));
            cx
        })
    };
    let after = AndThenLayer::new(|reply: Option<Message>| async {
        assert!(reply.is_none());
        Ok::<_, BoxError>(reply)
    });
    let service = Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve);
    let running = service.layer(after).layer(note("inner")).layer(note("outer")).start(&broker).await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    assert_eq!(log.reaches(3).await, ["outer order", "inner order", "served 1"]);

    // A rejection goes through the layers as it is.
    broker.send(&ORDERS, &order(0, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!((reason.as_str(), attempts.as_str()), ("no dishes", "1"));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn an_error_of_a_layer_is_tried_again_unless_it_is_a_failure_of_its_own() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let hang = async |order: Order, _: Context| -> Outcome {
        match order.id {
            0 => Err(Failure::reject("no dishes")),
            _ => std::future::pending().await,
        }
    };
    let strict = MapErrLayer::new(|error: BoxError| -> BoxError {
        let failure = Failure::from_boxed(error);
        if failure.is_rejection() {
            Failure::reject(format!("refused: {failure}")).into()
        } else {
            failure.into()
        }
    });
    let service = Service::new("kitchen").policy(quick().attempts(2)).handle(&ORDERS, hang);
    let running = service
        .layer(TimeoutLayer::new(Duration::from_millis(10)))
        .layer(strict)
        .layer(ConcurrencyLimitLayer::new(1))
        .start(&broker)
        .await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!((reason.as_str(), attempts.as_str()), ("attempts exhausted: request timed out", "2"));
    broker.send(&ORDERS, &order(0, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!((reason.as_str(), attempts.as_str()), ("refused: no dishes", "1"));
    assert_eq!(counts(&running), [0, 1, 2, 0]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_layer_around_sending_sees_and_changes_what_is_sent() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let mut events = broker.consumer(EVENTS.subscription("test")).await?;
    let log = Log::default();
    let tell = async |order: Order, cx: Context<Log>| -> Outcome {
        let receipt: Receipt = cx.send(&EVENTS, &Served { id: order.id }).await?;
        let error = cx.send(&NOWHERE, &order).await.unwrap_err();
        cx.state().note(format!("{receipt:?} {:?} {error}", error.kind()));
        Ok(())
    };
    let stamp = MapRequestLayer::new(|mut outgoing: Outgoing| {
        outgoing.message.headers_mut().set("region", "eu");
        outgoing
    });
    let guard = tower::layer::layer_fn(Guard);
    let service = Service::new("kitchen").with_state(log.clone()).handle(&EVENTS, tell);
    let running = service.send_layer(stamp).send_layer(guard).start(&broker).await?;
    broker.send(&EVENTS, &order(1, "ada")).await?;
    let first = next(&mut events).await;
    assert_eq!(first.message().type_name().map(|name| &**name), Some("order"));
    first.ack();
    let second = next(&mut events).await;
    assert_eq!(second.message().headers().text("region"), Some("eu"));
    second.ack();
    let line = log.reaches(1).await.remove(0);
    assert!(line.contains(&format!("{:?}", ErrorKind::Other)) && line.contains("not there"), "{line}");
    running.stop().await.map(drop)
}

/// A layer by hand, which lets nothing pass to one channel.
#[derive(Clone)]
struct Guard(Layered<Outgoing, Receipt>);

impl tower::Service<Outgoing> for Guard {
    type Response = Receipt;
    type Error = BoxError;
    type Future = <Layered<Outgoing, Receipt> as tower::Service<Outgoing>>::Future;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), BoxError>> {
        tower::Service::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        if outgoing.channel.name() == NOWHERE.name() {
            return Box::pin(std::future::ready(Err("not there".into())));
        }
        tower::Service::call(&mut self.0, outgoing)
    }
}

#[tokio::test]
async fn a_rate_limit_lets_messages_through_evenly() -> Result<()> {
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let limit = RateLimit::with_clock(10, Duration::from_secs(1), Arc::new(clock.clone()));
    let broker = Broker::connect("memory://").await?;
    let begin = clock.now();
    let passed = Arc::new(AtomicU64::new(0));
    let count = async |_: Order, cx: Context<Arc<AtomicU64>>| -> Outcome {
        cx.state().fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let service = Service::new("kitchen").with_state(Arc::clone(&passed));
    let running = service.handle(&ORDERS, count).layer(limit).start(&broker).await?;
    for id in 0..5 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
    }
    for turn in 0..5 {
        until(|| passed.load(Ordering::Relaxed) == turn + 1).await;
        assert_eq!(clock.now() - begin, Duration::from_millis(100 * turn));
        clock.advance(Duration::from_millis(100));
    }
    running.stop().await.map(drop)
}
