//! One producer's messages of one key arrive in the order in which they were accepted, whatever befalls their consumers.

mod consumers;
mod sends;

use super::bare::BareReceiver;
use super::check::{Check, Checked, check, ensure};
use super::lab::{Lab, Route, messages, numbered};
use super::settlement::lasting_with;
use super::{History, Hook};
use crate::adapter::{Capability, Outcome};
use std::time::Duration;

const NEEDS: &[Capability] = &[Capability::OrderPerKey];
const KEYS: &[&str] = &["a", "b", "c", "d", "e", "f", "g"];
const HERE: &str = "the channel";

pub(super) const CHECKS: &[Check] = &[
    check!("order/one-consumer", one_consumer).needs(NEEDS),
    check!("order/per-key-competing", per_key_competing).needs(NEEDS),
    check!("order/released-in-place", released_in_place).needs(NEEDS),
    check!("order/unsettled-in-place", unsettled_in_place).needs(NEEDS),
    check!("order/after-a-crash-in-place", after_a_crash_in_place).needs(NEEDS),
    check!("order/one-of-a-key-at-a-time", consumers::one_of_a_key_at_a_time).needs(NEEDS),
    check!("order/consumer-joins", consumers::consumer_joins).needs(NEEDS),
    check!("order/consumer-leaves", consumers::consumer_leaves).needs(NEEDS),
    check!("order/consumer-dropped-unsettled", consumers::consumer_dropped_unsettled).needs(NEEDS),
    check!("order/consumer-killed", consumers::consumer_killed).needs(NEEDS).hooks(&[Hook::Kill]),
    check!("order/across-retry", consumers::across_retry).needs(NEEDS),
    check!("order/partial-batch-failure", sends::partial_batch_failure).needs(NEEDS),
    check!("order/failed-send-fails-its-followers", sends::failed_send_fails_its_followers).needs(NEEDS),
    check!("order/across-reconnect", sends::across_reconnect).needs(NEEDS),
];

async fn one_consumer(lab: Lab) -> Checked {
    competing(&lab, 1).await
}

async fn per_key_competing(lab: Lab) -> Checked {
    competing(&lab, 4).await
}

async fn competing(lab: &Lab, consumers: u64) -> Checked {
    const COUNT: usize = 280;
    let link = lab.connect().await?;
    let route = match consumers {
        1 => lab.route(|channel| channel.order_per_key()),
        _ => in_order(lab)?,
    };
    link.declare(&route.topology()).await?;
    let history = History::new();
    let mut reading = tokio::task::JoinSet::new();
    for n in 0..consumers {
        let link = lab.connect().await?;
        let mut inlet = link.receiver_of(route.source(), 8).await?;
        ensure!(
            inlet.capabilities.has(Capability::OrderPerKey),
            "the channel was declared in order and opens without"
        );
        // They are not equally fast: a key that two of them have at once gets out of order.
        inlet.work = Duration::from_millis(n);
        let history = history.clone();
        reading.spawn(async move {
            let done = || history.accepted() == COUNT && history.is_complete(&[HERE]);
            inlet.drain(&history, HERE, &format!("c{n}"), done).await?;
            inlet.close().await?;
            link.close().await
        });
    }
    let mut outlet = link.sender(route.target()).await?;
    outlet.send_noting(&history, "p", &messages("p", KEYS, COUNT)).await?;
    let ended = reading.join_all().await;
    history.exact_copies(&[HERE])?;
    history.order_per_key()?;
    link.close().await?;
    ended.into_iter().collect()
}

async fn released_in_place(lab: Lab) -> Checked {
    leaving(&lab, async |inlet, held| {
        inlet.stop().await?;
        for delivery in &held {
            inlet.settle(delivery, Outcome::Release).await?;
        }
        inlet.close().await
    })
    .await
}

async fn unsettled_in_place(lab: Lab) -> Checked {
    leaving(&lab, async |inlet, _| inlet.close().await).await
}

async fn after_a_crash_in_place(lab: Lab) -> Checked {
    leaving(&lab, async |inlet, _| inlet.crash().await).await
}

/// Nothing is lost and each key is in its order. Copies too many are no fault here: consumers changed.
fn kept(history: &History) -> Checked {
    history.nothing_lost(&[HERE])?;
    history.nothing_made_up()?;
    history.order_per_key()?;
    Ok(())
}

fn in_order(lab: &Lab) -> Checked<Route> {
    lasting_with(lab, |channel| channel.order_per_key())
}

/// The first consumer handles some of each key and leaves in that way with the rest unsettled; the next one gets the rest in its old place, before
/// what was sent later.
async fn leaving(
    lab: &Lab,
    leave: impl AsyncFnOnce(BareReceiver, Vec<crate::adapter::Received>) -> Checked,
) -> Checked {
    let link = lab.connect().await?;
    let route: Route = lasting_with(lab, |channel| channel.order_per_key())?;
    link.declare(&route.topology()).await?;
    let mut outlet = link.sender(route.target()).await?;
    let mut inlet = link.receiver_of(route.source(), 35).await?;
    let history = History::new();
    outlet.send_noting(&history, "p", &numbered("p", KEYS, 0..35)).await?;
    let mut held = inlet.take(35).await?;
    // Of each key the first two are handled: what is settled is a prefix, as on every ordered channel.
    for delivery in held.drain(..14) {
        if let Ok(message) = &delivery.content {
            history.arrived(HERE, "first", message, delivery.attempt);
        }
        inlet.ack(&delivery).await?;
    }
    outlet.send_noting(&history, "p", &numbered("p", KEYS, 35..70)).await?;
    leave(inlet, held).await?;
    let next = lab.connect().await?;
    // Somebody with less room than the first takes one and goes: what that one left must not turn around.
    let mut passing = next.receiver_of(route.source(), 1).await?;
    passing.take(1).await?;
    passing.close().await?;
    let mut inlet = next.receiver_of(route.source(), 70).await?;
    let done = || history.is_complete(&[HERE]);
    inlet.drain(&history, HERE, "second", done).await?;
    history.exact_copies(&[HERE])?;
    history.order_per_key()?;
    inlet.close().await?;
    next.close().await?;
    link.close().await
}
