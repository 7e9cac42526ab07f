//! One Producer/Consumer API, any message broker.

#[allow(dead_code, reason = "for the broker")]
mod adapters;
#[allow(dead_code, reason = "for the broker")]
pub mod config;
mod spelling;

/// The contract with adapters.
pub mod adapter {
    pub use anybroker_contract::*;
}

pub use anybroker_contract::{Channel, Error, ErrorKind, Message, MessageKey, Result};
pub use config::Config;
