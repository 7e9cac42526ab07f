use crate::kitchen::{Log, ORDERS, Order, Outcome, counts, next, order, quick, until};
use anybroker::{Broker, Context, Result, Service};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

async fn serve(order: Order, cx: Context<Log>) -> Outcome {
    cx.state().note(order.id);
    Ok(())
}

#[tokio::test]
async fn a_paused_service_handles_nothing_and_keeps_everything() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let running =
        Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve).start(&broker).await?;
    running.pause();
    for id in 1..=3 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
    }
    until(|| running.status()[0].consumer.unsettled == 3).await;
    assert_eq!(log.lines().len(), 0);
    running.resume();
    assert_eq!(log.reaches(3).await.len(), 3);
    running.pause();
    broker.send(&ORDERS, &order(4, "ada")).await?;
    assert_eq!(running.stop().await?.given_back, 1);
    let mut orders = broker.consumer(&ORDERS).await?;
    assert_eq!(next(&mut orders).await.decode::<Order>()?.id, 4);
    Ok(())
}

/// The first order waits to be let go; the second hangs.
async fn linger(order: Order, cx: Context<Arc<(Notify, Log)>>) -> Outcome {
    cx.state().1.note(format!("began {}", order.id));
    match order.id {
        1 => cx.state().0.notified().await,
        2 => std::future::pending().await,
        _ => {}
    }
    cx.state().1.note(format!("ended {}", order.id));
    Ok(())
}

#[tokio::test]
async fn leaving_finishes_what_runs_and_gives_back_what_hangs_at_the_deadline() -> Result<()> {
    let config = anybroker::Config::url("memory://")?;
    let broker = Broker::builder().config(config).close_deadline(Duration::from_secs(1)).open().await?;
    let state = Arc::new((Notify::new(), Log::default()));
    let (stop, stopped) = oneshot::channel::<()>();
    let service = Service::new("kitchen").with_state(Arc::clone(&state)).policy(quick().concurrency(2));
    let service = service.handle(&ORDERS, linger);
    let running = tokio::spawn({
        let broker = broker.clone();
        async move { service.run(&broker, stopped).await }
    });
    for id in 1..=3 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
    }
    state.1.reaches(2).await;
    stop.send(()).expect("it runs");
    state.0.notify_one();
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends").expect("no panic")?;
    assert_eq!(state.1.lines(), ["began 1", "began 2", "ended 1"]);

    let mut orders = broker.consumer(&ORDERS).await?;
    let mut left =
        [next(&mut orders).await.decode::<Order>()?.id, next(&mut orders).await.decode::<Order>()?.id];
    left.sort_unstable();
    assert_eq!(left, [2, 3]);
    broker.close().await.map(drop)
}

#[tokio::test]
async fn a_service_ends_with_its_broker() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let service = Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve);
    let running = tokio::spawn({
        let broker = broker.clone();
        async move { service.run(&broker, std::future::pending::<()>()).await }
    });
    broker.send(&ORDERS, &order(1, "ada")).await?;
    log.reaches(1).await;
    broker.close().await?;
    tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends").expect("no panic")
}

#[tokio::test]
async fn a_service_that_is_dropped_leaves() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let service = || Service::new("kitchen").with_state(log.clone()).handle(&ORDERS, serve);
    drop(service().start(&broker).await?);
    let again = service().start(&broker).await?;
    for id in 0..20 {
        broker.send(&ORDERS, &order(id, "ada")).await?;
    }
    until(|| counts(&again)[0] == 20).await;
    again.stop().await.map(drop)
}

#[tokio::test]
async fn a_service_that_is_to_end_before_its_broker_is_there_does() -> Result<()> {
    struct Nobody;
    let refusing = anybroker::Channel::point_to_point("unheard-of").durable();
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let service = Service::new("kitchen").with_state(log).handle(&refusing, serve);
    let error = service.run(&broker, std::future::pending::<Nobody>()).await.unwrap_err();
    assert_eq!(error.kind(), anybroker::ErrorKind::Unsupported);
    Ok(())
}
