use crate::{
    Capabilities, Clock, Confirm, Declare, Events, Extend, Message, Received, Result, Scope, Settle, Source,
    Target, Text, Topology,
};
use async_trait::async_trait;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// One connection to one broker. Written once per broker; everything portable is built on it.
///
/// **An adapter translates and does nothing else**: it does not retry, batch, trace, dead-letter, make ids or hide errors. A client with sessions of
/// its own (that reconnects by itself) reports what it does through [`Events`].
///
/// # Contract
/// - *Concurrency*: all methods may run at once.
/// - *Cancellation*: a future of this or of the two other traits is polled to its end, never dropped while pending. It may rely on that.
/// - *Time*: every wait uses the [`Clock`] of the options and ends by their deadline with [`crate::ErrorKind::Timeout`].
/// - *Errors*: one mapping from the client's errors to [`crate::ErrorKind`]; no credential in any text.
/// - *Connecting*: making an adapter connects nothing. `health`, `declare` and `open_*` connect, in one attempt, when there is no live connection;
///   the portable layer calls them again after a loss.
/// - *After close*: every method gives [`crate::ErrorKind::Closed`]; `close` itself succeeds again.
#[async_trait]
pub trait Adapter: fmt::Debug + Send + Sync + 'static {
    /// The name that users write as cargo feature and URL scheme.
    fn name(&self) -> &'static str;

    /// The most that any channel of this adapter can have, known without a connection.
    fn capabilities(&self) -> Capabilities;

    /// Makes or verifies what is to exist.
    ///
    /// Declaring is not destroying: what exists is never changed or emptied. Again with the same properties succeeds; with others it is
    /// [`crate::ErrorKind::Conflict`], saying which property differs and both values. What belongs to the channel as it exists (order, number of
    /// shards) is adopted. Never called with [`Declare::Never`].
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Unauthorized`, `Unsupported`, and what connections give.
    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()>;

    /// Deletes what [`Adapter::declare`] makes, with its messages. What is not there is a success.
    ///
    /// # Errors
    /// `Unauthorized`, and what connections give.
    async fn delete(&self, topology: &Topology) -> Result<()>;

    /// Opens a sender, without making anything at the broker.
    ///
    /// # Errors
    /// `NotFound` when the target does not exist, `Unauthorized`, and what connections give.
    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>>;

    /// Opens a receiver. A new subscription's start is fixed when this resolves: what is accepted later is delivered, also after a crash.
    /// An ephemeral subscription exists from here until the receiver closes or its connection ends.
    ///
    /// # Errors
    /// `NotFound` when the source does not exist, `Unauthorized`, and what connections give.
    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>>;

    /// Opens a return address of this instance alone.
    ///
    /// # Errors
    /// `Unsupported` where there are no return addresses, and what connections give.
    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies>;

    /// Asks the broker for a sign of life.
    ///
    /// # Errors
    /// What is wrong.
    async fn health(&self) -> Result<()>;

    /// Closes the connection. Open handles end as after a disconnect, and what their receivers hold comes again; the portable layer has closed its
    /// own before.
    ///
    /// # Errors
    /// What the broker says; the connection is closed all the same.
    async fn close(&self) -> Result<()>;

    /// The client library's own connection, for what the contract does not cover. Its type is outside of semantic versioning.
    fn native(&self) -> Option<&(dyn Any + Send + Sync)> {
        None
    }
}

/// The sending end of a channel: one call at a time, from any task.
///
/// # Contract
/// - *Order*: messages reach the broker in the order of the batch and of the calls; batches may be on their way at once.
/// - *Batches* are within the limits of the channel's [`Capabilities`], counted as [`Sender::measure`] counts.
/// - *Partial failure* is a result per message, never an error for the batch. A message that reached some of its subscriptions and not others is
///   [`crate::SendOutcome::Unknown`].
/// - *Disconnect*: calls and every open [`Confirm`] end with [`crate::ErrorKind::Disconnected`] and the outcome `NotSent` or `Unknown`; the handle is
///   dead. `Unavailable` and `Throttled` leave it alive.
/// - *Drop* without close sends nothing more; what was handed over may still arrive.
#[async_trait]
pub trait Sender: Send + 'static {
    /// The message's bytes on the wire, all fields included, after checking that it can be carried unchanged.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidMessage`], naming the field that cannot be carried.
    fn measure(&self, message: &Message) -> Result<usize>;

    /// Hands the batch over without waiting, where the client can: `None` means "not now", and nothing was taken.
    fn try_send(&mut self, batch: &[Message]) -> Option<Result<Confirm>> {
        let _ = batch;
        None
    }

    /// Resolves when the client has taken the whole batch in order; what became of it is in the [`Confirm`]. While the broker takes nothing, this
    /// waits.
    ///
    /// # Errors
    /// For the whole batch, with its [`crate::SendOutcome`].
    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm>;

    /// Sends what the client still has, then closes.
    ///
    /// # Errors
    /// What the broker says; the handle is closed all the same.
    async fn close(&mut self) -> Result<()>;
}

