//! The in-memory adapter of Anybroker: a whole broker inside the process, and the example that authors of adapters read.
//!
//! # URL and config
//!
//! `memory://name` is the broker of that name; all adapters of the process that name it meet there, and it lives as long as one of
//! them or of their handles. `memory://` is a private broker. These keys go into the query or the broker's table:
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `lease` | none | how long a delivery belongs to its receiver unless extended, such as `30s` or `500ms` |
//! | `max-message` | 67108864 | the largest message in bytes |
//! | `shards` | 16 | the number of shards of an ordered channel, which is the most consumers that can share its work |
//! | `retain` | 1000 | how many messages a publish-subscribe channel keeps for subscriptions that start in the past |
//! | `like` | none | the broker that it can do no more than: `kafka` or `rabbitmq` |
//!
//! A channel's own table takes `shards` and `retain`. The first to open a named broker configures it and brings its clock; another that asks for
//! something else gets a conflict. Tests make a [`MemoryBroker`] instead of a URL.
//!
//! # Mapping
//!
//! - Point-to-point: a queue.
//! - Publish-subscribe: a queue for each subscription, to which sending fans out. Without a subscription, sending succeeds.
//! - Order per key: each queue of the channel has shards, chosen by the key's FNV-1a hash; each shard is owned by one consumer at a time, under a new
//!   scope each time. Messages without key are spread over the shards.
//! - Dead letters: one more queue beside the channel or subscription, once it is declared.
//! - Replies: a queue for each [`Adapter::open_replies`], under an address `reply:<broker>:<unique>`, gone with its receiver.
//!
//! # Delivery semantics
//!
//! - At least once. What is unsettled comes again, in its old place, its attempt counted, when its receiver closes, is dropped or disconnected, or loses
//!   the lease or scope. After [`Outcome::Held`] it comes with the number that was held: that attempt is counted already.
//! - Without order, competing consumers take turns as they ask. In order, joining and leaving moves as few shards as possible. A shard on which its
//!   owner still works is asked back with [`Event::Revoking`]; it moves when the owner releases it, or after ten seconds. Any other shard moves at once.
//!   A stopped consumer keeps its shards until it closes.
//! - Delays and leases run on the broker's clock, and end inside of the calls of its receivers: nothing is spawned.
//! - A bound counts what waits, delayed messages included, deliveries in hand not. On publish-subscribe the fullest subscription counts.
//!
//! # Capabilities
//!
//! Everything natively but durability, which memory cannot have; expiry, which the portable layer checks at hand-out anyway; and the extension of leases
//! where none is configured. On an ordered channel a delayed retry is left to the portable layer, which holds the whole key back.
//!
//! With `like` it refuses what that broker refuses, as [`anybroker_contract::Table`] says, so that a test in memory finds what would not work there.
//! What that broker keeps is accepted, and receipts say its level, though memory still forgets all of it when the process ends: it is for tests. Names and settings of the other
//! broker are not checked.
//!
//! # Limits
//!
//! A message has at most `max-message` bytes, counted as [`anybroker_contract::Message::size`] does. Batches are not limited. A receipt means that the
//! memory of this process has the message.
//!
//! # Beside an existing service
//!
//! There is nothing outside of the process to share. Within it, code that is not of Anybroker reaches the queues through a [`MemoryBroker`].
//!
//! # Escape hatch
//!
//! [`Adapter::native`] gives the [`MemoryBroker`].

mod adapter;
mod after;
mod broker;
mod channel;
mod config;
mod consumer;
mod entries;
mod gate;
mod incoming;
mod memory_broker;
mod queue;
mod receiver;
mod sender;
mod shards;
mod state;

pub use config::Config;
pub use memory_broker::MemoryBroker;

use anybroker_contract::{Adapter, Connection, Error, ErrorKind, Result};
#[cfg(doc)]
use anybroker_contract::{Event, Outcome};
use std::sync::Arc;

const NAME: &str = "memory";

/// Makes an adapter for the broker that the URL names.
///
/// # Errors
/// [`ErrorKind::Config`] for what the URL or the settings get wrong; [`ErrorKind::Conflict`] when the named broker is there with another configuration.
pub fn open(connection: &Connection) -> Result<Arc<dyn Adapter>> {
    let name = config::name(connection)?;
    let broker = broker::Broker::named(name, &connection.clock, |config| config.with(connection))?;
    Ok(MemoryBroker(broker).adapter())
}

fn error(kind: ErrorKind, what: impl Into<String>) -> Error {
    Error::new(kind, what).with_adapter(NAME)
}
