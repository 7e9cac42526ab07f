use crate::adapter::{Extensions, Lease, Message, Received, Scope, Token};
use crate::{Error, ErrorKind};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// One delivery on its way through the portable layer, or in the application's hands. Boxed, since it is moved often, and used again.
#[derive(Debug)]
pub(crate) struct Parcel(Box<Contents>);

#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) message: Message,
    pub(crate) token: Token,
    pub(crate) attempt: u32,
    pub(crate) tie: Arc<Tie>,
    /// Its place in the order of arrival; unique within a consumer.
    pub(super) order: u64,
    pub(super) size: usize,
    // What most deliveries lack.
    rare: Option<Box<Rare>>,
}

#[derive(Debug)]
struct Rare {
    undecodable: Option<Error>,
    extensions: Extensions,
}

impl Deref for Parcel {
    type Target = Contents;
    fn deref(&self) -> &Contents {
        &self.0
    }
}

impl DerefMut for Parcel {
    fn deref_mut(&mut self) -> &mut Contents {
        &mut self.0
    }
}

impl Parcel {
    /// An empty parcel, to be filled.
    pub(super) fn empty(tie: &Arc<Tie>) -> Self {
        Self(Box::new(Contents {
            message: Message::default(),
            token: Token::number(0),
            attempt: 1,
            tie: Arc::clone(tie),
            order: 0,
            size: 0,
            rare: None,
        }))
    }

    /// Fills an empty parcel in place.
    pub(super) fn fill(&mut self, mut received: Received, tie: &Arc<Tie>, order: u64) {
        let extensions = received.take_extensions();
        let undecodable = match received.content {
            Ok(message) => {
                self.message = message;
                None
            }
            Err(undecodable) => {
                self.message = Message::new(undecodable.raw);
                Some(undecodable.error)
            }
        };
        if extensions.is_some() || undecodable.is_some() {
            self.rare = Some(Box::new(Rare { undecodable, extensions: extensions.unwrap_or_default() }));
        }
        self.size = self.message.size();
        self.token = received.token;
        self.attempt = received.attempt.unwrap_or(1);
        self.order = order;
        if !Arc::ptr_eq(&self.tie, tie) {
            self.tie = Arc::clone(tie);
        }
    }

    /// Lets go of the message, so that an empty parcel that waits to be used again keeps nothing alive.
    pub(super) fn clear(&mut self) {
        self.message = Message::default();
        self.rare = None;
    }

    /// Another of the same delivery, of which only one may be settled. It lacks what is only for looking at.
    pub(crate) fn copy(&self) -> Self {
        Self(Box::new(Contents {
            message: self.message.clone(),
            token: self.token.clone(),
            attempt: self.attempt,
            tie: Arc::clone(&self.tie),
            order: self.order,
            size: self.size,
            rare: None,
        }))
    }

    /// What is wrong with a record that could not be translated.
    pub(crate) fn undecodable(&self) -> Option<&Error> {
        self.rare.as_ref()?.undecodable.as_ref()
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        static NONE: Extensions = Extensions::new();
        self.rare.as_ref().map_or(&NONE, |rare| &rare.extensions)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.tie.is_lost()
    }
}

/// What deliveries are lost together with: a scope, or one leased delivery.
pub(crate) struct Tie {
    pub(super) scope: Scope,
    lost: AtomicBool,
    revoking: AtomicBool,
    gone: Notify,
    // Changed under the consumer's lock only; atomic because the tie is shared.
    unsettled: AtomicUsize,
    bytes: AtomicUsize,
    running: AtomicUsize,
}

impl Tie {
    pub(super) fn new(scope: Scope) -> Arc<Self> {
        Arc::new(Self {
            scope,
            lost: AtomicBool::new(false),
            revoking: AtomicBool::new(false),
            gone: Notify::new(),
            unsettled: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
        })
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Resolves when it is lost.
    pub(crate) async fn lost(self: Arc<Self>) {
        let mut gone = std::pin::pin!(self.gone.notified());
        // Registered before the look, so that a loss in between is not missed.
        gone.as_mut().enable();
        if !self.is_lost() {
            gone.await;
        }
    }

    /// Marks it lost; says how many deliveries and bytes are gone with it.
    pub(super) fn lose(&self) -> (usize, usize) {
        self.lost.store(true, Ordering::Release);
        self.gone.notify_waiters();
        (self.unsettled.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }

    pub(super) fn add(&self, size: usize) {
        change(&self.unsettled, |n| n + 1);
        change(&self.bytes, |n| n + size);
    }

    pub(super) fn subtract(&self, size: usize) {
        change(&self.unsettled, |n| n - 1);
        change(&self.bytes, |n| n - size);
    }

    pub(super) fn begin(&self) {
        change(&self.running, |n| n + 1);
    }

    pub(super) fn end(&self) {
        change(&self.running, |n| n - 1);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    pub(super) fn revoke(&self) {
        self.revoking.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_revoking(&self) -> bool {
        self.revoking.load(Ordering::Relaxed)
    }
}

/// Changes a counter that only the holder of the consumer's lock changes: no locked instruction is needed.
fn change(counter: &AtomicUsize, by: impl FnOnce(usize) -> usize) {
    counter.store(by(counter.load(Ordering::Relaxed)), Ordering::Relaxed);
}

impl fmt::Debug for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tie")
            .field("scope", &self.scope)
            .field("lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

/// A leased delivery, for its extensions.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) token: Token,
    pub(super) tie: Arc<Tie>,
    pub(super) lease: Lease,
    /// When to extend it; past the lease's end when it cannot be extended.
    pub(super) due: std::time::Instant,
}

pub(super) fn lease_lost() -> Error {
    Error::new(ErrorKind::LeaseLost, "the delivery belongs to this consumer no more; it comes again")
        .with_operation("settle")
        .with_help("handle messages in less time, or make handling twice harmless")
}
