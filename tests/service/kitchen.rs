//! What the tests share: orders, and a log of what handlers did.

use anybroker::service::{Policy, Running};
use anybroker::{Body, Broker, Channel, Command, Consumer, Delivery, Message, MessageKey, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) static ORDERS: Channel = Channel::point_to_point("orders");
pub(crate) static ORDERED: Channel = Channel::point_to_point("ordered").order_per_key();
pub(crate) static EVENTS: Channel = Channel::publish_subscribe("events");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) customer: String,
}

impl Body for Order {
    const TYPE: &'static str = "order";
    fn key(&self) -> Option<MessageKey> {
        Some(self.customer.as_str().into())
    }
}

impl Command for Order {
    type Reply = Served;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) id: u64,
}

impl Body for Served {
    const TYPE: &'static str = "served";
}

pub(crate) fn order(id: u64, customer: &str) -> Order {
    Order { id, customer: customer.into() }
}

/// What a handler gives that answers nothing.
pub(crate) type Outcome = std::result::Result<(), anybroker::Failure>;

/// What handlers wrote down, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, what: impl Display) {
        self.0.lock().unwrap().push(what.to_string());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) async fn reaches(&self, lines: usize) -> Vec<String> {
        until(|| self.lines().len() >= lines).await;
        self.lines()
    }
}

/// Retries without long waits.
pub(crate) fn quick() -> Policy {
    Policy::new().backoff(Duration::from_millis(1), Duration::from_millis(4))
}

pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("it never came to that");
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    let received = tokio::time::timeout(Duration::from_secs(30), consumer.receive()).await;
    received.expect("nothing came").expect("no error").expect("open")
}

/// The next dead letter of the channel: the message, its reason and its attempts.
pub(crate) async fn dead_letter(broker: &Broker, channel: &Channel) -> Result<(Message, String, String)> {
    let mut dead = broker.consumer(channel.dead_letters()).await?;
    let delivery = next(&mut dead).await;
    let message = delivery.message().clone();
    let text = |name| message.headers().text(name).unwrap_or_default().to_owned();
    let (reason, attempts) = (text(anybroker::dead_letter::REASON), text(anybroker::dead_letter::ATTEMPTS));
    delivery.ack().await?;
    dead.close().await?;
    Ok((message, reason, attempts))
}

/// How many were handled, failed, rejected and ignored, all channels together.
pub(crate) fn counts(running: &Running) -> [u64; 4] {
    running.status().iter().fold([0; 4], |sum, one| {
        [sum[0] + one.handled, sum[1] + one.failed, sum[2] + one.rejected, sum[3] + one.ignored]
    })
}
