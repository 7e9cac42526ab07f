//! Order while consumers come, go, fail and die.

use super::{HERE, KEYS, in_order, kept};
use crate::adapter::MessageKey;
use crate::conformance::History;
use crate::conformance::check::{Checked, Stop, ensure};
use crate::conformance::lab::{Lab, Route, messages};
use crate::{Consumer, Delivery};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

pub(super) async fn one_of_a_key_at_a_time(lab: Lab) -> Checked {
    const COUNT: usize = 140;
    let route = in_order(&lab)?;
    let history = History::new();
    let running: Arc<Mutex<BTreeSet<MessageKey>>> = Arc::default();
    let mut working = tokio::task::JoinSet::new();
    for n in 0..3 {
        let broker = lab.broker().await?;
        let mut consumer = lab.consumer_of(&broker, route.from(), PREFETCH).await?;
        let (lab, history, running) = (lab.clone(), history.clone(), Arc::clone(&running));
        working.spawn(async move {
            let mut handlers = tokio::task::JoinSet::<Checked>::new();
            while !(history.accepted() == COUNT && history.is_complete(&[HERE])) {
                let Some(delivery) = within_5_ms(&lab, &mut consumer).await? else { continue };
                let (lab, history, running) = (lab.clone(), history.clone(), Arc::clone(&running));
                let work = Duration::from_millis(delivery.message().body().len() as u64 % 3);
                handlers.spawn(async move {
                    let key = delivery.message().key().cloned().unwrap_or_else(|| "".into());
                    let alone = lock(&running).insert(key.clone());
                    ensure!(
                        alone,
                        "two messages of key {key:?} were out at once, {:?} the second",
                        delivery.message().id()
                    );
                    history.arrived(HERE, &format!("c{n}"), delivery.message(), None);
                    lab.pause(work).await;
                    lock(&running).remove(&key);
                    drop(delivery.ack());
                    Ok(())
                });
            }
            handlers.join_all().await.into_iter().collect::<Checked>()?;
            lab.close(&broker).await
        });
    }
    let sending = lab.broker().await?;
    let producer = lab.producer(&sending, &route).await?;
    for some in messages("p", KEYS, COUNT).chunks(7) {
        lab.send_all(&producer, &history, "p", some).await?;
    }
    let ended = lab.within("all to be handled", working.join_all()).await;
    history.order_per_key()?;
    history.exact_copies(&[HERE])?;
    ended?.into_iter().collect::<Checked>()?;
    lab.close(&sending).await
}

pub(super) async fn consumer_joins(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let history = History::new();
    let first = reader(&lab, &route, &history, "first").await?;
    let sending = Sending::begin(&lab, &route, &history).await?;
    lab.until("the first consumer to receive", || history.arrivals() > 20).await?;
    let second = reader(&lab, &route, &history, "second").await?;
    lab.until("both consumers to receive", || history.arrivals() > 60).await?;
    let third = reader(&lab, &route, &history, "third").await?;
    sending.end(&lab).await?;
    let ended = tokio::join!(first, second, third);
    kept(&history)?;
    for ended in [ended.0, ended.1, ended.2] {
        ended??;
    }
    Ok(())
}

pub(super) async fn consumer_leaves(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let history = History::new();
    let leaver = lab.broker().await?;
    let mut leaving = lab.consumer_of(&leaver, route.from(), PREFETCH).await?;
    Sending::begin(&lab, &route, &history).await?.end(&lab).await?;
    // It goes with one in its hands and some queued behind that, while much of the same keys waits at the broker.
    let held = loop {
        let delivery = lab.next(&mut leaving).await?;
        history.arrived(HERE, "leaving", delivery.message(), None);
        if leaving.status().unsettled > PREFETCH / 2 {
            break delivery;
        }
        drop(delivery.ack());
    };
    let staying = reader(&lab, &route, &history, "staying").await?;
    let (closed, ()) = tokio::join!(lab.within("the consumer's close", leaving.close()), async {
        lab.pause(Duration::from_millis(5)).await;
        drop(held.ack());
    });
    closed??;
    let ended = staying.await;
    kept(&history)?;
    ended??;
    lab.close(&leaver).await
}

pub(super) async fn consumer_dropped_unsettled(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let history = History::new();
    let sending = Sending::begin(&lab, &route, &history).await?;
    for name in ["first", "second"] {
        let broker = lab.broker().await?;
        let mut consumer = lab.consumer(&broker, route.from()).await?;
        let mut held = Vec::new();
        for n in 0..6 {
            let delivery = lab.next(&mut consumer).await?;
            history.arrived(HERE, name, delivery.message(), None);
            match n % 2 {
                0 => drop(delivery.ack()),
                _ => held.push(delivery),
            }
        }
        drop(consumer);
        drop(held);
        lab.close(&broker).await?;
    }
    sending.end(&lab).await?;
    let ended = reader(&lab, &route, &history, "last").await?.await;
    kept(&history)?;
    ended?
}

