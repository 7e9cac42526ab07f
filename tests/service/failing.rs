use crate::kitchen::{Log, ORDERS, Order, Outcome, counts, dead_letter, order, quick, until};
use anybroker::service::Policy;
use anybroker::{Broker, Context, Failure, Result, Service};
use std::time::Duration;
use tokio::sync::mpsc;

#[tokio::test]
async fn an_error_is_tried_again_until_its_attempts_are_used_up() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let burn = async |_: Order, cx: Context<Log>| -> Outcome {
        cx.state().note(cx.attempt());
        Err(std::io::Error::other("the oven is cold").into())
    };
    let service = Service::new("kitchen").with_state(log.clone()).policy(quick().attempts(3));
    let running = service.handle(&ORDERS, burn).start(&broker).await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!((reason.as_str(), attempts.as_str()), ("attempts exhausted: the oven is cold", "3"));
    assert_eq!(log.lines(), ["1", "2", "3"]);
    assert_eq!(counts(&running), [0, 2, 1, 0]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_rejection_goes_to_the_dead_letters_at_once() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let refuse = async |_: Order, _: Context| -> Outcome { Err(Failure::reject("no dishes")) };
    let running = Service::new("kitchen").handle(&ORDERS, refuse).start(&broker).await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!((reason.as_str(), attempts.as_str()), ("no dishes", "1"));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_panic_is_a_failure_and_takes_nothing_with_it() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let handle = async |order: Order, cx: Context<Log>| -> Outcome {
        if order.id == 1 {
            assert!(cx.attempt() > 2, "the soup boils over at attempt {}", cx.attempt());
        }
        if order.id == 2 {
            tokio::task::yield_now().await;
            panic!("the pan is hot");
        }
        cx.state().note(format!("{} at attempt {}", order.id, cx.attempt()));
        Ok(())
    };
    let service = Service::new("kitchen").with_state(log.clone()).policy(quick().attempts(3));
    let running = service.handle(&ORDERS, handle).start(&broker).await?;
    for id in 1..=3 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
    }
    let (_, reason, _) = dead_letter(&broker, &ORDERS).await?;
    assert_eq!(reason, "attempts exhausted: the handler panicked: the pan is hot");
    let mut lines = log.reaches(2).await;
    lines.sort();
    assert_eq!(lines, ["1 at attempt 3", "3 at attempt 1"]);
    until(|| counts(&running) == [2, 4, 1, 0]).await;
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_channel_that_requires_dead_letters_says_after_how_many_attempts() -> Result<()> {
    let channel = anybroker::Channel::point_to_point("impatient").dead_letter_after(2);
    let broker = Broker::connect("memory://").await?;
    let burn = async |_: Order, _: Context| -> Outcome { Err(Failure::retry("not now")) };
    let running =
        Service::new("kitchen").policy(quick().attempts(9)).handle(&channel, burn).start(&broker).await?;
    broker.send(&channel, &order(1, "ada")).await?;
    let (_, reason, attempts) = dead_letter(&broker, &channel).await?;
    assert_eq!((reason.as_str(), attempts.as_str()), ("attempts exhausted: not now", "2"));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_failure_may_say_when_it_comes_again() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let handle = async |_: Order, cx: Context<Log>| -> Outcome {
        cx.state().note(cx.attempt());
        if cx.attempt() == 1 {
            return Err(Failure::retry_after("in a moment", Duration::from_millis(1)));
        }
        Ok(())
    };
    // By the policy it would come again in an hour.
    let patient = Policy::new().backoff(Duration::from_secs(3600), Duration::from_secs(3600));
    let service = Service::new("kitchen").with_state(log.clone()).policy(patient);
    let running = service.handle(&ORDERS, handle).start(&broker).await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    assert_eq!(log.reaches(2).await, ["1", "2"]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn what_takes_too_long_is_tried_again() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let handle = async |_: Order, cx: Context<Log>| -> Outcome {
        if cx.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        cx.state().note(cx.attempt());
        Ok(())
    };
    let service = Service::new("kitchen").with_state(log.clone());
    let running = service
        .policy_for(&ORDERS, quick().timeout(Duration::from_millis(20)))
        .handle(&ORDERS, handle)
        .start(&broker)
        .await?;
    broker.send(&ORDERS, &order(1, "ada")).await?;
    assert_eq!(log.reaches(1).await, ["2"]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_message_that_a_handler_still_has_comes_again_whole() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let (keep, mut kept) = mpsc::unbounded_channel::<Context>();
    let handle = move |order: Order, cx: Context| {
        keep.send(cx.clone()).expect("the test listens");
        async move {
            assert_eq!(order.id, 7);
            if cx.attempt() < 3 { Err(Failure::retry("once more")) } else { Ok(()) }
        }
    };
    let running = Service::new("kitchen").policy(quick()).handle(&ORDERS, handle).start(&broker).await?;
    broker.send(&ORDERS, &order(7, "ada")).await?;
    until(|| counts(&running) == [1, 2, 0, 0]).await;
    let mut bodies = Vec::new();
    while let Ok(cx) = kept.try_recv() {
        bodies.push(cx.message().body().to_vec());
    }
    assert_eq!(bodies, vec![br#"{"id":7,"customer":"ada"}"#.to_vec(); 3]);
    running.stop().await.map(drop)
}
