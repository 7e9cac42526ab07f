use crate::{Error, Scope};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// What an open handle tells the portable layer between calls.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The broker takes nothing for now; sends wait.
    Blocked {
        /// The broker's reason.
        reason: String,
    },
    /// The broker takes messages again.
    Unblocked,
    /// The client, which reconnects by itself, has lost its connection.
    Reconnecting {
        /// Why.
        error: Error,
    },
    /// The connection is there (again).
    Connected,
    /// Receiving is paused, for a reason that is not the portable layer's.
    Paused {
        /// The reason.
        reason: String,
    },
    /// Messages were missed and cannot be had any more.
    Gap {
        /// How many, if known.
        messages: Option<u64>,
    },
    /// The scope goes to another consumer at the deadline: finish, settle, then [`crate::Receiver::release`] it. At the deadline the adapter takes it,
    /// and reports [`Event::Lost`].
    Revoking {
        /// The scope that goes.
        scope: Scope,
        /// Until when settling still counts.
        deadline: Instant,
    },
    /// The scope is gone: nothing of it can be settled any more.
    Lost {
        /// The scope that is gone.
        scope: Scope,
    },
}

/// Where an adapter reports its [`Event`]s. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// A sink that calls `report`, which must not block.
    pub fn new(report: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// A sink that nobody reads, for tests.
    #[must_use]
    pub fn ignored() -> Self {
        Self::new(|_| {})
    }

    /// Reports an event. May be called from any thread, also with the adapter's own locks held: the sink never calls back.
    pub fn report(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
