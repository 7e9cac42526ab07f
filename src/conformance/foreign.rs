//! What other clients send, and what is broken.

use super::body::{Answer, Ask};
use super::check::{Check, Checked, check, ensure};
use super::fidelity::{intact, intact_or_refused};
use super::lab::{Lab, messages};
use super::settlement::dead_letters::{dead_letters_of, expect, origin};
use super::settlement::{id, lasting, left_is};
use super::{Faults, Hook};
use crate::adapter::Capability;
use crate::{Body, ErrorKind, Message};
use bytes::Bytes;
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    check!("foreign/tombstone", tombstone),
    check!("foreign/empty-is-no-tombstone", empty_is_no_tombstone),
    check!("foreign/without-our-fields", without_our_fields).hooks(&[Hook::Foreign]),
    check!("foreign/undecodable", undecodable).hooks(&[Hook::Undecodable]),
    check!("foreign/undecodable-is-dead-lettered", undecodable_is_dead_lettered)
        .needs(&[Capability::DeadLetter]),
    check!("foreign/undecodable-is-handed-out", undecodable_is_handed_out),
    check!("foreign/wrong-type", wrong_type),
];

async fn tombstone(lab: Lab) -> Checked {
    intact_or_refused(&lab, vec![Message::tombstone("gone").with_id("tombstone")]).await
}

async fn empty_is_no_tombstone(lab: Lab) -> Checked {
    intact(&lab, vec![Message::new(Bytes::new()).with_id("empty").with_key("there")]).await
}

async fn without_our_fields(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lab.route(|channel| channel);
    let (mut outlet, mut inlet) = link.open(&route).await?;
    let payload = Bytes::from_static(b"from a foreign client");
    outlet.send(&messages("before", &[], 1)).await?;
    lab.fixture().send_foreign(&route.binding, payload.clone()).await?;
    outlet.send(&messages("after", &[], 1)).await?;
    let mut foreign = 0;
    for delivery in inlet.take(3).await? {
        let Ok(message) = &delivery.content else {
            return Err(format!("came as undecodable: {:?}", delivery.content).into());
        };
        if message.payload() == Some(&payload) {
            foreign += 1;
            ensure!(message.type_name().is_none(), "made up a type: {message:?}");
            ensure!(message.key().is_none(), "made up a key: {message:?}");
            ensure!(message.reply_to().is_none(), "made up a return address: {message:?}");
        }
        inlet.ack(&delivery).await?;
    }
    ensure!(foreign == 1, "the foreign message came {foreign} times with its payload");
    link.close().await
}

async fn undecodable(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lab.route(|channel| channel);
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("before", &[], 3)).await?;
    let raw = lab.fixture().send_undecodable(&route.binding).await?;
    outlet.send(&messages("after", &[], 3)).await?;
    let mut broken = 0;
    let mut intact = Vec::new();
    for delivery in inlet.take(7).await? {
        match &delivery.content {
            Ok(_) => intact.push(id(&delivery)),
            Err(undecodable) => {
                broken += 1;
                ensure!(undecodable.raw == raw, "the raw bytes differ: {:?}", undecodable.raw);
            }
        }
        inlet.ack(&delivery).await?;
    }
    ensure!(broken == 1, "the broken record came {broken} times as undecodable");
    intact.sort();
    let expected = ["after-0", "after-1", "after-2", "before-0", "before-1", "before-2"];
    ensure!(intact == expected, "its neighbours: {intact:?}");
    inlet.silent("the broken record was acknowledged").await?;
    link.close().await
}

async fn undecodable_is_dead_lettered(lab: Lab) -> Checked {
    let faults = Faults::new();
    faults.garble("p-1");
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 4)).await?;
    let mut intact = Vec::new();
    for _ in 0..3 {
        let delivery = lab.next(&mut consumer).await?;
        ensure!(delivery.undecodable().is_none(), "handed out, though there is a dead-letter channel");
        intact.extend(delivery.message().id().map(ToString::to_string));
        delivery.ack();
    }
    intact.sort();
    ensure!(intact == ["p-0", "p-2", "p-3"], "the neighbours of the broken record: {intact:?}");
    let mut letters = lab.consumer(&broker, dead_letters_of(&route)).await?;
    let letter = expect(&lab, &mut letters, "undecodable", 1, &origin(&route)).await?;
    ensure!(letter.message().body() == b"p-1", "the raw bytes differ: {:?}", letter.message());
    letter.ack();
    lab.silent(&mut letters, "one was broken").await?;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

async fn undecodable_is_handed_out(lab: Lab) -> Checked {
    let faults = Faults::new();
    faults.garble("p-1");
    faults.without(Capability::DeadLetter);
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 4)).await?;
    let mut broken = 0;
    for _ in 0..4 {
        let delivery = lab.next(&mut consumer).await?;
        if let Some(error) = delivery.undecodable() {
            broken += 1;
            ensure!(error.kind() == ErrorKind::InvalidMessage, "undecodable, it says {error:?}");
            ensure!(delivery.message().body() == b"p-1", "the raw bytes differ: {:?}", delivery.message());
            ensure!(delivery.decode::<Ask>().is_err(), "it was decoded all the same");
        }
        lab.within("settling", delivery.ack()).await??;
    }
    ensure!(broken == 1, "the broken record came {broken} times as undecodable");
    lab.silent(&mut consumer, "all was acknowledged").await?;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

async fn wrong_type(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let sending = lab.within("the send", broker.send(route.named(), &Ask(7)));
    sending.await??;
    let delivery = lab.next(&mut consumer).await?;
    match delivery.decode::<Answer>() {
        Ok(_) => ensure!(false, "a `{}` was decoded as a `{}`", Ask::TYPE, Answer::TYPE),
        Err(error) => ensure!(error.kind() == ErrorKind::InvalidMessage, "a wrong type says {error:?}"),
    }
    // The delivery is usable still: it is read as what it is, tried again, and acknowledged.
    ensure!(delivery.decode::<Ask>()? == Ask(7), "the body differs");
    delivery.retry(Duration::ZERO);
    let again = lab.next(&mut consumer).await?;
    ensure!(again.decode::<Ask>()? == Ask(7), "the body differs");
    lab.within("settling", again.ack()).await??;
    lab.silent(&mut consumer, "it was acknowledged").await?;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}
