//! The idempotent receiver, and what each crash leaves.

use crate::kitchen::{Log, ORDERS, Order, Outcome, counts, order, quick, until};
use anybroker::adapter::BoxFuture;
use anybroker::message::MessageId;
use anybroker::service::{Claim, DuplicateStore, Handling, MemoryDuplicates, Policy, Running};
use anybroker::{Broker, Context, Error, ErrorKind, Failure, IntoMessage, Message, Result, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The order as a message that has that id however often it is sent.
fn known(id: u64) -> Result<Message> {
    let mut message = (&order(id, "ada")).into_message()?;
    message.set_id(MessageId::from(id.to_string()));
    Ok(message)
}

fn seen() -> MemoryDuplicates {
    MemoryDuplicates::new(100, Duration::from_secs(600))
}

fn duplicates(running: &Running) -> u64 {
    running.status()[0].duplicates
}

async fn serve(order: Order, cx: Context<Log>) -> Outcome {
    cx.state().note(format!("served {} at attempt {}", order.id, cx.attempt()));
    Ok(())
}

async fn start(broker: &Broker, log: &Log, policy: Policy) -> Result<Running> {
    Service::new("kitchen").with_state(log.clone()).policy(policy).handle(&ORDERS, serve).start(broker).await
}

#[tokio::test]
async fn what_was_handled_is_not_handled_again() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let (log, seen) = (Log::default(), seen());
    let running = start(&broker, &log, quick().discard_duplicates(seen.clone())).await?;
    for id in [1, 1, 2, 1] {
        broker.send(&ORDERS, known(id)?).await?;
    }
    until(|| counts(&running)[0] == 2 && duplicates(&running) == 2).await;
    running.stop().await?;

    // Another instance that shares the store knows them too, as after a crash between the store's word and the acknowledgement.
    let running = start(&broker, &log, quick().discard_duplicates(seen)).await?;
    broker.send(&ORDERS, known(2)?).await?;
    until(|| duplicates(&running) == 1).await;
    let mut lines = log.lines();
    lines.sort();
    assert_eq!(lines, ["served 1 at attempt 1", "served 2 at attempt 1"]);
    running.stop().await.map(drop)
}

#[tokio::test]
async fn what_failed_is_no_duplicate() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let stumble = async |_: Order, cx: Context<Log>| -> Outcome {
        cx.state().note(cx.attempt());
        match cx.attempt() {
            1 => Err(Failure::retry("not yet")),
            2 => panic!("not yet"),
            _ => Ok(()),
        }
    };
    let service = Service::new("kitchen").with_state(log.clone()).policy(quick().discard_duplicates(seen()));
    let running = service.handle(&ORDERS, stumble).start(&broker).await?;
    broker.send(&ORDERS, known(1)?).await?;
    until(|| counts(&running)[0] == 1).await;
    assert_eq!((log.lines(), duplicates(&running)), (vec!["1".into(), "2".into(), "3".into()], 0));
    running.stop().await.map(drop)
}

#[tokio::test]
async fn a_duplicate_waits_for_the_first() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let gate = Arc::new((Semaphore::new(0), Log::default()));
    let wait = async |_: Order, cx: Context<Arc<(Semaphore, Log)>>| -> Outcome {
        cx.state().1.note("began");
        cx.state().0.acquire().await.expect("open").forget();
        Ok(())
    };
    let service = Service::new("kitchen").with_state(Arc::clone(&gate));
    let running =
        service.policy(quick().discard_duplicates(seen())).handle(&ORDERS, wait).start(&broker).await?;
    broker.send(&ORDERS, known(1)?).await?;
    broker.send(&ORDERS, known(1)?).await?;
    // Both are in the hands of the service; one of them waits.
    until(|| running.status()[0].consumer.unsettled == 2 && gate.1.lines().len() == 1).await;
    gate.0.add_permits(2);
    until(|| counts(&running)[0] == 1 && duplicates(&running) == 1).await;
    assert_eq!(gate.1.lines(), ["began"]);
    running.stop().await.map(drop)
}

/// Loses its first word, as a crash between the handler's end and the store's word does.
#[derive(Clone, Debug)]
struct Forgetful(MemoryDuplicates, Arc<AtomicBool>);

struct Forgotten(Box<dyn Handling>, Arc<AtomicBool>);

impl DuplicateStore for Forgetful {
    fn begin<'a>(&'a self, receiver: &'a str, id: &'a MessageId) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(async move {
            Ok(match self.0.begin(receiver, id).await? {
                Claim::New(handling) => Claim::New(Box::new(Forgotten(handling, Arc::clone(&self.1)))),
                other => other,
            })
        })
    }
}

impl Handling for Forgotten {
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        if self.1.swap(true, Ordering::Relaxed) {
            return self.0.done();
        }
        Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "the store is away")) })
    }
}

#[tokio::test]
async fn what_the_store_does_not_know_is_handled_again() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let forgetful = Forgetful(seen(), Arc::default());
    let running = start(&broker, &log, quick().discard_duplicates(forgetful)).await?;
    broker.send(&ORDERS, known(1)?).await?;
    assert_eq!(log.reaches(2).await, ["served 1 at attempt 1", "served 1 at attempt 2"]);
    until(|| counts(&running) == [1, 1, 0, 0]).await;
    running.stop().await.map(drop)
}

/// Is away the first few times that it is asked.
#[derive(Debug)]
struct Away(MemoryDuplicates, AtomicU32);

impl DuplicateStore for Away {
    fn begin<'a>(&'a self, receiver: &'a str, id: &'a MessageId) -> BoxFuture<'a, Result<Claim>> {
        match self.1.fetch_add(1, Ordering::Relaxed) {
            ..20 => Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "the store is away")) }),
            _ => self.0.begin(receiver, id),
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_uses_up_no_attempt() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let log = Log::default();
    let away = Away(seen(), AtomicU32::new(0));
    let running = start(&broker, &log, quick().attempts(1).discard_duplicates(away)).await?;
    broker.send(&ORDERS, known(1)?).await?;
    assert_eq!(log.reaches(1).await, ["served 1 at attempt 1"]);
    until(|| counts(&running) == [1, 0, 0, 0]).await;
    running.stop().await.map(drop)
}
