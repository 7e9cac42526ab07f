//! A broker on the hostile adapter, and how a test waits.

use crate::adapter::Hostile;
use crate::script::{Plan, Script, body};
use anybroker::adapter::{Clock, Level, ManualClock, Received, SystemClock, Timestamp, Token};
use anybroker::builder::Builder;
use anybroker::message::{Bytes, Receipt};
use anybroker::{
    Body, Broker, Channel, Command, Consumer, Delivery, Error, ErrorKind, Message, Producer, Result,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

pub(crate) static ORDERS: Channel = Channel::point_to_point("orders").order_per_key();
pub(crate) static PLAIN: Channel = Channel::point_to_point("plain");

/// Of sends, of closing and of opening, unless a test says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const MOMENT: Duration = Duration::from_millis(1);

pub(crate) struct Bench {
    pub(crate) broker: Broker,
    pub(crate) script: Script,
    pub(crate) clock: ManualClock,
}

impl Bench {
    pub(crate) async fn open(plan: impl FnOnce(&mut Plan)) -> Self {
        let (builder, script, clock) = prepare(plan);
        Self { broker: builder.open().await.unwrap(), script, clock }
    }

    /// For a client that does not even open.
    pub(crate) fn lazy(plan: impl FnOnce(&mut Plan)) -> Self {
        let (builder, script, clock) = prepare(plan);
        Self { broker: builder.open_lazy().unwrap(), script, clock }
    }

    pub(crate) async fn producer(&self, channel: &Channel) -> Producer {
        self.broker.producer(channel).await.unwrap()
    }

    pub(crate) async fn consumer(&self, channel: &Channel) -> Consumer {
        self.broker.consumer(channel).await.unwrap()
    }

    pub(crate) fn feed(&self, number: u64, key: &str) {
        self.script.feed(parcel(number, key));
    }

    /// Waits until the client has seen that.
    pub(crate) async fn until(&self, seen: impl Fn(&Plan) -> bool + Send + Sync) {
        until(|| seen(&self.script.plan())).await;
    }

    /// Moves time on, and gives everybody a turn.
    pub(crate) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        turns().await;
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.script.plan().log.clone()
    }
}

fn prepare(plan: impl FnOnce(&mut Plan)) -> (Builder, Script, ManualClock) {
    let script = Script::default();
    plan(&mut script.plan());
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let builder = Broker::builder()
        .adapter("main", Arc::new(Hostile(script.clone())))
        .clock(Arc::new(clock.clone()))
        .send_deadline(DEADLINE)
        .close_deadline(DEADLINE)
        .open_deadline(DEADLINE);
    (builder, script, clock)
}

/// What the client receives: a message with its number as its body and as its token.
pub(crate) fn parcel(number: u64, key: &str) -> Received {
    Received::new(message(key, &number.to_string()), Token::number(number)).with_attempt(1)
}

pub(crate) fn message(key: &str, body: &str) -> Message {
    Message::new(body.to_owned()).with_key(key)
}

pub(crate) fn accepted() -> Result<Receipt> {
    Ok(Receipt::new(Level::Broker))
}

/// Begins to send, and gives the message time to get on its way.
pub(crate) async fn begin(producer: &Producer, key: &str, body: &str) -> JoinHandle<Result<Receipt>> {
    let (producer, message) = (producer.clone(), message(key, body));
    let sending = tokio::spawn(async move { producer.send(message).await });
    turns().await;
    sending
}

/// How a send ended, which it must have done by now; with the message, which must have come back.
pub(crate) async fn failed(sending: JoinHandle<Result<Receipt>>) -> (Error, String) {
    turns().await;
    assert!(sending.is_finished(), "the send has not ended");
    let error = sending.await.unwrap().expect_err("the send fails");
    match error.message().map(body) {
        Some(body) => (error, body),
        None => panic!("the message does not come back: {error:?}"),
    }
}

pub(crate) async fn next(consumer: &mut Consumer, number: u64) -> Delivery {
    let delivery = ends(consumer.receive()).await.unwrap().expect("the consumer is open");
    assert_eq!(body(delivery.message()), number.to_string());
    delivery
}

/// Nothing comes, however often everybody gets a turn.
pub(crate) async fn nothing(consumer: &mut Consumer) {
    tokio::select! {
        biased;
        received = consumer.receive() => {
            let delivery = received.unwrap().expect("the consumer is open");
            panic!("{} is not expected", body(delivery.message()))
        }
        () = turns() => {}
    }
}

/// Gives everybody so many turns that what can happen has happened.
pub(crate) async fn turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Waits for that, but not for ever.
pub(crate) async fn until(condition: impl Fn() -> bool + Send + Sync) {
    ends(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The end of what must end by itself, whatever the test's own time.
pub(crate) async fn ends<F: IntoFuture>(future: F) -> F::Output {
    let clock = SystemClock::new();
    tokio::select! {
        // First, so that it does not wake what nobody else has woken.
        biased;
        () = clock.sleep_until(clock.now() + Duration::from_secs(5)) => panic!("it does not end"),
        output = future.into_future() => output,
    }
}

pub(crate) fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("it fails").kind()
}

/// A question and its answer, which nobody gives.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask;

impl Body for Ask {
    const TYPE: &'static str = "ask";

    fn encode(&self) -> Result<Bytes> {
        Ok(Bytes::new())
    }

    fn decode(_: &[u8]) -> Result<Self> {
        Ok(Self)
    }
}

impl Command for Ask {
    type Reply = Self;
}
