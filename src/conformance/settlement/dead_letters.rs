//! What is rejected, or fails once too often, is in the dead-letter channel: once, with the reason.

use super::{lasting, lasting_with, left_is};
use crate::adapter::{Capability, Timestamp};
use crate::builder::ReceiveFrom;
use crate::conformance::Faults;
use crate::conformance::check::{Checked, ensure};
use crate::conformance::fidelity::same;
use crate::conformance::lab::{Lab, Route, messages};
use crate::{Consumer, Delivery, ErrorKind, Message, dead_letter};
use std::time::Duration;

pub(super) async fn reject_dead_letters_once(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting_with(&lab, |channel| channel.dead_letter_after(5))?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let mut bad = Message::new(&b"\x00bad\xff"[..])
        .with_id("bad")
        .with_key("k")
        .with_type("order")
        .with_correlation_id("c")
        .with_content_type("text/plain")
        .with_header("h", "1")
        .with_header("h", "2");
    bad.set_time(Timestamp::from_millis(1_700_000_000_123));
    lab.send(&producer, &[Message::new("").with_id("good"), bad.clone()]).await?;
    // Both before either is settled: the one that is retried may come again at once.
    for delivery in [lab.next(&mut consumer).await?, lab.next(&mut consumer).await?] {
        match delivery.message().id() == bad.id() {
            false => drop(delivery.ack()),
            // Its second attempt, so that the count is seen.
            true => drop(delivery.retry(Duration::ZERO)),
        }
    }
    let again = lab.next(&mut consumer).await?;
    lab.within("the reject", again.reject("no dishes")).await??;
    lab.silent(&mut consumer, "one is acknowledged and one rejected").await?;
    let mut letters = lab.consumer(&broker, dead_letters_of(&route)).await?;
    let letter = expect(&lab, &mut letters, "no dishes", 2, &origin(&route)).await?;
    let mut copy = letter.message().clone();
    for name in [dead_letter::REASON, dead_letter::ATTEMPTS, dead_letter::ORIGIN] {
        copy.headers_mut().remove(name);
    }
    same(&bad, &copy)?;
    letter.ack();
    lab.silent(&mut letters, "one was rejected").await?;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

pub(super) async fn reject_without_dead_letters(lab: Lab) -> Checked {
    let faults = Faults::new();
    faults.without(Capability::DeadLetter);
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 1)).await?;
    match lab.within("the reject", lab.next(&mut consumer).await?.reject("bad")).await? {
        Ok(()) => ensure!(false, "rejected, and there is no dead-letter channel to hold it"),
        Err(error) => {
            ensure!(error.kind() == ErrorKind::Unsupported, "no dead-letter channel says {error:?}")
        }
    }
    // It is not lost for that.
    let again = lab.next(&mut consumer).await?;
    ensure!(again.attempt() == 2, "the second attempt came as attempt {}", again.attempt());
    lab.within("settling", again.ack()).await??;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

pub(super) async fn last_attempt_dead_letters(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting_with(&lab, |channel| channel.dead_letter_after(3))?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 2)).await?;
    let mut letters = lab.consumer(&broker, dead_letters_of(&route)).await?;
    for n in 0..6 {
        let delivery = lab.next(&mut consumer).await?;
        let attempt = delivery.attempt();
        ensure!(attempt <= 3, "attempt {attempt} of {:?}", delivery.message().id());
        match n % 2 {
            // A retry and a dropped delivery are failures alike.
            0 => drop(delivery),
            _ => drop(delivery.retry(Duration::ZERO)),
        }
    }
    lab.silent(&mut consumer, "all have had their attempts").await?;
    let mut dead = Vec::new();
    for _ in 0..2 {
        let letter = expect(&lab, &mut letters, "attempts exhausted", 3, &origin(&route)).await?;
        dead.extend(letter.message().id().map(ToString::to_string));
        letter.ack();
    }
    dead.sort();
    ensure!(dead == ["p-0", "p-1"], "dead letters: {dead:?}");
    lab.silent(&mut letters, "each is a dead letter once").await?;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

pub(super) async fn of_a_subscription(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let channel = lab.publish_subscribe().dead_letter_after(5);
    let [kitchen, billing] =
        ["kitchen", "billing"].map(|name| Route::subscription(channel.subscription(name)));
    let mut in_kitchen = lab.consumer(&broker, kitchen.from()).await?;
    let mut in_billing = lab.consumer(&broker, billing.from()).await?;
    let producer = lab.producer(&broker, &kitchen).await?;
    lab.send(&producer, &messages("p", &[], 1)).await?;
    let delivery = lab.next(&mut in_kitchen).await?;
    lab.within("the reject", delivery.reject("burnt")).await??;
    // The other subscription has its own copy, and no dead letter.
    lab.next(&mut in_billing).await?.ack();
    let mut of_kitchen = lab.consumer(&broker, dead_letters_of(&kitchen)).await?;
    let mut of_billing = lab.consumer(&broker, dead_letters_of(&billing)).await?;
    expect(&lab, &mut of_kitchen, "burnt", 1, &origin(&kitchen)).await?.ack();
    lab.silent(&mut of_kitchen, "one was rejected").await?;
    lab.silent(&mut of_billing, "nothing was rejected here").await?;
    lab.silent(&mut in_billing, "it was acknowledged").await?;
    lab.close(&broker).await
}

/// The next dead letter, which has to say so.
pub(in crate::conformance) async fn expect(
    lab: &Lab,
    letters: &mut Consumer,
    reason: &str,
    attempts: u32,
    origin: &str,
) -> Checked<Delivery> {
    let letter = lab.next(letters).await?;
    let headers = &letter.message().headers();
    for (name, expected) in [
        (dead_letter::REASON, reason),
        (dead_letter::ATTEMPTS, &attempts.to_string()),
        (dead_letter::ORIGIN, origin),
    ] {
        let says = headers.text(name).unwrap_or_default();
        ensure!(
            says == expected || (name == dead_letter::REASON && says.starts_with(&format!("{reason}:"))),
            "the dead letter's `{name}` is {says:?}, not {expected:?}"
        );
    }
    Ok(letter)
}

pub(in crate::conformance) fn dead_letters_of(route: &Route) -> ReceiveFrom {
    match &route.subscription {
        Some(subscription) => subscription.dead_letters().into(),
        None => route.named().dead_letters().into(),
    }
}

/// What a dead letter says of where it comes from.
pub(in crate::conformance) fn origin(route: &Route) -> String {
    let channel = route.named().name();
    match route.subscription.as_ref().and_then(crate::adapter::Subscription::name) {
        Some(name) => format!("{channel}/{name}"),
        None => channel.to_owned(),
    }
}
