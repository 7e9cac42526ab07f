//! What is too large, too much, or too late.

use super::check::{Check, Checked, check, ensure};
use super::lab::{Lab, messages};
use super::publish_subscribe::arrives;
use super::settlement::{lasting_with, left_is};
use crate::Message;
use crate::adapter::{Capability, Kind};
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    check!("limits/measure-counts-every-field", measure_counts_every_field),
    check!("limits/whole-batches", whole_batches),
    check!("limits/no-more-than-asked-for", no_more_than_asked_for),
    check!("limits/bounded", bounded).needs(&[Capability::Bounded]),
];

async fn measure_counts_every_field(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (outlet, _inlet) = link.open(&lab.route(|channel| channel)).await?;
    let bare = Message::new("body").with_id("i").with_key("k");
    let least = outlet.sender.measure(&bare)?;
    ensure!(least >= bare.size(), "{least} bytes for a message of {}", bare.size());
    let long = "x".repeat(1000);
    let longer = [
        ("payload", Message::new(long.clone()).with_id("i").with_key("k")),
        ("type", bare.clone().with_type(long.as_str())),
        ("correlation id", bare.clone().with_correlation_id(long.as_str())),
        ("reply-to", bare.clone().with_reply_to(long.as_str())),
        ("header", bare.clone().with_header("h", long.as_str())),
        ("kind and headers", bare.with_kind(Kind::Event).with_header(long.as_str(), None)),
    ];
    for (field, message) in longer {
        // A field that is too long for the broker may be refused here already.
        let Ok(size) = outlet.sender.measure(&message) else { continue };
        ensure!(size >= least + 900, "1000 bytes of {field} add {} to the size", size - least);
    }
    link.close().await
}

async fn whole_batches(lab: Lab) -> Checked {
    const LARGE: usize = 500;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&lab.route(|channel| channel)).await?;
    let most = outlet.capabilities.max_batch_messages.unwrap_or(LARGE).clamp(1, LARGE);
    let batch = messages("p", &["a", "b", "c"], most);
    let confirm = lab.within("send_batch", outlet.sender.send_batch(&batch)).await??;
    let confirmed = lab.within("the confirm of a batch", confirm).await?;
    for (result, message) in confirmed.into_results(most).into_iter().zip(&batch) {
        ensure!(result.is_ok(), "{:?} of a batch of {most}: {result:?}", message.id);
    }
    arrives(&mut inlet, &batch).await?;
    link.close().await
}

async fn no_more_than_asked_for(lab: Lab) -> Checked {
    const PREFETCH: usize = 4;
    let link = lab.connect().await?;
    let route = lasting_with(&lab, |channel| channel)?;
    link.declare(&route.topology()).await?;
    let mut outlet = link.sender(route.target()).await?;
    let mut inlet = link.receiver_of(route.source(), PREFETCH).await?;
    outlet.send(&messages("p", &[], 20)).await?;
    let mut held = inlet.take(PREFETCH).await?;
    inlet.silent("as many are unsettled as may be").await?;
    inlet.ack(&held.remove(0)).await?;
    held.push(inlet.next().await?);
    inlet.silent("as many are unsettled as may be").await?;
    // What this one holds is not the others' loss: the rest is there for them.
    let other = lab.connect().await?;
    let mut others = other.receiver(route.source()).await?;
    let rest = others.take(20 - 1 - PREFETCH).await?;
    for delivery in &held {
        inlet.ack(delivery).await?;
    }
    for delivery in &rest {
        others.ack(delivery).await?;
    }
    inlet.close().await?;
    others.close().await?;
    other.close().await?;
    left_is(&lab, &route, &[]).await?;
    link.close().await
}

async fn bounded(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting_with(&lab, |channel| channel.bounded(5))?;
    link.declare(&route.topology()).await?;
    let mut outlet = link.sender(route.target()).await?;
    let all = messages("p", &[], 12);
    outlet.send(&all[..5]).await?;
    let mut sending = tokio::spawn(async move {
        for message in &messages("p", &[], 12)[5..] {
            outlet.send(std::slice::from_ref(message)).await?;
        }
        outlet.close().await
    });
    lab.quiet().await;
    ensure!(!sending.is_finished(), "a channel bounded to 5 took 12 messages, or refused one");
    let mut inlet = link.receiver(route.source()).await?;
    arrives(&mut inlet, &all).await?;
    let sent = lab.within("the waiting sends", &mut sending).await?;
    sent.map_err(|e| format!("the sending task broke: {e}"))??;
    link.close().await
}