/// The receiving end: one task receives, others settle and extend beside it.
///
/// # Contract
/// - *Order*: of one key, as the channel has them; a released delivery is back in its old place. A delivery that is unsettled when the receiver closes,
///   is dropped or loses its lease or scope comes again in its old place too, its attempt counted where [`crate::Capability::AttemptCount`] is native.
/// - *Prefetch*: no more is unsettled than [`ReceiverOptions`] says, as far as the broker can hold to it; never more than asked for is returned.
/// - *Disconnect*: calls end with [`crate::ErrorKind::Disconnected`], the handle is dead and all its deliveries are lost. `Unavailable` leaves it
///   alive: call again.
/// - *Scopes*: see [`crate::Event`]. Settling in a lost scope gives [`crate::ErrorKind::LeaseLost`].
/// - *Undecodable is not fatal*: such a record comes as one, with its token; no record fails its neighbours.
/// - *Drop* without close is a crash: what is unsettled comes again.
#[async_trait]
pub trait Receiver: Send + Sync + 'static {
    /// Appends at least one and at most `room` deliveries as soon as there is one. Never called twice at once.
    ///
    /// # Errors
    /// `Disconnected`, `Unavailable`, `Unauthorized`, `NotFound`.
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive>;

    /// What is there now, without waiting: how many deliveries were appended, at most `room`. `None` when this receiver has no such way; the answer to
    /// that never changes. Nothing is appended after [`Receiver::stop`]. Never called while [`Receiver::receive_batch`] is pending.
    ///
    /// With it, the application's task receives by itself while there is something, and nobody waits in `receive_batch` meanwhile: such a receiver
    /// reports [`crate::Event::Lost`] for its scopes when its connection dies.
    fn try_receive(&self, room: Room, into: &mut Vec<Received>) -> Option<usize> {
        let _ = (room, into);
        None
    }

    /// Settles each and answers each at once, where that needs no waiting. False: nothing was done, use [`Receiver::settle`]. Used only with
    /// [`Receiver::try_receive`], and may run at any time beside it.
    fn try_settle(&self, batch: &mut [Settle]) -> bool {
        let _ = batch;
        false
    }

    /// Settles each and answers each, in any order of deliveries; after a disconnect each with an error, at once. Works until [`Receiver::close`],
    /// also after [`Receiver::stop`].
    async fn settle(&self, batch: &mut [Settle]);

    /// Extends the lease of each and answers each.
    async fn extend(&self, batch: &mut [Extend]) {
        let _ = batch;
    }

    /// Resolves once the broker has what was settled before, for brokers that have it later than [`Receiver::settle`] resolves.
    ///
    /// # Errors
    /// `Disconnected`, `LeaseLost`.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Takes no more from the broker. A waiting [`Receiver::receive_batch`] returns what it has, later ones [`Receive::Ended`]. The consumer keeps
    /// its place among the competing ones, so that nobody overtakes what it still holds.
    ///
    /// # Errors
    /// `Disconnected`.
    async fn stop(&self) -> Result<()>;

    /// Says that nothing of the revoked scope is held any more: it may go.
    ///
    /// # Errors
    /// `Disconnected`, `LeaseLost`.
    async fn release(&self, scope: Scope) -> Result<()> {
        let _ = scope;
        Ok(())
    }

    /// Leaves. What is unsettled comes again. Resolves once the broker has what was settled before.
    ///
    /// # Errors
    /// What the broker says; the handle is closed all the same.
    async fn close(&self) -> Result<()>;
}

/// How [`Receiver::receive_batch`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receive {
    /// There may be more.
    More,
    /// Stopped: there is nothing more.
    Ended,
}

/// How much may be received, at least one message whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Room {
    /// Messages.
    pub messages: usize,
    /// Bytes, as [`Message::size`] counts.
    pub bytes: usize,
}

impl Room {
    /// That many messages and bytes.
    #[must_use]
    pub const fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes }
    }
}

/// An open handle, and what really holds on its channel.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened<H> {
    /// The handle.
    pub handle: H,
    /// The effective capabilities, known only now: they depend on the address, the server and its settings.
    pub capabilities: Capabilities,
}

impl<H> Opened<H> {
    /// A handle with its effective capabilities.
    pub const fn new(handle: H, capabilities: Capabilities) -> Self {
        Self { handle, capabilities }
    }
}

/// A return address and what comes to it.
#[non_exhaustive]
pub struct Replies {
    /// What requests carry in `reply_to`.
    pub address: Text,
    /// Receives the replies.
    pub receiver: Arc<dyn Receiver>,
}

impl Replies {
    /// That address, read by that receiver.
    #[must_use]
    pub const fn new(address: Text, receiver: Arc<dyn Receiver>) -> Self {
        Self { address, receiver }
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What a sender is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SenderOptions {
    /// Until when opening must have ended.
    pub deadline: Instant,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where to report.
    pub events: Events,
}

impl SenderOptions {
    /// Options with that deadline for opening.
    #[must_use]
    pub const fn new(deadline: Instant, clock: Arc<dyn Clock>, events: Events) -> Self {
        Self { deadline, clock, events }
    }
}

/// What a receiver is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReceiverOptions {
    /// The most that may be unsettled.
    pub prefetch: Room,
    /// The name of this instance, for brokers that want one: stable over restarts, or unique by chance.
    pub instance: Text,
    /// Until when opening must have ended.
    pub deadline: Instant,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where to report.
    pub events: Events,
}

impl ReceiverOptions {
    /// Options with that prefetch, instance name and deadline for opening.
    #[must_use]
    pub const fn new(
        prefetch: Room,
        instance: Text,
        deadline: Instant,
        clock: Arc<dyn Clock>,
        events: Events,
    ) -> Self {
        Self { prefetch, instance, deadline, clock, events }
    }
}
