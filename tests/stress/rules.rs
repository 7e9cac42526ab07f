//! What the contract asks of the portable layer, as notes that an adapter takes.

use crate::history::History;
use anybroker::adapter::{Message, MessageKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Notes that a rule of the contract was broken.
pub(crate) fn broken(history: &History, rule: &str) {
    history.fault(format_args!("RULE: {rule}"));
}

/// Stands in a future that must not be dropped before its end.
pub(crate) struct Pending {
    history: History,
    what: &'static str,
    has_ended: bool,
}

impl Pending {
    pub(crate) const fn new(history: History, what: &'static str) -> Self {
        Self { history, what, has_ended: false }
    }

    pub(crate) fn ended(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.has_ended {
            broken(&self.history, &format!("{} is dropped while it is pending", self.what));
        }
    }
}

/// The keys that one sender has on their way, where there may be one message of each.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<MessageKey, usize>>>);

/// A batch on its way, until it is dropped.
pub(crate) struct Flight {
    keys: Vec<MessageKey>,
    flights: Flights,
}

impl Flights {
    pub(crate) fn depart(&self, batch: &[Message], history: &History) -> Flight {
        let keys: Vec<_> = batch.iter().filter_map(Message::key).cloned().collect();
        let mut counts = self.0.lock().unwrap();
        for key in &keys {
            let count = counts.entry(key.clone()).or_default();
            *count += 1;
            if *count > 1 {
                broken(history, "two messages of a key are on their way at once");
            }
        }
        Flight { keys, flights: self.clone() }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut counts = self.flights.0.lock().unwrap();
        for key in &self.keys {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
            }
        }
    }
}
