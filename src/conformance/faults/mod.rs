//! A network that fails on command, between the portable layer and any adapter.

mod adapter;
mod receiver;
mod sender;

use crate::adapter::{
    Adapter, BoxFuture, Capabilities, Capability, Error, ErrorKind, InFlightPerKey, MessageId, SendOutcome,
};
use adapter::Faulty;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The switches of a network that fails on command. Every adapter put [`Faults::over`] obeys them at once.
///
/// It keeps the rules that brokers keep: what is on its way over one connection is lost from some point on, never in the middle; deliveries that were
/// out when a connection died come again. Cheap to clone; all clones are the same switches.
#[derive(Clone)]
pub struct Faults(watch::Sender<State>);

#[derive(Default)]
struct State {
    lines: u64,
    cuts: u64,
    killed: BTreeSet<u64>,
    is_down: bool,
    is_stalled: bool,
    /// How many more messages reach the broker, unanswered.
    swallow_after: Option<usize>,
    refused: BTreeMap<MessageId, (ErrorKind, SendOutcome)>,
    garbled: BTreeSet<MessageId>,
    revoked: Option<Duration>,
    revocations: u64,
    losses: u64,
    without: BTreeSet<Capability>,
    fails_in_part: bool,
}

impl Faults {
    /// Everything works.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    /// The adapter, reached through this network.
    #[must_use]
    pub fn over(&self, adapter: Arc<dyn Adapter>) -> Arc<dyn Adapter> {
        Arc::new(Faulty::new(adapter, self.clone(), self.line()))
    }

    /// The same, with what kills this one client: its connection is gone for good, without a word to the broker.
    #[must_use]
    pub fn over_mortal(&self, adapter: Arc<dyn Adapter>) -> (Arc<dyn Adapter>, BoxFuture<'static, ()>) {
        let line = self.line();
        let switches = self.0.clone();
        let kill = async move {
            switches.send_if_modified(|state| state.killed.insert(line));
        };
        (Arc::new(Faulty::new(adapter, self.clone(), line)), Box::pin(kill))
    }

    /// Ends every open handle. New ones work, unless the network is down. Also ends [`Faults::swallow_after`].
    pub fn cut(&self) {
        self.0.send_modify(|state| {
            state.cuts += 1;
            state.swallow_after = None;
        });
    }

    /// Ends every open handle, and nothing can be opened until [`Faults::up`].
    pub fn down(&self) {
        self.0.send_modify(|state| state.is_down = true);
        self.cut();
    }

    /// Handles can be opened again.
    pub fn up(&self) {
        self.0.send_modify(|state| state.is_down = false);
    }

    /// Nothing goes through in either direction, and no connection ends.
    pub fn stall(&self) {
        self.0.send_modify(|state| state.is_stalled = true);
    }

    /// Everything goes through again, also what waited.
    pub fn resume(&self) {
        self.0.send_modify(|state| state.is_stalled = false);
    }

    /// `messages` more messages reach the broker and none that is sent after them; no answer comes back. Until the next [`Faults::cut`].
    pub fn swallow_after(&self, messages: usize) {
        self.0.send_modify(|state| state.swallow_after = Some(messages));
    }

    /// The next time that this message is sent, it fails like that and does not reach the broker; its neighbours do. From now on the network
    /// takes one message of a key at a time, as brokers do whose batches fail in part.
    pub fn refuse(&self, id: impl Into<MessageId>, kind: ErrorKind, outcome: SendOutcome) {
        self.0.send_modify(|state| {
            state.refused.insert(id.into(), (kind, outcome));
            state.fails_in_part = true;
        });
    }

    /// This message arrives as a record that cannot be translated.
    pub fn garble(&self, id: impl Into<MessageId>) {
        self.0.send_if_modified(|state| state.garbled.insert(id.into()));
    }

    /// Tells every open receiver that its scopes go after that time. They go once released, and are lost when the time is over.
    pub fn revoke_scopes(&self, after: Duration) {
        self.0.send_modify(|state| {
            state.revoked = Some(after);
            state.revocations += 1;
        });
    }

    /// Takes the scopes of every open receiver away at once; what they had unsettled goes to others.
    pub fn lose_scopes(&self) {
        self.0.send_modify(|state| state.losses += 1);
    }

    /// The adapter does not have that capability any more.
    pub fn without(&self, capability: Capability) {
        self.0.send_if_modified(|state| state.without.insert(capability));
    }

    fn line(&self) -> u64 {
        let mut line = 0;
        self.0.send_modify(|state| {
            state.lines += 1;
            line = state.lines;
        });
        line
    }

    fn narrowed(&self, mut capabilities: Capabilities) -> Capabilities {
        let state = self.0.borrow();
        for capability in &state.without {
            capabilities = capabilities.without(*capability, "lacks", "use another broker");
        }
        if state.fails_in_part {
            capabilities.in_flight_per_key = InFlightPerKey::One;
        }
        capabilities
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

/// One handle's view of the network: it dies with the next cut, or with its line.
#[derive(Clone)]
struct Connected {
    faults: Faults,
    line: u64,
    cuts: u64,
}

impl Connected {
    fn new(faults: &Faults, line: u64) -> Self {
        Self { faults: faults.clone(), line, cuts: faults.0.borrow().cuts }
    }

    fn is_dead(&self, state: &State) -> bool {
        state.cuts > self.cuts || state.killed.contains(&self.line)
    }

    fn is_dead_now(&self) -> bool {
        self.is_dead(&self.faults.0.borrow())
    }

    /// Resolves when the connection dies.
    async fn death(&self) {
        self.wait(|state| self.is_dead(state)).await;
    }

    /// Resolves when the network lets something through, with whether the connection still lives.
    async fn passes(&self) -> bool {
        self.wait(|state| self.is_dead(state) || !state.is_stalled).await;
        !self.is_dead_now()
    }

    async fn wait(&self, holds: impl Fn(&State) -> bool + Send + Sync) {
        // The sender of the state is in `self`, so waiting cannot fail.
        let _ = self.faults.0.subscribe().wait_for(|state| holds(state)).await;
    }
}

fn disconnected() -> Error {
    Error::new(ErrorKind::Disconnected, "the connection was cut")
}
