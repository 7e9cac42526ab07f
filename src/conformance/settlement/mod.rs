//! What is settled stays settled; what is not comes again.

pub(super) mod dead_letters;
mod leases;
mod retries;

use super::bare::{BareLink, BareReceiver};
use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::{Lab, Route, messages};
use super::{History, Hook};
use crate::adapter::{Capability, Channel, ErrorKind, Outcome, Received};
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    check!("settlement/ack-never-returns", ack_never_returns),
    check!("settlement/out-of-order", out_of_order),
    check!("settlement/unsettled-returns-after-close", unsettled_returns_after_close),
    check!("settlement/unsettled-returns-after-drop", unsettled_returns_after_drop),
    check!("settlement/unsettled-returns-after-disconnect", unsettled_returns_after_disconnect),
    check!("settlement/attempts-are-counted", attempts_are_counted).needs(&[Capability::AttemptCount]),
    check!("settlement/release-is-not-counted", release_is_not_counted),
    check!("settlement/held-is-kept", held_is_kept),
    check!("settlement/broker-retry-waits", broker_retry_waits).needs(&[Capability::DelayedRetry]),
    check!("settlement/settles-after-stop", settles_after_stop),
    check!("settlement/after-close-is-an-error", after_close_is_an_error),
    check!("settlement/retry-is-counted", retries::retry_is_counted),
    check!("settlement/retry-waits", retries::retry_waits).exercises(&[Capability::DelayedRetry]),
    check!("settlement/dropped-delivery-returns", retries::dropped_delivery_returns),
    check!("settlement/consumer-closed-is-an-error", retries::consumer_closed_is_an_error),
    check!("settlement/reject-dead-letters-once", dead_letters::reject_dead_letters_once).needs(DEAD_LETTER),
    check!("settlement/reject-without-dead-letters", dead_letters::reject_without_dead_letters),
    check!("settlement/last-attempt-dead-letters", dead_letters::last_attempt_dead_letters)
        .needs(DEAD_LETTER),
    check!("settlement/dead-letters-of-a-subscription", dead_letters::of_a_subscription).needs(&[
        Capability::DeadLetter,
        Capability::PublishSubscribe,
        Capability::NamedSubscription,
    ]),
    check!("settlement/lost-lease-is-an-error", leases::lost_lease_is_an_error).hooks(&[Hook::Lease]),
    check!("settlement/extended-lease-lasts", leases::extended_lease_lasts)
        .hooks(&[Hook::Lease])
        .exercises(&[Capability::LeaseExtension]),
];

const DEAD_LETTER: &[Capability] = &[Capability::DeadLetter];

async fn ack_never_returns(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 20)).await?;
    for delivery in inlet.take(20).await? {
        inlet.ack(&delivery).await?;
    }
    inlet.silent("all was acknowledged").await?;
    inlet.close().await?;
    link.close().await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

async fn out_of_order(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 12)).await?;
    let deliveries = inlet.take(12).await?;
    let kept = [ids(&deliveries)[2].clone(), ids(&deliveries)[7].clone()];
    for delivery in deliveries.iter().rev() {
        if !kept.contains(&id(delivery)) {
            inlet.ack(delivery).await?;
        }
    }
    inlet.close().await?;
    link.close().await?;
    left_is(&lab, &route, &kept).await.map(drop)
}

async fn unsettled_returns_after_close(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (route, kept, inlet) = half_acknowledged(&lab, &link).await?;
    inlet.close().await?;
    link.close().await?;
    left_is(&lab, &route, &kept).await.map(drop)
}

async fn unsettled_returns_after_drop(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (route, kept, inlet) = half_acknowledged(&lab, &link).await?;
    inlet.crash().await?;
    left_is(&lab, &route, &kept).await?;
    link.close().await
}

async fn unsettled_returns_after_disconnect(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (route, kept, mut inlet) = half_acknowledged(&lab, &link).await?;
    inlet.flush().await?;
    // The connection closes under the open receiver, as when it is lost.
    link.close().await?;
    match inlet.try_next().await? {
        None | Some(Err(_)) => {}
        Some(Ok(received)) => {
            ensure!(false, "the connection is closed, and there came {:?}", received.content)
        }
    }
    left_is(&lab, &route, &kept).await.map(drop)
}

async fn attempts_are_counted(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    let (mut outlet, first) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 3)).await?;
    let mut inlet = first;
    for attempt in 1..=4 {
        let deliveries = inlet.take(3).await?;
        for delivery in &deliveries {
            let seen = delivery.attempt;
            ensure!(seen == Some(attempt), "attempt {attempt} of {} came as {seen:?}", id(delivery));
        }
        inlet.close().await?;
        inlet = link.receiver(route.source()).await?;
    }
    link.close().await
}

async fn release_is_not_counted(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 6)).await?;
    let deliveries = inlet.take(6).await?;
    inlet.stop().await?;
    for delivery in &deliveries {
        inlet.settle(delivery, Outcome::Release).await?;
    }
    inlet.close().await?;
    let again = left_is(&lab, &route, &ids(&deliveries)).await?;
    for delivery in &again {
        let attempt = delivery.attempt;
        ensure!(
            matches!(attempt, None | Some(1)),
            "{} was released, not handled, and comes as attempt {attempt:?}",
            id(delivery)
        );
    }
    link.close().await
}

