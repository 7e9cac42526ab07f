//! What belongs to a scope goes with it: the next owner gets it, in order, and the old one can do nothing about it any more.

use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::{Lab, Route, messages};
use super::settlement::lasting_with;
use super::{Faults, History};
use crate::adapter::Capability;
use crate::{Broker, Consumer, Delivery, ErrorKind};
use std::time::Duration;

const NEEDS: &[Capability] = &[Capability::OrderPerKey];
const KEYS: &[&str] = &["a", "b", "c"];

pub(super) const CHECKS: &[Check] = &[
    check!("scopes/revoked-while-handlers-run", revoked_while_handlers_run).needs(NEEDS),
    check!("scopes/lost-while-held", lost_while_held).needs(NEEDS),
    check!("scopes/revocation-that-runs-out", revocation_that_runs_out).needs(NEEDS),
];

async fn revoked_while_handlers_run(lab: Lab) -> Checked {
    let mut old = Owner::of_three(&lab).await?;
    old.faults.revoke_scopes(lab.timing().patience);
    lab.silent(&mut old.consumer, "its scopes are being revoked").await?;
    // The handlers end in time: what they settle counts.
    for delivery in old.held.drain(..) {
        old.history.arrived(HERE, "the old owner", delivery.message(), None);
        lab.within("settling what is revoked", delivery.ack()).await??;
    }
    old.succeed(&lab).await
}

async fn lost_while_held(lab: Lab) -> Checked {
    let mut old = Owner::of_three(&lab).await?;
    // One is parked: its time comes after the loss.
    let parked = old.held.remove(0);
    drop(parked.retry(lab.timing().quiet / 2));
    let lost: Vec<_> = old.held.iter().map(Delivery::lost).collect();
    old.faults.lose_scopes();
    for lost in lost {
        lab.within("a held delivery to be lost", lost).await?;
    }
    old.settles_nothing(&lab).await?;
    lab.silent(&mut old.consumer, "its scopes are lost, the parked delivery with them").await?;
    old.succeed(&lab).await
}

async fn revocation_that_runs_out(lab: Lab) -> Checked {
    let mut old = Owner::of_three(&lab).await?;
    let lost: Vec<_> = old.held.iter().map(Delivery::lost).collect();
    old.faults.revoke_scopes(Duration::from_millis(50));
    for lost in lost {
        lab.within("a held delivery to be lost", lost).await?;
    }
    old.settles_nothing(&lab).await?;
    lab.silent(&mut old.consumer, "its scopes are lost").await?;
    old.succeed(&lab).await
}

const HERE: &str = "the channel";

/// A consumer that holds the first message of each of three keys, and has more of each behind it.
struct Owner {
    faults: Faults,
    route: Route,
    broker: Broker,
    consumer: Consumer,
    held: Vec<Delivery>,
    history: History,
}

impl Owner {
    async fn of_three(lab: &Lab) -> Checked<Self> {
        let route = lasting_with(lab, |channel| channel.order_per_key())?;
        let faults = Faults::new();
        let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
        let mut consumer = lab.consumer(&broker, route.from()).await?;
        let history = History::new();
        let others = lab.broker().await?;
        let producer = lab.producer(&others, &route).await?;
        lab.send_all(&producer, &history, "p", &messages("p", KEYS, 24)).await?;
        lab.close(&others).await?;
        let mut held = Vec::new();
        for _ in KEYS {
            held.push(lab.next(&mut consumer).await?);
        }
        lab.silent(&mut consumer, "one of each key is out").await?;
        Ok(Self { faults, route, broker, consumer, held, history })
    }

    /// No delivery that is lost can be settled, in any way.
    async fn settles_nothing(&mut self, lab: &Lab) -> Checked {
        for (n, delivery) in self.held.drain(..).enumerate() {
            ensure!(delivery.is_lost(), "{:?} does not know that it is lost", delivery.message().id());
            let settlement = match n % 2 {
                0 => delivery.ack(),
                _ => delivery.retry(Duration::ZERO),
            };
            match lab.within("settling what is lost", settlement).await? {
                Ok(()) => return Err(Stop::Failed(String::from("a lost delivery was settled"))),
                Err(error) => {
                    ensure!(error.kind() == ErrorKind::LeaseLost, "settling a lost delivery says {error:?}")
                }
            }
        }
        Ok(())
    }

    /// The next owner gets what the old one has not handled, once and in order.
    async fn succeed(self, lab: &Lab) -> Checked {
        let next = lab.broker().await?;
        let mut consumer = lab.consumer(&next, self.route.from()).await?;
        let done = || self.history.is_complete(&[HERE]);
        lab.drain(&mut consumer, &self.history, HERE, "the next owner", done).await?;
        self.history.exact_copies(&[HERE])?;
        self.history.order_per_key()?;
        lab.close(&self.broker).await?;
        lab.close(&next).await
    }
}
