use crate::{Error, Message};
use bytes::Bytes;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One record as an adapter hands it up: content, and all that belongs to this one receipt of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The message, or what could not be translated into one.
    pub content: Result<Message, Undecodable>,
    /// Names this delivery when it is settled.
    pub token: Token,
    /// What the delivery is lost with.
    pub scope: Scope,
    /// The number of this attempt, the first being 1; `None` where the broker does not count.
    pub attempt: Option<u32>,
    // What most deliveries of most brokers lack, behind one pointer.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    lease: Option<Lease>,
    extensions: Extensions,
}

impl Received {
    /// A message with its token, in the only scope, not counted, without lease.
    #[must_use]
    #[inline]
    pub const fn new(message: Message, token: Token) -> Self {
        Self { content: Ok(message), token, scope: Scope::WHOLE, attempt: None, rare: None }
    }

    /// A record that could not be translated, with its token.
    #[must_use]
    pub const fn undecodable(raw: Bytes, error: Error, token: Token) -> Self {
        let content = Err(Undecodable { raw, error });
        Self { content, token, scope: Scope::WHOLE, attempt: None, rare: None }
    }

    /// Sets the scope.
    #[must_use]
    #[inline]
    pub const fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the number of this attempt.
    #[must_use]
    #[inline]
    pub const fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// Sets the lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.rare.get_or_insert_default().lease = Some(lease);
        self
    }

    /// Adds what only this broker knows.
    #[must_use]
    pub fn with_extension<T: Any + Send + Sync>(mut self, extension: T) -> Self {
        self.rare.get_or_insert_default().extensions.insert(extension);
        self
    }

    /// Until when it belongs to this receiver; `None` where that has no limit.
    #[must_use]
    #[inline]
    pub fn lease(&self) -> Option<Lease> {
        self.rare.as_ref()?.lease
    }

    /// What only this broker knows about it.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        static NONE: Extensions = Extensions::new();
        self.rare.as_ref().map_or(&NONE, |rare| &rare.extensions)
    }

    /// Takes the extensions out; `None` when there are none.
    #[inline]
    pub fn take_extensions(&mut self) -> Option<Extensions> {
        let rare = self.rare.as_mut()?;
        Some(std::mem::take(&mut rare.extensions)).filter(|extensions| !extensions.is_empty())
    }
}

/// A record that an adapter could not translate. It is settled like any other.
#[derive(Debug)]
#[non_exhaustive]
pub struct Undecodable {
    /// The record as it came.
    pub raw: Bytes,
    /// What is wrong with it.
    pub error: Error,
}

/// Names one delivery of one receiver. Two numbers (such as a shard and an offset) and, where the broker needs it, a text handle.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token {
    part: u64,
    number: u64,
    handle: Option<Arc<str>>,
}

impl Token {
    /// A token of one number.
    #[must_use]
    #[inline]
    pub const fn number(number: u64) -> Self {
        Self { part: 0, number, handle: None }
    }

    /// A token of two numbers.
    #[must_use]
    #[inline]
    pub const fn pair(part: u64, number: u64) -> Self {
        Self { part, number, handle: None }
    }

    /// A token with a text handle.
    #[must_use]
    pub const fn handle(number: u64, handle: Arc<str>) -> Self {
        Self { part: 0, number, handle: Some(handle) }
    }

    /// The first number of a pair.
    #[must_use]
    #[inline]
    pub const fn part(&self) -> u64 {
        self.part
    }

    /// The number.
    #[must_use]
    #[inline]
    pub const fn as_number(&self) -> u64 {
        self.number
    }

    /// The text handle.
    #[must_use]
    pub fn as_handle(&self) -> Option<&str> {
        self.handle.as_deref()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The handle stays out: with some brokers it lets its holder settle the message.
        write!(f, "{}/{}", self.part, self.number)
    }
}

/// What deliveries are lost together with: a partition, shard, link, session or channel. Adapters choose the numbers; a scope that comes back
/// after it was lost gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(u64);

impl Scope {
    /// The only scope of a receiver that has just one.
    pub const WHOLE: Self = Self(0);

    /// The scope of that number.
    #[must_use]
    #[inline]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Until when a delivery belongs to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Then it goes to another, unless extended.
    pub expires: Instant,
    /// How far [`crate::Receiver::extend`] moves `expires`; `None` when it cannot be extended.
    pub extendable: Option<Duration>,
    /// Beyond this no extension helps.
    pub hard_end: Option<Instant>,
}

impl Lease {
    /// A lease that ends then and cannot be extended.
    #[must_use]
    pub const fn until(expires: Instant) -> Self {
        Self { expires, extendable: None, hard_end: None }
    }

    /// Says that each extension moves the end to that long from its moment.
    #[must_use]
    pub const fn extendable_by(mut self, extension: Duration) -> Self {
        self.extendable = Some(extension);
        self
    }

    /// Says that no extension goes beyond that.
    #[must_use]
    pub const fn with_hard_end(mut self, end: Instant) -> Self {
        self.hard_end = Some(end);
        self
    }
}

/// What is to become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled: it never comes again.
    Ack,
    /// Failed: it comes again, counted, no earlier than that long from now. Only on channels without order.
    Retry {
        /// The least time until it comes again.
        after: Duration,
    },
    /// Not handled: it goes to another receiver, uncounted, in its old place. Only after [`crate::Receiver::stop`], or when its scope is revoked.
    Release,
    /// Failed, and kept by the portable layer until it is handed out again: remember the count, keep the token. The count stays when the delivery is
    /// released or lost after that.
    Held {
        /// The number of the attempt that comes next.
        attempt: u32,
    },
}

/// One delivery to settle, with room for the answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settle {
    /// The delivery.
    pub token: Token,
    /// What is to become of it.
    pub outcome: Outcome,
    /// The adapter's answer. An unanswered one counts as failed.
    pub result: Option<crate::Result<()>>,
}

impl Settle {
    /// A delivery to settle, unanswered.
    #[must_use]
    #[inline]
    pub const fn new(token: Token, outcome: Outcome) -> Self {
        Self { token, outcome, result: None }
    }
}

/// One lease to extend, with room for the answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Extend {
    /// The delivery.
    pub token: Token,
    /// The adapter's answer: the new end. An unanswered one counts as failed.
    pub result: Option<crate::Result<Instant>>,
}

impl Extend {
    /// A lease to extend, unanswered.
    #[must_use]
    #[inline]
    pub const fn new(token: Token) -> Self {
        Self { token, result: None }
    }
}

/// Values of any type, one of each: what only one broker knows about a delivery. Empty costs nothing.
#[derive(Default)]
pub struct Extensions(Vec<Box<dyn Any + Send + Sync>>);

impl Extensions {
    /// No values.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Puts a value in, in place of one of the same type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.retain(|v| !v.is::<T>());
        self.0.push(Box::new(value));
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of that type.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.iter().find_map(|v| v.downcast_ref())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.len())
    }
}
