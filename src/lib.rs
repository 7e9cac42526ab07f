//! One Producer/Consumer API, any message broker.

#[allow(dead_code, reason = "for the broker")]
mod adapters;
mod backoff;
mod body;
mod clock;
#[cfg(feature = "json")]
mod codec;
#[cfg(not(feature = "json"))]
#[path = "codec_none.rs"]
mod codec;
#[allow(dead_code, reason = "for the broker")]
pub mod config;
mod effective;
mod foreign;
mod id;
mod link;
mod outlet;
mod spelling;
mod status;

pub use adapter::{Channel, Error, ErrorKind, Message, MessageKey, Result};
pub use body::{Body, Command, IntoMessage};
pub use config::Config;
pub use status::{BrokerStatus, State, Status};

/// For authors of adapters: the contract, and the clocks.
pub mod adapter {
    pub use crate::clock::{ManualClock, SystemClock};
    pub use anybroker_contract::*;
}
