//! Opening and closing what users hold.

use super::{closed, not_found};
use crate::adapter::Declare;
use crate::config;
use crate::conformance::History;
use crate::conformance::check::{Checked, Stop, ensure};
use crate::conformance::lab::{Lab, messages};
use crate::conformance::settlement::{lasting, left_is};
use crate::{Config, Consumer, Delivery, Message, Result};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

pub(super) async fn receive_is_cancel_safe(lab: Lab) -> Checked {
    const COUNT: usize = 60;
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer_of(&broker, route.from(), 4).await?;
    let producer = lab.producer(&broker, &route).await?;
    let history = History::new();
    let on = route.named().name();
    let all = messages("p", &[], COUNT);
    let mut sending = pin!(lab.send_all(&producer, &history, "p", &all));
    let mut sent = false;
    let mut cancelled = 0;
    let clock = lab.clock();
    let deadline = clock.now() + lab.timing().patience;
    while !(sent && history.is_complete(&[on])) && clock.now() < deadline {
        if !sent {
            sent = once(sending.as_mut()).await.transpose()?.is_some();
        }
        // Polled once and dropped, again and again.
        match polled_once(&mut consumer).await {
            Some(received) => {
                let Some(delivery) = received? else {
                    return Err(Stop::Failed(String::from("the consumer ended by itself")));
                };
                history.arrived(on, "c", delivery.message(), Some(delivery.attempt()));
                delivery.ack();
            }
            None => {
                cancelled += 1;
                lab.pause(std::time::Duration::from_micros(200)).await;
            }
        }
    }
    ensure!(cancelled > 0, "no receive was cancelled");
    ensure!(history.accepted() == COUNT, "{} of {COUNT} sends were accepted", history.accepted());
    history.exact_copies(&[on])?;
    lab.silent(&mut consumer, "all was acknowledged").await?;
    lab.close(&broker).await
}

pub(super) async fn close_flushes(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 4)).await?;
    // Acknowledged and not awaited, held, and queued; sent and not awaited.
    let acknowledged = lab.next(&mut consumer).await?;
    let done = acknowledged.message().id().map(ToString::to_string);
    acknowledged.ack();
    let held = lab.next(&mut consumer).await?;
    let last = Message::new("last").with_id("last");
    let unawaited = once(pin!(producer.send(last))).await;
    if let Some(Err(error)) = unawaited {
        return Err(error.into());
    }
    let closed = lab.within("the broker's close", broker.close()).await??;
    // One was in the application's hands; the others, and the one sent last, as far as they had been fetched.
    let given_back = closed.given_back;
    ensure!((1..=4).contains(&given_back), "at least one was held at close, {given_back} were given back");
    ensure!(closed.unsent == 0, "{} sends were left behind", closed.unsent);
    drop(held);
    let mut left = Vec::from(["p-0", "p-1", "p-2", "p-3", "last"].map(String::from));
    left.retain(|id| Some(id) != done.as_ref());
    left_is(&lab, &route, &left).await.map(drop)
}

pub(super) async fn use_after_broker_close(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 1)).await?;
    lab.next(&mut consumer).await?.ack();
    let first = lab.within("the broker's close", broker.close()).await??;
    let again = lab.within("the broker's second close", broker.clone().close()).await??;
    ensure!(first == again, "closing gives {first:?}, and then {again:?}");
    ensure!(
        lab.within("receive after close", consumer.receive()).await??.is_none(),
        "a delivery came after close"
    );
    closed("send", lab.within("send after close", producer.send(Message::new(""))).await?)?;
    closed("send", lab.within("send after close", broker.send(route.named(), Message::new(""))).await?)?;
    closed("producer", lab.within("opening after close", broker.producer(route.named())).await?)?;
    closed("consumer", lab.within("opening after close", broker.consumer(route.from())).await?)?;
    closed("health", lab.within("health after close", broker.health()).await?)?;
    left_is(&lab, &route, &[]).await.map(drop)
}

pub(super) async fn never_declared_is_not_found(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let never = config::Channel::new().declare(Declare::Never);
    let config = Config::new().channel(route.named().name(), never);
    let broker = lab.broker_with(config, lab.fixture().adapter().await?).await?;
    for _ in 0..2 {
        let sent = lab.within("the send", broker.send(route.named(), Message::new(""))).await?;
        not_found("send", sent)?;
        let opened = lab.within("the consumer to open", broker.consumer(route.from())).await?;
        not_found("consumer", opened)?;
    }
    // Somebody else makes it: then it is there.
    lab.connect().await?.declare(&route.topology()).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let sent = lab.within("the send", broker.send(route.named(), Message::new(""))).await?;
    sent?;
    lab.next(&mut consumer).await?.ack();
    lab.close(&broker).await
}

async fn polled_once(consumer: &mut Consumer) -> Option<Result<Option<Delivery>>> {
    once(pin!(consumer.receive())).await
}

/// What a future gives when it is polled once.
async fn once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
