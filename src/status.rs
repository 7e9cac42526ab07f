//! How brokers and consumers are doing, and what closing has left.

pub use crate::closing::Closed;
pub use crate::inlet::ConsumerStatus;

use crate::adapter::Event;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// How a broker, or one consumer, is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum State {
    /// All is well.
    #[default]
    Connected,
    /// Connected, and nothing moves: the broker takes nothing, or a dead letter cannot be stored.
    Stalled,
    /// The connection is lost and being made anew.
    Reconnecting,
    /// Closed for good.
    Closed,
}

/// How every broker is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// By the broker's name in the configuration.
    pub brokers: BTreeMap<String, BrokerStatus>,
}

/// How one broker is doing: the worst of its open handles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStatus {
    /// The state.
    pub state: State,
    /// Why it is not [`State::Connected`].
    pub reason: Option<String>,
}

/// Collects the states of all handles and publishes the worst of each broker.
#[derive(Clone, Debug)]
pub(crate) struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handles: Mutex<Handles>,
    publish: watch::Sender<Status>,
}

#[derive(Debug, Default)]
struct Handles {
    next: u64,
    states: HashMap<u64, (Arc<str>, BrokerStatus)>,
    closed: bool,
}

impl Board {
    pub(crate) fn new<'a>(brokers: impl Iterator<Item = &'a str>) -> Self {
        let brokers = brokers.map(|name| (name.to_owned(), BrokerStatus::default())).collect();
        let publish = watch::Sender::new(Status { brokers });
        Self(Arc::new(Inner { handles: Mutex::default(), publish }))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.0.publish.subscribe()
    }

    /// A handle of that broker, connected until it says otherwise.
    pub(crate) fn handle(&self, broker: &Arc<str>, what: String) -> HandleStatus {
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.next += 1;
        let id = handles.next;
        handles.states.insert(id, (Arc::clone(broker), BrokerStatus::default()));
        HandleStatus { board: self.clone(), id, broker: Arc::clone(broker), what }
    }

    /// From now on every broker is closed, whatever its handles say.
    pub(crate) fn close(&self) {
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.closed = true;
        self.0.publish.send_modify(|status| {
            for broker in status.brokers.values_mut() {
                *broker = BrokerStatus { state: State::Closed, reason: None };
            }
        });
    }

    fn publish(&self, broker: &Arc<str>, handles: &Handles) {
        if handles.closed {
            return;
        }
        let worst = handles
            .states
            .values()
            // A handle that the application has closed says nothing about the broker.
            .filter(|(name, status)| name == broker && status.state != State::Closed)
            .map(|(_, status)| status)
            .max_by_key(|status| status.state)
            .cloned()
            .unwrap_or_default();
        self.0.publish.send_if_modified(|status| {
            let now = status.brokers.entry(broker.to_string()).or_default();
            let changed = *now != worst;
            *now = worst;
            changed
        });
    }
}

/// Where one handle reports its state.
#[derive(Debug)]
pub(crate) struct HandleStatus {
    board: Board,
    id: u64,
    broker: Arc<str>,
    what: String,
}

impl HandleStatus {
    /// Reports a change, once, to the log and to whoever watches.
    pub(crate) fn set(&self, state: State, reason: Option<String>) {
        let status = BrokerStatus { state, reason };
        let before = {
            let mut handles = self.board.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
            let Some((_, now)) = handles.states.get_mut(&self.id) else { return };
            if *now == status {
                return;
            }
            let before = std::mem::replace(now, status.clone()).state;
            self.board.publish(&self.broker, &handles);
            before
        };
        // After the lock: a subscriber of the log may use the broker itself.
        if before != state {
            match status.reason {
                None => tracing::info!(broker = %self.broker, "{}: {state:?}", self.what),
                Some(reason) => tracing::warn!(broker = %self.broker, reason, "{}: {state:?}", self.what),
            }
        }
    }

    /// Reports what an adapter has reported.
    pub(crate) fn on_event(&self, event: Event) {
        match event {
            Event::Blocked { reason } | Event::Paused { reason } => self.set(State::Stalled, Some(reason)),
            Event::Reconnecting { error } => self.set(State::Reconnecting, Some(error.to_string())),
            Event::Unblocked | Event::Connected => self.set(State::Connected, None),
            _ => {}
        }
    }

    pub(crate) fn state(&self) -> State {
        let handles = self.board.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.states.get(&self.id).map_or(State::Closed, |(_, status)| status.state)
    }
}

impl Drop for HandleStatus {
    fn drop(&mut self) {
        let mut handles = self.board.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.states.remove(&self.id);
        self.board.publish(&self.broker, &handles);
    }
}