pub(super) async fn consumer_killed(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let history = History::new();
    let (adapter, kill) = lab.fixture().mortal().await?;
    let doomed = lab.broker_over(adapter).await?;
    // With few ahead, those behind the held ones could be all of their keys.
    let mut dying = lab.consumer(&doomed, route.from()).await?;
    let sending = Sending::begin(&lab, &route, &history).await?;
    let mut held = Vec::new();
    for n in 0..7 {
        let delivery = lab.next(&mut dying).await?;
        history.arrived(HERE, "killed", delivery.message(), None);
        match n % 2 {
            0 => held.push(delivery),
            _ => lab.within("settling", delivery.ack()).await??,
        }
    }
    // It dies with some in its hands and some queued behind them, and the next consumer is there at once.
    kill.await;
    let next = reader(&lab, &route, &history, "next").await?;
    sending.end(&lab).await?;
    let ended = next.await;
    kept(&history)?;
    ended??;
    drop(held);
    lab.close(&doomed).await
}

pub(super) async fn across_retry(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let broker = lab.broker().await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let history = History::new();
    lab.send_all(&producer, &history, "p", &messages("p", &["a", "b"], 20)).await?;
    let clock = lab.clock();
    let mut handled = Vec::new();
    let (mut failures, mut failed_at) = (0, clock.now());
    while handled.len() < 20 {
        let delivery = lab.next(&mut consumer).await?;
        let message = delivery.message().clone();
        history.arrived(HERE, "c", &message, None);
        let id = message.id().map(ToString::to_string).unwrap_or_default();
        if id == "p/a-0" && failures > 0 {
            let waited = clock.now() - failed_at;
            ensure!(
                waited >= lab.timing().quiet,
                "came again after {waited:?}, asked for {:?}",
                lab.timing().quiet
            );
        }
        if id == "p/a-0" && failures < 2 {
            (failures, failed_at) = (failures + 1, clock.now());
            delivery.retry(lab.timing().quiet);
            continue;
        }
        handled.push(id);
        delivery.ack();
    }
    history.nothing_lost(&[HERE])?;
    history.order_per_key()?;
    let at = |wanted: &str| handled.iter().position(|id| id == wanted);
    // Only its own key waits for it: the other one is through before the retried message comes again.
    ensure!(at("p/b-9") < at("p/a-0"), "the other key waited too: {handled:?}");
    let of_a: Vec<&String> = handled.iter().filter(|id| id.starts_with("p/a-")).collect();
    ensure!(of_a.is_sorted(), "the followers of the retried message were handled as {of_a:?}");
    lab.silent(&mut consumer, "all was acknowledged").await?;
    lab.close(&broker).await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A delivery, if there is one soon.
async fn within_5_ms(lab: &Lab, consumer: &mut Consumer) -> Checked<Option<Delivery>> {
    tokio::select! {
        biased;
        received = consumer.receive() => match received? {
            None => Err(Stop::Failed(String::from("the consumer ended by itself"))),
            delivery => Ok(delivery),
        },
        () = lab.pause(Duration::from_millis(5)) => Ok(None),
    }
}

/// A consumer over a connection of its own that handles one message after another, until the history is complete.
async fn reader(
    lab: &Lab,
    route: &Route,
    history: &History,
    name: &'static str,
) -> Checked<JoinHandle<Checked>> {
    let broker = lab.broker().await?;
    let mut consumer = lab.consumer_of(&broker, route.from(), PREFETCH).await?;
    let (lab, history) = (lab.clone(), history.clone());
    Ok(tokio::spawn(async move {
        let done = || history.accepted() == SENT && history.is_complete(&[HERE]);
        // Not all are equally fast: a key that two of them have at once gets out of order.
        let work = Duration::from_millis(name.len() as u64 % 3);
        lab.drain_slowly(&mut consumer, &history, HERE, name, work, done).await?;
        lab.close(&broker).await
    }))
}

/// Few, so that competing consumers share the work of a channel that is not long.
const PREFETCH: usize = 8;

/// How many messages [`Sending`] sends.
const SENT: usize = 210;

/// A producer at work while consumers come and go.
struct Sending(JoinHandle<Checked>);

impl Sending {
    async fn begin(lab: &Lab, route: &Route, history: &History) -> Checked<Self> {
        let broker = lab.broker().await?;
        let producer = lab.producer(&broker, route).await?;
        let (lab, history) = (lab.clone(), history.clone());
        Ok(Self(tokio::spawn(async move {
            for some in messages("p", KEYS, SENT).chunks(14) {
                lab.send_all(&producer, &history, "p", some).await?;
                lab.pause(Duration::from_millis(2)).await;
            }
            ensure!(history.accepted() == SENT, "{} of {SENT} sends were accepted", history.accepted());
            lab.close(&broker).await
        })))
    }

    async fn end(self, lab: &Lab) -> Checked {
        lab.within("the producer to end", self.0).await??
    }
}
