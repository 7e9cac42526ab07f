use crate::Result;
use crate::adapter::{BoxFuture, Clock, MessageId, SystemClock};
use crate::clock::later;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Remembers which messages were handled, so that one that comes again is not: the idempotent receiver. See
/// [`Policy::discard_duplicates`](super::Policy::discard_duplicates).
///
/// Messages are known by their ids, apart for each channel or subscription.
#[doc(alias = "inbox")]
pub trait DuplicateStore: fmt::Debug + Send + Sync {
    /// Asks to handle the message, on behalf of all that share the store.
    ///
    /// # Errors
    /// What is wrong with the store. The message waits, and it is asked again after a while.
    fn begin<'a>(&'a self, receiver: &'a str, id: &'a MessageId) -> BoxFuture<'a, Result<Claim>>;
}

/// Whether a message is to be handled.
#[non_exhaustive]
pub enum Claim {
    /// It is new, and nobody else handles it until this is done or dropped.
    New(Box<dyn Handling>),
    /// Somebody is handling it. The message waits until that is decided.
    InProgress,
    /// It was handled: a duplicate.
    Done,
}

/// A message that is being handled. Dropped, it was not, and may be begun again.
pub trait Handling: Send {
    /// It was handled. Comes before the message is acknowledged.
    ///
    /// # Errors
    /// What is wrong with the store; the message then comes again, and is handled again.
    fn done(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// Remembers in memory the last messages that were handled, for some time. Clones are one.
///
/// # Guarantees
/// It knows the duplicates that come to this process while it remembers: those of a lost connection or lease, of a producer that sent again. After a
/// crash or restart it knows none, and other processes have their own.
///
/// ```
/// use anybroker::service::{MemoryDuplicates, Policy};
/// use std::time::Duration;
///
/// let seen = MemoryDuplicates::new(100_000, Duration::from_secs(3600));
/// let policy = Policy::new().discard_duplicates(seen);
/// # let _ = policy;
/// ```
#[derive(Clone)]
pub struct MemoryDuplicates(Arc<Memory>);

struct Memory {
    messages: usize,
    time_to_live: Duration,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Whether it was handled, or is being.
    states: HashMap<Key, bool>,
    /// Those that were handled, the oldest first, and when they are forgotten.
    done: VecDeque<(Key, Instant)>,
}

type Key = (Arc<str>, MessageId);

impl MemoryDuplicates {
    /// Remembers at most so many messages, each for so long; what is being handled comes on top.
    #[must_use]
    pub fn new(messages: usize, time_to_live: Duration) -> Self {
        Self::with_clock(messages, time_to_live, Arc::new(SystemClock::new()))
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(messages: usize, time_to_live: Duration, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Memory { messages, time_to_live, clock, seen: Mutex::default() }))
    }
}

impl DuplicateStore for MemoryDuplicates {
    fn begin<'a>(&'a self, receiver: &'a str, id: &'a MessageId) -> BoxFuture<'a, Result<Claim>> {
        let claim = self.0.begin((receiver.into(), id.clone())).map_or_else(
            |done| if done { Claim::Done } else { Claim::InProgress },
            |key| Claim::New(Box::new(InMemory { memory: Arc::clone(&self.0), key: Some(key) })),
        );
        Box::pin(std::future::ready(Ok(claim)))
    }
}

impl Memory {
    /// Takes note of the message, or says whether it was handled already.
    fn begin(&self, key: Key) -> std::result::Result<Key, bool> {
        let mut seen = self.lock();
        seen.forget(self.messages, self.clock.now());
        if let Some(done) = seen.states.get(&key) {
            return Err(*done);
        }
        seen.states.insert(key.clone(), false);
        Ok(key)
    }

    fn done(&self, key: Key) {
        let now = self.clock.now();
        let mut seen = self.lock();
        seen.states.insert(key.clone(), true);
        seen.done.push_back((key, later(now, self.time_to_live)));
        seen.forget(self.messages, now);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn forget(&mut self, most: usize, now: Instant) {
        while let Some((key, until)) = self.done.front()
            && (self.done.len() > most || *until <= now)
        {
            self.states.remove(key);
            self.done.pop_front();
        }
    }
}

struct InMemory {
    memory: Arc<Memory>,
    /// Present until it is decided.
    key: Option<Key>,
}

impl Handling for InMemory {
    fn done(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        if let Some(key) = self.key.take() {
            self.memory.done(key);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.memory.lock().states.remove(key);
        }
    }
}

impl fmt::Debug for MemoryDuplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDuplicates")
            .field("remembered", &self.0.lock().done.len())
            .field("messages", &self.0.messages)
            .field("time_to_live", &self.0.time_to_live)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New(_) => "New",
            Self::InProgress => "InProgress",
            Self::Done => "Done",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{ManualClock, Timestamp};

    const LONG: Duration = Duration::from_secs(60);

    async fn begin(store: &MemoryDuplicates, id: &str) -> Claim {
        store.begin("orders", &id.into()).await.unwrap()
    }

    async fn handle(store: &MemoryDuplicates, id: &str) {
        let Claim::New(handling) = begin(store, id).await else { panic!("{id} is not new") };
        handling.done().await.unwrap();
    }

    #[tokio::test]
    async fn a_message_is_in_progress_and_then_done_or_new_again() {
        let store = MemoryDuplicates::new(10, LONG);
        let first = begin(&store, "1").await;
        assert!(matches!(begin(&store, "1").await, Claim::InProgress));
        drop(first);
        handle(&store, "1").await;
        assert!(matches!(begin(&store, "1").await, Claim::Done));
        assert!(matches!(store.begin("events/kitchen", &"1".into()).await, Ok(Claim::New(_))));
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_and_those_whose_time_is_over() {
        let clock = ManualClock::at(Timestamp::from_millis(0));
        let store = MemoryDuplicates::with_clock(2, LONG, Arc::new(clock.clone()));
        let running = begin(&store, "0").await;
        for id in ["1", "2", "3"] {
            handle(&store, id).await;
        }
        assert!(matches!(begin(&store, "1").await, Claim::New(_)));
        assert!(matches!(begin(&store, "2").await, Claim::Done));
        assert!(matches!(begin(&store, "0").await, Claim::InProgress));
        clock.advance(LONG);
        assert!(matches!(begin(&store, "2").await, Claim::New(_)));
        assert!(matches!(begin(&store, "0").await, Claim::InProgress));
        drop(running);
        assert_eq!(store.0.lock().states.len(), 0);
    }
}
