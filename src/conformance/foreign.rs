//! What other clients send, and what is broken.

use super::Hook;
use super::check::{Check, Checked, check, ensure};
use super::fidelity::{intact, intact_or_refused};
use super::lab::{Lab, messages};
use super::settlement::id;
use crate::Message;
use bytes::Bytes;

pub(super) const CHECKS: &[Check] = &[
    check!("foreign/tombstone", tombstone),
    check!("foreign/empty-is-no-tombstone", empty_is_no_tombstone),
    check!("foreign/without-our-fields", without_our_fields).hooks(&[Hook::Foreign]),
    check!("foreign/undecodable", undecodable).hooks(&[Hook::Undecodable]),
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
        if message.payload.as_ref() == Some(&payload) {
            foreign += 1;
            ensure!(message.type_name.is_none(), "made up a type: {message:?}");
            ensure!(message.key.is_none(), "made up a key: {message:?}");
            ensure!(message.reply_to.is_none(), "made up a return address: {message:?}");
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
