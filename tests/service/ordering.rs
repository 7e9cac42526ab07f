use crate::kitchen::{Log, ORDERED, ORDERS, Order, Outcome, counts, dead_letter, order, quick, until};
use anybroker::service::Followers;
use anybroker::{Broker, Context, Failure, Result, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Barrier, Semaphore};

/// Fails with `ada`'s first order for ever.
async fn stumble(order: Order, cx: Context<Log>) -> Outcome {
    if order.id == 1 {
        cx.state().note(format!("failed {} {}", order.id, cx.attempt()));
        return Err(Failure::retry("not that one"));
    }
    cx.state().note(format!("done {}", order.id));
    Ok(())
}

async fn stumbles(followers: Followers, attempts: u32) -> Result<(Broker, Log, anybroker::service::Running)> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let service = Service::new("kitchen").with_state(log.clone());
    let running = service
        .policy(quick().attempts(attempts).followers(followers))
        .handle(&ORDERED, stumble)
        .start(&broker)
        .await?;
    for (id, customer) in [(1, "ada"), (2, "ada"), (3, "grace"), (4, "ada")] {
        broker.send(&ORDERED, &order(id, customer)).await?;
    }
    Ok((broker, log, running))
}

fn place(lines: &[String], line: &str) -> usize {
    lines.iter().position(|other| other == line).unwrap_or_else(|| panic!("no `{line}` in {lines:?}"))
}

#[tokio::test]
async fn those_behind_a_failing_message_wait_and_go_on_when_it_is_dead() -> Result<()> {
    let (broker, log, running) = stumbles(Followers::GoOn, 4).await?;
    let lines = log.reaches(7).await;
    assert!(place(&lines, "done 2") > place(&lines, "failed 1 4"), "{lines:?}");
    assert!(place(&lines, "done 4") > place(&lines, "done 2"), "{lines:?}");
    let (message, _, attempts) = dead_letter(&broker, &ORDERED).await?;
    assert_eq!((message.body(), attempts.as_str()), (&br#"{"id":1,"customer":"ada"}"#[..], "4"));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn those_behind_a_dead_message_follow_it_in_order() -> Result<()> {
    let (broker, log, running) = stumbles(Followers::Follow, 2).await?;
    for (id, reason) in [
        (1, "attempts exhausted: not that one"),
        (2, "a message of its key before it went to the dead letters"),
        (4, "a message of its key before it went to the dead letters"),
    ] {
        let (message, found, _) = dead_letter(&broker, &ORDERED).await?;
        let body = format!(r#"{{"id":{id},"customer":"ada"}}"#);
        assert_eq!((message.body(), found.as_str()), (body.as_bytes(), reason));
    }
    until(|| counts(&running) == [1, 1, 3, 0]).await;
    assert!(log.lines().contains(&"done 3".to_owned()));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_message_may_be_waited_for_for_ever() -> Result<()> {
    let (broker, log, running) = stumbles(Followers::Wait, 2).await?;
    until(|| log.lines().contains(&"failed 1 9".to_owned())).await;
    let lines = log.lines();
    assert!(lines.contains(&"done 3".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line == "done 2" || line == "done 4"), "{lines:?}");
    assert_eq!(counts(&running)[2], 0);
    running.stop().await?;
    broker.close().await.map(drop)
}

#[tokio::test]
async fn different_keys_are_handled_at_once_and_one_key_is_not() -> Result<()> {
    const KEYS: usize = 8;
    let broker = Broker::connect("memory://").await?;
    // Nobody passes unless one handler of every key is there.
    let state = Arc::new((Barrier::new(KEYS), AtomicUsize::new(0)));
    let meet = async |_: Order, cx: Context<Arc<(Barrier, AtomicUsize)>>| -> Outcome {
        cx.state().0.wait().await;
        cx.state().1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let running = Service::new("kitchen")
        .with_state(Arc::clone(&state))
        .policy(quick().concurrency(KEYS))
        .handle(&ORDERED, meet)
        .start(&broker)
        .await?;
    for id in 0..10 * KEYS {
        broker.send(&ORDERED, &order(id as u64, &format!("customer-{}", id % KEYS))).await?;
    }
    until(|| state.1.load(Ordering::Relaxed) == 10 * KEYS).await;
    running.stop().await.map(drop)
}

#[tokio::test]
async fn no_more_run_at_once_than_the_policy_says() -> Result<()> {
    const MOST: usize = 3;
    let broker = Broker::connect("memory://").await?;
    let state = Arc::new((Semaphore::new(MOST), AtomicUsize::new(0)));
    let work = async |_: Order, cx: Context<Arc<(Semaphore, AtomicUsize)>>| -> Outcome {
        let _permit = cx.state().0.try_acquire().expect("one more than the policy says");
        tokio::task::yield_now().await;
        cx.state().1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let running = Service::new("kitchen")
        .with_state(Arc::clone(&state))
        .policy(quick().concurrency(MOST).attempts(1))
        .handle(&ORDERS, work)
        .start(&broker)
        .await?;
    for id in 0..200 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
    }
    until(|| state.1.load(Ordering::Relaxed) == 200).await;
    until(|| counts(&running) == [200, 0, 0, 0]).await;
    running.stop().await.map(drop)
}
