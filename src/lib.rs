//! One Producer/Consumer API, any message broker.

pub use anybroker_contract::{Channel, Error, ErrorKind, Message, MessageKey, Result};
