//! What is too large, too much, or too late.

use super::History;
use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::{Lab, messages};
use super::publish_subscribe::arrives;
use super::settlement::dead_letters::{dead_letters_of, expect, origin};
use super::settlement::{lasting, lasting_with, left_is};
use crate::adapter::{Capability, Kind, SendOutcome, Support};
use crate::{ErrorKind, Message};
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    check!("limits/measure-counts-every-field", measure_counts_every_field),
    check!("limits/whole-batches", whole_batches),
    check!("limits/no-more-than-asked-for", no_more_than_asked_for),
    check!("limits/bounded", bounded).needs(&[Capability::Bounded]),
    check!("limits/too-large-is-refused", too_large_is_refused),
    check!("limits/prefetch", prefetch),
    check!("limits/prefetch-counts-the-parked", prefetch_counts_the_parked).needs(&[Capability::OrderPerKey]),
    check!("limits/back-pressure", back_pressure).needs(&[Capability::Bounded]),
    check!("limits/expiry", expiry).exercises(&[Capability::Expiry]),
    check!("limits/expired-to-dead-letter", expired_to_dead_letter).needs(&[Capability::DeadLetter]),
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
        ensure!(result.is_ok(), "{:?} of a batch of {most}: {result:?}", message.id());
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
    // What this one holds is not the others' loss: the rest is there for them; once it is settled, where each has a share of the channel.
    let mut first = Some(inlet);
    if let Some(inlet) = first.take_if(|inlet| inlet.capabilities.has(Capability::OrderPerKey)) {
        for delivery in held.drain(..) {
            inlet.ack(&delivery).await?;
        }
        inlet.close().await?;
    }
    let other = lab.connect().await?;
    let mut others = other.receiver(route.source()).await?;
    let rest = others.take(20 - 1 - PREFETCH).await?;
    for delivery in &rest {
        others.ack(delivery).await?;
    }
    if let Some(inlet) = first {
        for delivery in &held {
            inlet.ack(delivery).await?;
        }
        inlet.close().await?;
    }
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
    sent??;
    link.close().await
}

async fn too_large_is_refused(lab: Lab) -> Checked {
    const PRACTICAL: usize = 64 << 20;
    let broker = lab.broker().await?;
    let route = lab.route(|channel| channel);
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let limit = match producer.capabilities().max_message_bytes {
        Some(limit) if limit <= PRACTICAL => limit,
        Some(limit) => {
            return Err(Stop::Skipped(format!("the limit of {limit} bytes is not practical to try")));
        }
        None => return Err(Stop::Skipped(String::from("the channel declares no largest message"))),
    };
    // Not by its payload alone: what else is on the wire counts.
    let large = Message::new(vec![b'x'; limit - 50]).with_id("large").with_header("h", "v".repeat(100));
    let Err(error) = lab.within("the send", producer.send(large.clone())).await? else {
        return Err(Stop::Failed(format!("a message beyond the limit of {limit} bytes was accepted")));
    };
    ensure!(error.kind() == ErrorKind::PayloadTooLarge, "too large says {error:?}");
    ensure!(
        error.outcome() == Some(SendOutcome::NotSent),
        "too large, and the outcome is {:?}",
        error.outcome()
    );
    let text = error.to_string();
    let numbers: Vec<usize> =
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
    let both = numbers.contains(&limit) && numbers.iter().any(|number| *number > limit);
    ensure!(both, "too large does not say how large, and what the limit of {limit} bytes is: {text}");
    let given_back = error.into_message().map(|message| message.body().len());
    ensure!(given_back == Some(limit - 50), "the message is not given back");
    lab.send(&producer, &messages("p", &[], 1)).await?;
    let delivery = lab.next(&mut consumer).await?;
    ensure!(delivery.message().body() == b"p-0", "there came {} bytes", delivery.message().body().len());
    delivery.ack();
    lab.silent(&mut consumer, "the large one was refused").await?;
    lab.close(&broker).await
}

async fn prefetch(lab: Lab) -> Checked {
    const PREFETCH: usize = 5;
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer_of(&broker, route.from(), PREFETCH).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 20)).await?;
    let mut held = Vec::new();
    while held.len() < PREFETCH {
        held.push(lab.next(&mut consumer).await?);
    }
    lab.silent(&mut consumer, "as many are unsettled as may be").await?;
    let unsettled = consumer.status().unsettled;
    ensure!(unsettled <= PREFETCH, "{unsettled} are unsettled, {PREFETCH} may be");
    // What this consumer does not take is there for the others; once it has gone, where each has a share of the channel.
    if consumer.capabilities().has(Capability::OrderPerKey) {
        for delivery in held.drain(..) {
            delivery.ack();
        }
        lab.within("closing the consumer", consumer.close()).await??;
    }
    let others = lab.broker().await?;
    let mut other = lab.consumer(&others, route.from()).await?;
    for _ in PREFETCH..20 {
        lab.next(&mut other).await?.ack();
    }
    for delivery in held {
        delivery.ack();
    }
    lab.close(&others).await?;
    lab.close(&broker).await
}

