//! One producer's messages of one key arrive in the order in which they were accepted, whatever befalls their consumers.

use super::History;
use super::check::{Check, Checked, check};
use super::lab::{Lab, Route, messages, numbered};
use super::link::Inlet;
use super::settlement::lasting_with;
use crate::adapter::{Capability, Outcome};

const NEEDS: &[Capability] = &[Capability::OrderPerKey];
const KEYS: &[&str] = &["a", "b", "c", "d", "e", "f", "g"];
const HERE: &str = "the channel";

pub(super) const CHECKS: &[Check] = &[
    check!("order/one-consumer", one_consumer).needs(NEEDS),
    check!("order/per-key-competing", per_key_competing).needs(NEEDS),
    check!("order/released-in-place", released_in_place).needs(NEEDS),
    check!("order/unsettled-in-place", unsettled_in_place).needs(NEEDS),
    check!("order/after-a-crash-in-place", after_a_crash_in_place).needs(NEEDS),
];

async fn one_consumer(lab: Lab) -> Checked {
    competing(&lab, 1).await
}

async fn per_key_competing(lab: Lab) -> Checked {
    competing(&lab, 4).await
}

async fn competing(lab: &Lab, consumers: usize) -> Checked {
    const COUNT: usize = 280;
    let link = lab.connect().await?;
    let route = lasting_with(lab, |channel| channel.order_per_key())?;
    link.declare(&route.topology()).await?;
    let history = History::new();
    let mut reading = tokio::task::JoinSet::new();
    for n in 0..consumers {
        let link = lab.connect().await?;
        let mut inlet = link.inlet_of(route.source(), 8).await?;
        let history = history.clone();
        reading.spawn(async move {
            let done = || history.accepted() == COUNT && history.is_complete(&[HERE]);
            inlet.drain(&history, HERE, &format!("c{n}"), done).await?;
            inlet.close().await?;
            link.close().await
        });
    }
    let mut outlet = link.outlet(route.target()).await?;
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

/// The first consumer handles some of each key and leaves in that way with the rest unsettled; the next one gets the rest in its old place, before
/// what was sent later.
async fn leaving(
    lab: &Lab,
    leave: impl AsyncFnOnce(Inlet, Vec<crate::adapter::Received>) -> Checked,
) -> Checked {
    let link = lab.connect().await?;
    let route: Route = lasting_with(lab, |channel| channel.order_per_key())?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
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
    let mut inlet = next.inlet_of(route.source(), 70).await?;
    let done = || history.is_complete(&[HERE]);
    inlet.drain(&history, HERE, "second", done).await?;
    history.exact_copies(&[HERE])?;
    history.order_per_key()?;
    inlet.close().await?;
    next.close().await?;
    link.close().await
}
