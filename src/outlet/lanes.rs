use super::Entry;
use crate::Error;
use crate::adapter::{InFlightPerKey, Message, MessageKey};
use std::collections::HashMap;

/// Keeps the keys of an ordered channel in order while their messages are on their way.
///
/// A lane exists while its key has messages that are handed over and unanswered, or that wait to be handed over again.
#[derive(Debug)]
pub(super) struct Lanes {
    ordered: bool,
    in_flight: InFlightPerKey,
    lanes: HashMap<MessageKey, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    in_flight: usize,
    again: usize,
    accepted: Option<u64>,
    failed: Vec<(Entry, Error)>,
}

/// What is to become of the failed messages of one key, in their first order.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) again: Vec<(Entry, Error)>,
    pub(super) failed: Vec<(Entry, Error)>,
}

impl Lanes {
    pub(super) fn new(ordered: bool, in_flight: InFlightPerKey) -> Self {
        Self { ordered, in_flight, lanes: HashMap::new() }
    }

    pub(super) const fn adopt(&mut self, in_flight: InFlightPerKey) {
        self.in_flight = in_flight;
    }

    /// The key that orders this message, if one does.
    pub(super) fn key<'m>(&self, message: &'m Message) -> Option<&'m MessageKey> {
        if self.ordered { message.key() } else { None }
    }

    /// Whether two messages of one key must not be on their way at once.
    pub(super) fn holds_back(&self) -> bool {
        self.ordered && self.in_flight == InFlightPerKey::One
    }

    /// Failed messages whose lot is not decided yet, because later ones of their key are on their way.
    pub(super) fn undecided(&self) -> impl Iterator<Item = &Entry> {
        self.lanes.values().flat_map(|lane| &lane.failed).map(|(entry, _)| entry)
    }

    /// Tells the senders of such messages that they have failed. The messages stay where they are until their key is decided.
    pub(super) fn answer_where(&mut self, hit: impl Fn(&Entry) -> bool) {
        for (entry, error) in self.lanes.values_mut().flat_map(|lane| &mut lane.failed) {
            if entry.ticket.is_some() && hit(entry) {
                entry.fail(error.duplicate(), entry.message.clone());
            }
        }
    }

    /// Whether a new message of that key has to wait.
    pub(super) fn holds(&self, key: &MessageKey) -> bool {
        self.lanes.get(key).is_some_and(|lane| {
            self.in_flight == InFlightPerKey::One || lane.again > 0 || !lane.failed.is_empty()
        })
    }

    /// Whether a message that is sent again has to wait for others of its key.
    pub(super) fn holds_again(&self, key: &MessageKey) -> bool {
        let one = self.in_flight == InFlightPerKey::One;
        self.lanes.get(key).is_some_and(|lane| (one && lane.in_flight > 0) || !lane.failed.is_empty())
    }

    /// A message of that key is handed over, for the first time or again.
    pub(super) fn handed_over(&mut self, key: &MessageKey, again: bool) {
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.in_flight += 1;
        lane.again -= usize::from(again);
    }

    /// A message that waited to be sent again is given up.
    pub(super) fn given_up(&mut self, key: &MessageKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.again -= 1;
            self.tidy(key);
        }
    }

    pub(super) fn accepted(&mut self, key: &MessageKey, seq: u64) -> Verdict {
        let Some(lane) = self.lanes.get_mut(key) else {
            return Verdict::default();
        };
        lane.in_flight -= 1;
        lane.accepted = lane.accepted.max(Some(seq));
        self.decide(key)
    }

    pub(super) fn failed(&mut self, key: &MessageKey, entry: Entry, error: Error) -> Verdict {
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.in_flight -= 1;
        lane.failed.push((entry, error));
        self.decide(key)
    }

    /// Once no message of the key is on its way: the failed ones go again only when nothing later was accepted and none before them is given up.
    fn decide(&mut self, key: &MessageKey) -> Verdict {
        let mut verdict = Verdict::default();
        let Some(lane) = self.lanes.get_mut(key) else {
            return verdict;
        };
        if lane.in_flight > 0 {
            return verdict;
        }
        let mut failed = std::mem::take(&mut lane.failed);
        failed.sort_by_key(|(entry, _)| entry.seq);
        for (entry, error) in failed {
            let overtaken = lane.accepted > Some(entry.seq);
            if verdict.failed.is_empty() && !overtaken && entry.may_go_again(&error) {
                lane.again += 1;
                verdict.again.push((entry, error));
            } else {
                verdict.failed.push((entry, error));
            }
        }
        self.tidy(key);
        verdict
    }

    fn tidy(&mut self, key: &MessageKey) {
        if self.lanes.get(key).is_some_and(|l| l.in_flight == 0 && l.again == 0 && l.failed.is_empty()) {
            self.lanes.remove(key);
        }
    }
}