async fn prefetch_counts_the_parked(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting_with(&lab, |channel| channel.order_per_key())?;
    let mut consumer = lab.consumer_of(&broker, route.from(), 3).await?;
    let producer = lab.producer(&broker, &route).await?;
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    lab.send(&producer, &messages("p", &keys, 8)).await?;
    let parked = lab.next(&mut consumer).await?;
    let (second, third) = (lab.next(&mut consumer).await?, lab.next(&mut consumer).await?);
    // It waits for its retry with its token kept: it is unsettled as long as it does.
    drop(parked.retry(lab.timing().patience * 8));
    lab.silent(&mut consumer, "one is parked and two are out").await?;
    second.ack();
    third.ack();
    let fourth = lab.next(&mut consumer).await?;
    let fifth = lab.next(&mut consumer).await?;
    lab.silent(&mut consumer, "one is parked and two are out").await?;
    let status = consumer.status();
    let (unsettled, waiting) = (status.unsettled, status.parked);
    ensure!(unsettled == 3 && waiting == 1, "{unsettled} are unsettled and {waiting} parked, not 3 and 1");
    fourth.ack();
    fifth.ack();
    lab.close(&broker).await
}

async fn back_pressure(lab: Lab) -> Checked {
    const BOUND: usize = 5;
    let broker = lab.broker().await?;
    let route = lasting_with(&lab, |channel| channel.bounded(BOUND))?;
    // A subscription has to be there to hold anything.
    lab.connect().await?.declare(&route.topology()).await?;
    let history = History::new();
    let impatient = lab
        .within("the producer to open", broker.producer(route.named()).deadline(lab.timing().quiet * 2))
        .await??;
    let all = messages("p", &[], BOUND + 1);
    lab.send_all(&impatient, &history, "p", &all[..BOUND]).await?;
    ensure!(history.accepted() == BOUND, "{} of {BOUND} were accepted", history.accepted());
    match lab.within("the send", impatient.send(all[BOUND].clone())).await? {
        Ok(_) => ensure!(false, "a channel bounded to {BOUND} took {}", BOUND + 1),
        Err(error) => {
            ensure!(error.kind() == ErrorKind::Timeout, "no room says {error:?}");
            ensure!(error.outcome().is_some(), "no room, and no word of what became of the message");
            history.sent("p", &all[BOUND], error.outcome());
        }
    }
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    lab.drain(&mut consumer, &history, "the channel", "c", || history.is_complete(&["the channel"])).await?;
    history.exact_copies(&["the channel"])?;
    lab.send(&impatient, &messages("there is room again", &[], BOUND)).await?;
    lab.close(&broker).await
}

async fn expiry(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    lab.connect().await?.declare(&route.topology()).await?;
    let expected = expiring(&lab, &broker, &route).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let history = History::new();
    for message in &expected {
        history.sent("p", message, None);
    }
    lab.drain(&mut consumer, &history, "the channel", "c", || history.is_complete(&["the channel"])).await?;
    history.exact_copies(&["the channel"])?;
    if consumer.capabilities().support(Capability::Expiry) == Support::Emulated {
        let expired = consumer.status().expired;
        ensure!(expired == 1, "one had expired, {expired} were counted");
    }
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

async fn expired_to_dead_letter(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting_with(&lab, |channel| channel.expired_to_dead_letter())?;
    lab.connect().await?.declare(&route.topology()).await?;
    let expected = expiring(&lab, &broker, &route).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    for _ in &expected {
        lab.next(&mut consumer).await?.ack();
    }
    // The expired one may be the last, and is looked at when it would be handed out.
    lab.silent(&mut consumer, "the rest has expired").await?;
    let mut letters = lab.consumer(&broker, dead_letters_of(&route)).await?;
    let letter = expect(&lab, &mut letters, "expired", 1, &origin(&route)).await?;
    ensure!(letter.message().body() == b"expiring", "the dead letter is {:?}", letter.message());
    letter.ack();
    lab.silent(&mut letters, "one had expired").await?;
    lab.silent(&mut consumer, "all was acknowledged").await?;
    lab.close(&broker).await
}

/// Sends four messages, the second of which expires before this returns, and says which are to arrive.
async fn expiring(lab: &Lab, broker: &crate::Broker, route: &super::lab::Route) -> Checked<Vec<Message>> {
    let now = lab.clock().wall();
    let mut all: Vec<Message> =
        ["first", "expiring", "third", "expires late"].map(|text| Message::new(text).with_id(text)).into();
    let soon = now.after(lab.timing().quiet);
    all[1].set_expires_at(soon);
    all[3].set_expires_at(now.after(Duration::from_secs(3600)));
    let producer = lab.producer(broker, route).await?;
    lab.send(&producer, &all).await?;
    lab.until("the expiry", || lab.clock().wall() > soon).await?;
    all.remove(1);
    Ok(all)
}
