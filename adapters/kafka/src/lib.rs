//! The Kafka adapter of Anybroker, on [rdkafka] and librdkafka, which is compiled from source with OpenSSL, zlib, zstd and LZ4. Tested with Apache Kafka
//! 3.9 and 4.3.
//!
//! # URL and config
//!
//! `kafka://user:password@host:9092,host:9092`, with TLS `kafka+tls://…`. Several hosts are one cluster, of which any that answers tells the others. These keys go
//! into the query (those with a star) or the broker's table:
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `mechanism`* | `scram-sha-512` | how a name and a password are checked, where `auth.kind` does not say it: `plain`, `scram-sha-256` or `scram-sha-512` |
//! | `compression`* | `none` | of the batches sent: `gzip`, `snappy`, `lz4` or `zstd` |
//! | `linger`* | 0 | milliseconds that a message waits for others to share its batch |
//! | `group-protocol`* | `classic` | who divides the partitions of a group: its members, or the broker (`consumer`, KIP-848, from Kafka 4.0 on) |
//! | `session-timeout`* | 10000 | milliseconds without a sign of life until a member of a group is taken for dead; with `consumer` the broker says it |
//! | `delivery-timeout` | 30000 | milliseconds until the client gives up a message that Kafka has not confirmed |
//! | `commit-interval` | 1000 | milliseconds between two commits of what is settled |
//! | `revoke-within` | 10000 | milliseconds to finish with partitions that go to another consumer |
//! | `max-ahead` | 10000 | how many messages of a partition are read beyond its oldest unsettled one; then it is paused |
//! | `static-membership` | false | the name of the instance is a static member's: a consumer that comes back within the session keeps its partitions |
//! | `max-message` | 1048588 | the largest message in bytes, where the topic does not say it |
//! | `reply-topic` | `anybroker.replies` | the topic to which replies come |
//! | `reply-to` | none | topics that are answered as return addresses, beside our own |
//!
//! A channel's own table, `kafka = { … }`:
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `partitions` | the broker's | of a topic that is made: the most consumers that can share its work; of one that is there, an error when it differs |
//! | `replication` | the broker's | of a topic that is made: how many brokers have each message |
//! | `retention` | the broker's | of a topic that is made: milliseconds that a message is kept, settled or not |
//! | `group` | the channel's name | the group of a point-to-point channel |
//! | `groups` | none | the groups of named subscriptions, by name |
//!
//! # Mapping
//!
//! | channel | at the broker |
//! |---|---|
//! | point-to-point `orders` | a topic and a group of that name |
//! | publish-subscribe `events` | a topic of that name |
//! | a named subscription `kitchen` | the group `events/kitchen`; it exists once a position is committed, which declaring it does |
//! | an ephemeral subscription | all partitions, read without a group |
//! | dead letters | a topic `orders..dead-letters` (`events..kitchen..dead-letters`) and a group of that name |
//! | a return address | a partition of the shared topic of replies, and an owner |
//!
//! How fields are written:
//!
//! | field | of the record |
//! |---|---|
//! | key, payload, headers | key, value and headers; no payload is a null value |
//! | id, type, kind, correlation id, return address, expiry | the headers `ce_id`, `ce_type`, `ce_kind`, `ce_correlationid`, `ce_replyto`, `ce_expirytime` |
//! | media type | the header `content-type` |
//! | time | the header `ce_time` (RFC 3339, milliseconds), and the timestamp where it is within a minute of now |
//!
//! # Delivery semantics
//!
//! - At least once. A send is accepted once all replicas in sync have it (`acks=all`); the producer is idempotent, so that its own retries make no copies.
//! - The key chooses the partition as Java's client does (murmur2), so that foreign producers agree; messages without a key are spread. Every channel is in order per key
//!   as long as its number of partitions stays.
//! - Settling is written down at once in memory and committed every `commit-interval`, when a partition goes to another consumer, on `Consumer::flush` and at close.
//!   What is committed never passes an unsettled message. What is settled behind one is committed beside the position, as far as it has room there, and does not come again either;
//!   other clients pass that note over, and read from the position on. What was settled since the last commit comes again after a crash.
//! - A partition that is to go to another consumer is finished first: no more of it is handed out, and it goes once nothing of it is in hand and the last position is committed, or
//!   after `revoke-within`; all that go at one time go together. While a consumer holds on to one, the group waits.
//! - A retry is held by the consumer, and its key waits; others of the partition flow. Attempts go over to the next consumer with the position.
//! - Rejecting copies the message to the topic of dead letters and settles it when it is there.
//! - A new subscription begins at its start position when it is declared, and a group with positions goes on from them. Partitions added later are read from their beginning.
//!   The group of a point-to-point channel begins with the oldest message.
//! - What only a committed transaction has written is received (`read_committed`).
//! - A message that is deleted for its age before it was read shows as [`anybroker_contract::Event::Gap`], without a number: Kafka does not say how many there were.
//!
//! # Capabilities
//!
//! Natively: both kinds of channel, named and ephemeral subscriptions, order per key, durability, start positions. Dead letters, replies, delayed retry and expiry come from
//! this library. Not there: bounds, as a topic keeps what its retention says; counting attempts past a consumer that dies; leases, as a partition belongs to its
//! consumer until that leaves or dies.
//!
//! # Limits
//!
//! - Consumers share partitions, not messages: more consumers than partitions are idle, and what one holds back is nobody else's.
//! - Memory: at most 1024 messages or 16 MiB wait to be handed out, beside what librdkafka has fetched (16 MiB), for each receiver. Behind a message that blocks its partition
//!   a settled one costs two bits at most, and beyond `max-ahead` nothing more is read: the status says so (`Event::Paused`).
//! - Kafka forgets the positions of a group without members after a while (`offsets.retention.minutes`, seven days); the subscription begins anew then.
//! - A topic that is deleted and made again under an open consumer may be read from elsewhere; under an open sender, sends end at their deadline.
//! - On topics with `message.timestamp.type=LogAppendTime` the timestamp is the broker's; the time is that of the header.
//! - An ephemeral subscription reads the partitions that there are when it opens.
//! - Each receiver has a thread of its own beside librdkafka's.
//! - Librdkafka, in 2.12 and 2.13 at least, may forget every broker when a cluster starts after a crash (its issue 5301), and then neither sends nor receives again. The adapter looks for brokers
//!   while none is known to be there, and names those of the URL to it again: within seconds, at first.
//!
//! # Beside an existing service
//!
//! - `address` names an existing topic, `group` and `groups` existing groups; members of another kind in the group (`range`, `roundrobin`) are a conflict: ours divide by
//!   `cooperative-sticky`. `declare = "never"` takes a topic as it is.
//! - Nothing of ours is needed to be received: any key, value and headers; the record's timestamp is the time where no header says it. A header of ours that cannot be read makes a
//!   message undecodable, not fatal.
//!
//! # Escape hatch
//!
//! Rdkafka itself is at [`rdkafka`], for clients of your own. Those of the adapter are not given out: a call beside the thread that reads could lose messages.

mod adapter;
mod client;
mod config;
mod error;
mod memo;
mod names;
mod partitions;
mod receiver;
mod sender;
mod wire;

pub use rdkafka;

use anybroker_contract::{Adapter, Connection, Result};
use std::sync::Arc;

const NAME: &str = "kafka";

/// Makes an adapter for the cluster that the URL names.
///
/// # Errors
/// [`anybroker_contract::ErrorKind::Config`] for what the URL, the credentials, TLS or the settings get wrong.
pub fn open(connection: &Connection) -> Result<Arc<dyn Adapter>> {
    Ok(Arc::new(adapter::KafkaAdapter::new(connection)?))
}
