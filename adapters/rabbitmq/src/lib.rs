//! The RabbitMQ adapter of Anybroker, over AMQP 0-9-1, on [lapin]. Tested with RabbitMQ 3.10 and 4.0.
//!
//! # URL and config
//!
//! `rabbitmq://user:password@host:5672/vhost`, with TLS `rabbitmq+tls://…` (port 5671); `amqp://` and `amqps://` are the same. Without user it is RabbitMQ's
//! guest, without path the virtual host `/`; the name `/` itself is written `%2f`. Several hosts, separated by commas, are a cluster: they are tried in turn, the one
//! that answered last first. These keys go into the query (the first two) or the broker's table:
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `heartbeat` | 10 | seconds between signs of life; a connection without any for twice as long is lost |
//! | `max-message` | 16777216 | the largest message in bytes; RabbitMQ's own limit (`max_message_size`) must not be lower |
//! | `reply-to` | none | beginnings of queue names that are answered as return addresses, beside our own and RabbitMQ's direct ones |
//!
//! A channel's own table, `rabbitmq = { … }`, is used when its queues are made:
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `shards` | 8 | the number of queues of a channel in order, which is the most consumers that can share its work; where the queues exist, they say it |
//! | `delivery-limit` | 100 | how often a message may come back to its queue before RabbitMQ itself dead-letters it |
//!
//! # Mapping
//!
//! | channel | at the broker |
//! |---|---|
//! | point-to-point `orders` | a direct exchange and a quorum queue of that name |
//! | publish-subscribe `events` | a fanout exchange of that name |
//! | a named subscription `kitchen` | a quorum queue `events/kitchen`, bound to it |
//! | an ephemeral subscription | an exclusive queue `events/~…`, gone with its connection |
//! | either of the first and third in order | a direct exchange `orders` (`events/kitchen`), and quorum queues `orders#0`, `orders#1`, … with a single active consumer each, among which 120 routing keys are divided; a queue `orders#members`, in which consumers are counted; a fanout exchange `orders#others`, for routing keys that are none of these |
//! | dead letters | a quorum queue `orders#dead-letters` (`events/kitchen#dead-letters`) |
//! | a return address | an exclusive queue `anybroker.reply.…` |
//!
//! All but the exclusive ones is durable. No plugin is needed.
//!
//! How fields are written:
//!
//! | field | property or header |
//! |---|---|
//! | id, type, correlation id, return address, media type | `message_id`, `type`, `correlation_id`, `reply_to`, `content_type` |
//! | time | `timestamp` (seconds) and the header `cloudEvents:time` (RFC 3339, milliseconds) |
//! | kind, key, expiry | the headers `cloudEvents:kind`, `cloudEvents:partitionkey`, `cloudEvents:expirytime` |
//! | no payload | an empty body and the header `cloudEvents:tombstone` |
//! | headers | headers: long strings, an array where one repeats, void where it has no value; `anybroker-headers` lists them where their order says something |
//!
//! # Delivery semantics
//!
//! - At least once. A send is accepted once RabbitMQ has confirmed it: a quorum queue has it on the disks of most of its replicas. A message that no queue takes is
//!   refused as `NotFound` on point-to-point, a reply to a requester who is gone as `Rejected`; on publish-subscribe nobody has to be subscribed. Of RabbitMQ's direct replies only the first to a
//!   requester says `NotFound` when that one is gone: they come back even where they arrive, so that no later one can tell.
//! - An acknowledgement counts on the live channel; RabbitMQ answers none. `Consumer::flush` waits until the broker has them. One that was under way when the connection
//!   went leads to a second delivery.
//! - In order, the routing key is `#` and the message's key as CRC-32 modulo 120, which leads to the same queue as long as the channel exists. (RabbitMQ's own
//!   consistent-hash exchange may move keys to other queues when a server starts.) One consumer at a time has a queue; every second each one counts how many
//!   there are and gives away what is more than its share: it stops handing out of that queue, has ten seconds to finish, and queues up again behind the others. A
//!   consumer that leaves keeps its queues until all it holds is settled, then closes its channels: the next one begins where it ended.
//! - A retry is held by the consumer, its attempts counted there. What comes back (a lost connection, a consumer that leaves or dies) comes first again.
//! - Rejecting copies the message to the dead-letter queue and acknowledges it when it is there. What other clients reject, or what came back `delivery-limit` times,
//!   RabbitMQ puts there itself, at least once, with its own `x-death` header.
//! - While the broker is short of memory or disk (`Event::Blocked`, status *stalled*), sends wait until their deadline; receiving and acknowledging go on, as they
//!   have a connection of their own.
//! - A queue that another instance is just making, or whose node is down, is asked for again until the opening's deadline, and then is `Unavailable`.
//! - A channel with a bound refuses what is too much; the sender tries again until there is room. Other senders may get in between, so that the bound may be exceeded by one
//!   message for each; and room is there again only once the queue has fallen to four fifths of it.
//!
//! **Killed within about a second after a quorum queue was declared, RabbitMQ 3.10 to 4.3 may come back with the queue empty**, confirmed messages
//! included: seen in 19 of 19 tries, and never (0 of 23) later. Declare when you deploy, not when you send the first message, where that second matters.
//!
//! # Capabilities
//!
//! Natively: both kinds of channel, named and ephemeral subscriptions, durability, dead letters, bounds (point-to-point), return addresses. Order per key is
//! built from queues with one active consumer. Delayed retry and expiry come from the portable layer. Not there: a start position in the past, as
//! queues hold what came after they were made; and counting attempts over consumers, as RabbitMQ counts what was only given back, too (3.10 and 4.0 count every return, 4.3 those by
//! rejection): its own count is among the delivery's extensions, as `x-delivery-count` of [`NativeHeaders`].
//!
//! # Limits
//!
//! - A message has at most `max-message` bytes, counted with all of its fields; the fields beside the payload have to fit into one frame, of 131072 bytes unless RabbitMQ is told
//!   otherwise (`frame_max`).
//! - Id, type, correlation id, return address, media type and header names have at most 255 bytes; names of queues too. Times lie in the years 0 to 9999.
//! - A delivery that is not settled within RabbitMQ's `consumer_timeout` (30 minutes) ends its channel; it comes again.
//! - Prefetch is counted in messages. From each queue in order RabbitMQ sends 32 ahead whatever the prefetch is. They wait in the client's memory, and no more are handed out than
//!   the prefetch allows: with different numbers, consumers that leave one after another would turn messages around. A foreign consumer of such a queue must have 32, too.
//! - A connection has at most 2047 channels. A sender or consumer takes one; in order a consumer takes one for each queue and one to be counted.
//! - Text that is not UTF-8 in a property or header name ends the connection, which is lapin's limit; RabbitMQ dead-letters such a message in the end.
//!
//! # Beside an existing service
//!
//! - An address that is a name is used for exchange and queue alike. A table names the parts one by one:
//!   `address = { exchange = "shop", routing-key = "order.created", queue = "billing" }`. They have to exist and are never made or deleted; without `exchange` it is the default
//!   one, and without `routing-key` the message's key is it. A subscription through such an address has its own queue, bound with the routing key.
//! - Nothing of ours is needed to be received: bare bodies, any properties; numbers, booleans and times in headers are read as their text, arrays as repeated headers. Decimals, tables
//!   and what RabbitMQ itself wrote (`x-death`, …) are [`NativeHeaders`]. A header of ours that cannot be read makes a message undecodable, not fatal.
//! - Other clients publish to the exchange, or straight to the queue through the default exchange; in order, to the exchange with the
//!   routing key of the message's key, `"#" + str(zlib.crc32(key) % 120)` in Python, and the key itself in the header `cloudEvents:partitionkey`. With the key as routing key it is in order too,
//!   though in the first queue with all others that are sent so.
//! - Declaring again what exists otherwise is a conflict, RabbitMQ's own words included. A bound and a delivery limit that are not asked for are taken as they are; who sends in
//!   order to a channel with a bound has to ask for it, so that a refusal cannot let the next message of its key overtake. `declare = "never"` takes what exists as it is, on trust: AMQP cannot be asked what a queue is like.
//!
//! # Escape hatch
//!
//! [`Adapter::native`] gives [`Native`], which opens lapin channels on the connection of the receivers. Lapin itself is at [`lapin`]. It logs under the target `lapin`: what the
//! broker refuses at ERROR (a first declaration asks for what is not there yet), and a message that came back, **with its payload**, at WARN; `lapin::returned_messages=off` keeps that out.

mod adapter;
mod balance;
mod buckets;
mod config;
mod declare;
mod error;
mod ledger;
mod link;
mod names;
mod receiver;
mod sender;
mod server;
mod shard;
mod wire;

pub use lapin;
pub use wire::NativeHeaders;

use anybroker_contract::{Adapter, Connection, Result};
use link::{Links, Purpose};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

const NAME: &str = "rabbitmq";

/// Makes an adapter for the broker that the URL names.
///
/// # Errors
/// [`anybroker_contract::ErrorKind::Config`] for what the URL, the credentials, TLS or the settings get wrong.
pub fn open(connection: &Connection) -> Result<Arc<dyn Adapter>> {
    Ok(Arc::new(adapter::RabbitAdapter::new(connection)?))
}

/// Lapin's own connection, for what the contract does not cover. Outside of semantic versioning.
#[derive(Clone)]
pub struct Native(Arc<Links>);

impl Native {
    /// A new channel on the connection that the adapter's receivers use, opened until the deadline.
    ///
    /// # Errors
    /// What connecting gives.
    pub async fn channel(&self, deadline: Instant) -> Result<lapin::Channel> {
        self.0.get(Purpose::Receive, deadline).await?.channel(deadline).await
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Native")
    }
}
