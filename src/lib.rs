//! One Producer/Consumer API, any message broker.
//!
//! An application names its [`Channel`]s, its messages ([`Body`]) and what it requires; [`Config`] says which broker carries which channel; a [`Broker`]
//! opens them. What a broker cannot keep is an error when the channel is opened.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anybroker::Result<()> {
//! use anybroker::{Body, Broker, Channel};
//! use serde::{Deserialize, Serialize};
//!
//! static ORDERS: Channel = Channel::point_to_point("orders");
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { id: u64, dishes: u8 }
//!
//! impl Body for Order { const TYPE: &'static str = "order"; }
//!
//! let broker = Broker::connect("memory://").await?;
//! let mut orders = broker.consumer(&ORDERS).await?;
//! broker.send(&ORDERS, &Order { id: 42, dishes: 2 }).await?;
//!
//! while let Some(delivery) = orders.receive().await? {
//!     match delivery.decode::<Order>() {
//!         Ok(order) => {
//!             println!("order {}: {} dishes", order.id, order.dishes);
//!             delivery.ack()
//!         }
//!         Err(error) => delivery.reject(error.to_string()),
//!     };
//! #     broker.close().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! |---|---|
//! | send | [`Broker::producer`], [`Broker::send`] |
//! | handle messages | [`Service`], [`service`] |
//! | receive and settle yourself | [`Broker::consumer`], [`Delivery`] |
//! | ask and be answered | [`Broker::request`], [`Delivery::reply`] |
//! | read what was rejected | [`Channel::dead_letters`], [`dead_letter`] |
//! | bind channels to brokers | [`config`] |
//! | know how it is doing | [`Broker::status`], [`Consumer::status`] |
//! | run an adapter of your own | [`Builder::adapter`](builder::Builder::adapter), [`adapter`] |
//!
//! What is promised, how it is built, and how to add a broker is in [`docs`]. Everything here runs on a Tokio runtime with time enabled.
//!
//! # Features
//!
//! `json` (default): bodies as JSON. `toml` (default): [`Config`] from TOML. `testing`: services under test, see the module. `conformance`: the suite that adapters have to pass. `full`: all of them.
//! The adapter [`memory`] is always there.

mod adapters;
mod backoff;
mod batch;
mod body;
mod broker;
pub mod builder;
mod clock;
mod closing;
#[cfg(feature = "json")]
mod codec;
#[cfg(not(feature = "json"))]
#[path = "codec_none.rs"]
mod codec;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod consumer;
pub mod dead_letter;
mod delivery;
#[cfg(doc)]
pub mod docs;
mod effective;
mod foreign;
mod id;
mod inlet;
mod link;
mod opening;
mod outlet;
mod producer;
mod replies;
mod request;
pub mod service;
mod spelling;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;

pub use adapter::{Channel, Error, ErrorKind, Message, MessageKey, Result};
pub use batch::Batch;
pub use body::{Body, Command, IntoMessage};
pub use broker::Broker;
pub use config::Config;
pub use consumer::Consumer;
pub use delivery::{Delivery, Settlement};
pub use producer::Producer;
pub use service::{Context, Failure, Service};

/// What belongs to a [`Channel`]: kinds, requirements, subscriptions, and what really holds on it.
pub mod channel {
    pub use crate::adapter::{
        Capabilities, Capability, ChannelKind, DeadLetters, Requirements, Start, Subscription, Support,
    };
}

/// What belongs to a [`Message`]: its fields, and what became of it.
pub mod message {
    pub use crate::adapter::{
        Bytes, HeaderValue, Headers, Kind, Level, MessageId, Receipt, SendOutcome, Text, Timestamp,
    };
}

/// For authors of adapters: the contract, and the clocks.
pub mod adapter {
    pub use crate::clock::{ManualClock, SystemClock};
    pub use anybroker_contract::*;
}

/// The memory adapter, which is always there.
pub mod memory {
    pub use anybroker_memory::*;
}

/// The Kafka adapter.
#[cfg(feature = "kafka")]
pub mod kafka {
    pub use anybroker_kafka::*;
}

/// The RabbitMQ adapter.
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq {
    pub use anybroker_rabbitmq::*;
}

/// The front page, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod readme {}
