//! Order while sends fail.

use super::{HERE, KEYS, in_order, kept};
use crate::ErrorKind;
use crate::adapter::SendOutcome;
use crate::conformance::check::{Checked, Stop, ensure};
use crate::conformance::lab::{Lab, messages, numbered};
use crate::conformance::{Faults, History};
use std::pin::pin;

pub(super) async fn partial_batch_failure(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let faults = Faults::new();
    for id in ["p/a-1", "p/c-0", "p/d-3"] {
        faults.refuse(id, ErrorKind::Throttled, SendOutcome::Refused);
    }
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let history = History::new();
    lab.send_all(&producer, &history, "p", &messages("p", KEYS, 42)).await?;
    lab.drain(&mut consumer, &history, HERE, "c", || history.is_complete(&[HERE])).await?;
    history.exact_copies(&[HERE])?;
    history.order_per_key()?;
    ensure!(history.accepted() >= 24, "{} of 42 accepted: other keys failed too", history.accepted());
    lab.close(&broker).await
}

pub(super) async fn failed_send_fails_its_followers(lab: Lab) -> Checked {
    let route = in_order(&lab)?;
    let faults = Faults::new();
    faults.refuse("p/a-2", ErrorKind::Rejected, SendOutcome::Refused);
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let history = History::new();
    let all = messages("p", &["a", "b"], 16);
    let results = lab.within("the sends to end", producer.send_all(all.iter().cloned())).await?;
    for (n, (result, message)) in results.into_iter().zip(&all).enumerate() {
        let outcome = result.err().and_then(|error| error.outcome());
        let expected = match (n % 2, n / 2) {
            (1, _) | (_, 0 | 1) => None,
            (_, 2) => Some(SendOutcome::Refused),
            _ => Some(SendOutcome::NotSent),
        };
        ensure!(outcome == expected, "{:?} ended as {outcome:?} in place of {expected:?}", message.id());
        history.sent("p", message, outcome);
    }
    // The key is not closed for good: what is sent once the failure is known goes its way.
    lab.send_all(&producer, &history, "p", &numbered("p", &["a", "b"], 16..20)).await?;
    ensure!(history.accepted() == 8 + 2 + 4, "{} accepted", history.accepted());
    lab.drain(&mut consumer, &history, HERE, "c", || history.is_complete(&[HERE])).await?;
    history.exact_copies(&[HERE])?;
    history.order_per_key()?;
    lab.close(&broker).await
}

pub(super) async fn across_reconnect(lab: Lab) -> Checked {
    const BATCH: usize = 14;
    let route = in_order(&lab)?;
    let faults = Faults::new();
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let producer = lab.producer(&broker, &route).await?;
    let history = History::new();
    let all = messages("p", KEYS, 5 * BATCH);
    let batches: Vec<_> = all.chunks(BATCH).collect();
    lab.send_all(&producer, &history, "p", batches[0]).await?;
    // Several batches are on their way when the connection dies. The broker has the first of them, and the producer does not know.
    faults.swallow_after(BATCH + BATCH / 2);
    let mut sending = pin!(async {
        let send = |batch: usize| lab.send_all(&producer, &history, "p", batches[batch]);
        tokio::join!(biased; send(1), send(2), send(3), send(4))
    });
    tokio::select! {
        biased;
        _ = &mut sending => return Err(Stop::Failed(String::from("sends ended before anything was answered"))),
        () = lab.quiet() => {}
    }
    faults.cut();
    let sent = lab.within("the sends that were unconfirmed", &mut sending).await?;
    sent.0.and(sent.1).and(sent.2).and(sent.3)?;
    let accepted = history.accepted();
    ensure!(accepted == all.len(), "{accepted} of {} sends were accepted after the cut", all.len());
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    lab.drain(&mut consumer, &history, HERE, "c", || history.is_complete(&[HERE])).await?;
    kept(&history)?;
    let again = history.duplicates().len();
    ensure!(again <= 4 * BATCH, "{again} messages came twice, {} were unconfirmed", 4 * BATCH);
    lab.close(&broker).await
}
