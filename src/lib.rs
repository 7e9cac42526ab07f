//! One Producer/Consumer API, any message broker.

mod adapters;
mod backoff;
mod body;
mod broker;
mod builder;
mod clock;
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
mod spelling;
mod status;

pub use adapter::{Channel, Error, ErrorKind, Message, MessageKey, Result};
pub use body::{Body, Command, IntoMessage};
pub use broker::{Broker, Closed};
pub use builder::Builder;
pub use config::Config;
pub use consumer::{Consumer, From};
pub use delivery::{Delivery, Settlement};
pub use inlet::ConsumerStatus;
pub use opening::{OpenConsumer, OpenProducer};
pub use producer::Producer;
pub use request::Request;
pub use status::{BrokerStatus, State, Status};

/// For authors of adapters: the contract, and the clocks.
pub mod adapter {
    pub use crate::clock::{ManualClock, SystemClock};
    pub use anybroker_contract::*;
}

/// The memory adapter, which is always there.
pub mod memory {
    pub use anybroker_memory::*;
}
