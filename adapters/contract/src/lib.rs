//! The contract between Anybroker and its adapters: the data types that both sides share, and the three traits that every adapter implements.
//!
//! Applications use the crate `anybroker`, which exports all of this under `anybroker::adapter`. Authors of adapters start at [`Adapter`] and read the
//! guide "write an adapter" there. The smallest complete example is the memory adapter, `anybroker-memory`.

mod adapter;
mod capability;
mod channel;
mod clock;
mod connection;
mod delivery;
mod error;
mod event;
mod header;
mod message;
mod receipt;
mod settings;
mod table;
mod text;
mod time;
mod topology;

pub use adapter::{
    Adapter, Opened, Receive, Receiver, ReceiverOptions, Replies, Room, Sender, SenderOptions,
};
pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use capability::{Capabilities, Capability, InFlightPerKey, Level, Refusal, Support};
pub use channel::{Channel, ChannelKind, DeadLetters, Requirements, Start, Subscription};
pub use clock::{BoxFuture, Clock};
pub use connection::{Auth, Connection, Host, Secret, Tls};
pub use delivery::{Extend, Extensions, Lease, Outcome, Received, Scope, Settle, Token, Undecodable};
pub use error::{Error, ErrorKind, Result, SendOutcome};
pub use event::{Event, Events};
pub use header::{HeaderValue, Headers};
pub use message::{Kind, Message, MessageId, MessageKey};
pub use receipt::{Confirm, Confirmed, Receipt};
pub use settings::{Settings, Value};
pub use table::Table;
pub use text::Text;
pub use time::Timestamp;
pub use topology::{Address, Binding, Declare, Source, Target, Topology};