async fn held_is_kept(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 4)).await?;
    let deliveries = inlet.take(4).await?;
    for delivery in &deliveries {
        inlet.settle(delivery, Outcome::Held { attempt: 2 }).await?;
    }
    inlet.silent("all is held").await?;
    // The token still settles: two are done, two are not.
    for delivery in &deliveries[..2] {
        inlet.ack(delivery).await?;
    }
    inlet.close().await?;
    left_is(&lab, &route, &ids(&deliveries[2..])).await?;
    link.close().await
}

async fn broker_retry_waits(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 1)).await?;
    let delivery = inlet.next().await?;
    let clock = lab.clock();
    let after = retry_delay(&lab);
    let retried = clock.now();
    inlet.settle(&delivery, Outcome::Retry { after }).await?;
    let again = inlet.next().await?;
    let waited = clock.now() - retried;
    ensure!(id(&again) == id(&delivery), "{} came in place of {}", id(&again), id(&delivery));
    // Brokers count whole milliseconds.
    ensure!(waited + Duration::from_millis(1) >= after, "came again after {waited:?}, asked for {after:?}");
    ensure!(matches!(again.attempt, None | Some(2)), "the second attempt came as {:?}", again.attempt);
    inlet.ack(&again).await?;
    inlet.silent("the retried one was acknowledged").await?;
    inlet.close().await?;
    link.close().await
}

async fn settles_after_stop(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 4)).await?;
    let deliveries = inlet.take(4).await?;
    inlet.stop().await?;
    for delivery in &deliveries {
        inlet.ack(delivery).await?;
    }
    inlet.close().await?;
    left_is(&lab, &route, &[]).await?;
    link.close().await
}

async fn after_close_is_an_error(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 2)).await?;
    let deliveries = inlet.take(2).await?;
    inlet.leave().await?;
    for delivery in &deliveries {
        match inlet.try_settle(&delivery.token, Outcome::Ack).await? {
            Ok(()) => ensure!(false, "{} was settled after close", id(delivery)),
            Err(error) => ensure!(
                matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected | ErrorKind::LeaseLost),
                "settling after close says {error:?}"
            ),
        }
    }
    left_is(&lab, &route, &ids(&deliveries)).await?;
    link.close().await
}

/// A route whose messages outlive the receiver.
pub(super) fn lasting(lab: &Lab) -> Checked<Route> {
    lasting_with(lab, |channel| channel)
}

/// The same on a channel with those requirements.
pub(super) fn lasting_with(lab: &Lab, require: impl FnOnce(Channel) -> Channel) -> Checked<Route> {
    let route = lab.route(require);
    match &route.subscription {
        Some(subscription) if subscription.name().is_none() => Err(Stop::Skipped(String::from(
            "nothing outlives its receiver: there are neither queues nor named subscriptions",
        ))),
        Some(_) | None => Ok(route),
    }
}

/// A delay that can be told from none with this broker.
pub(super) fn retry_delay(lab: &Lab) -> Duration {
    lab.timing().quiet * 2
}

/// Ten messages received, every second acknowledged: the route, the ids of the others, the receiver that holds them.
async fn half_acknowledged(lab: &Lab, link: &BareLink) -> Checked<(Route, Vec<String>, BareReceiver)> {
    let route = lasting(lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 10)).await?;
    let mut kept = Vec::new();
    for (n, delivery) in inlet.take(10).await?.iter().enumerate() {
        match n % 2 {
            0 => inlet.ack(delivery).await?,
            _ => kept.push(id(delivery)),
        }
    }
    Ok((route, kept, inlet))
}

/// A new receiver on a new connection gets exactly these ids, once each, and returns them acknowledged.
pub(super) async fn left_is(lab: &Lab, route: &Route, expected: &[String]) -> Checked<Vec<Received>> {
    let link = lab.connect().await?;
    let mut inlet = link.receiver(route.source()).await?;
    let history = History::new();
    for id in expected {
        history.sent("p", &crate::Message::new("").with_id(id.as_str()), None);
    }
    let mut deliveries = Vec::new();
    while deliveries.len() < expected.len() {
        // A missing one is reported by the history, which names it.
        let Ok(delivery) = inlet.next().await else { break };
        deliveries.push(delivery);
    }
    deliveries.extend(inlet.leftovers().await?);
    for delivery in &deliveries {
        if let Ok(message) = &delivery.content {
            history.arrived("the next receiver", "c", message, delivery.attempt);
        }
        inlet.ack(delivery).await?;
    }
    history.exact_copies(&["the next receiver"])?;
    inlet.close().await?;
    link.close().await?;
    Ok(deliveries)
}

pub(super) fn id(delivery: &Received) -> String {
    match &delivery.content {
        Ok(message) => message.id().map(ToString::to_string).unwrap_or_default(),
        Err(_) => String::from("(undecodable)"),
    }
}

pub(super) fn ids(deliveries: &[Received]) -> Vec<String> {
    deliveries.iter().map(id).collect()
}
