//! A delivery belongs to its receiver for the time of its lease, and no longer.

use super::{id, lasting};
use crate::ErrorKind;
use crate::adapter::{Capability, Outcome};
use crate::conformance::check::{Checked, Stop, ensure};
use crate::conformance::lab::{Lab, messages};
use std::time::Duration;

/// A short lease, and yet longer than a broker takes to answer.
fn lease(lab: &Lab) -> Duration {
    lab.timing().quiet * 2
}

pub(super) async fn lost_lease_is_an_error(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.link(lab.fixture().leased(lease(&lab)).await?);
    let (mut outlet, mut first) = link.open(&route).await?;
    let other = lab.link(lab.fixture().leased(lease(&lab)).await?);
    outlet.send(&messages("p", &[], 2)).await?;
    let held = first.take(2).await?;
    let Some(expires) = held[0].lease().map(|lease| lease.expires) else {
        return Err(Stop::Failed(String::from("a delivery of a leasing adapter has no lease")));
    };
    let clock = lab.clock();
    ensure!(expires > clock.now(), "the lease ended before the delivery came");
    // Nobody extends it: the next receiver gets both.
    first.stop().await?;
    let mut second = other.receiver(route.source()).await?;
    let mut again = second.take(2).await?;
    ensure!(clock.now() >= expires, "it went to the next receiver before its lease had ended");
    for delivery in &held {
        match first.try_settle(&delivery.token, Outcome::Ack).await? {
            Ok(()) => ensure!(false, "{} was settled after its lease had ended", id(delivery)),
            Err(error) => ensure!(
                error.kind() == ErrorKind::LeaseLost,
                "settling after the lease has ended says {error:?}"
            ),
        }
    }
    while let Some(delivery) = again.pop() {
        second.ack(&delivery).await?;
    }
    link.close().await?;
    other.close().await
}

pub(super) async fn extended_lease_lasts(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let adapter = lab.fixture().leased(lease(&lab)).await?;
    if !adapter.capabilities().has(Capability::LeaseExtension) {
        return Err(Stop::Skipped(String::from("the adapter does not declare `lease-extension`")));
    }
    let broker = lab.broker_over(adapter).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 4)).await?;
    // Two are in the handler's hands, two wait behind it, all for several leases.
    let held = [lab.next(&mut consumer).await?, lab.next(&mut consumer).await?];
    let others = lab.broker_over(lab.fixture().leased(lease(&lab)).await?).await?;
    let mut other = lab.consumer(&others, route.from()).await?;
    for _ in 0..6 {
        lab.silent(&mut other, "the leases are extended").await?;
    }
    for delivery in held {
        ensure!(!delivery.is_lost(), "{:?} was lost while it was held", delivery.message().id());
        lab.within("settling after several leases", delivery.ack()).await??;
    }
    for _ in 0..2 {
        lab.within("settling after several leases", lab.next(&mut consumer).await?.ack()).await??;
    }
    lab.silent(&mut other, "all was acknowledged").await?;
    lab.close(&broker).await?;
    lab.close(&others).await
}
