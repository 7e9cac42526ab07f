use crate::adapter::{Message, MessageId, MessageKey, SendOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was sent and what arrived, every copy of it, and the judges over both.
///
/// Nothing is deduplicated on the way in: a copy too many is as visible as one too few. Cheap to clone; all clones are one history.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    sent: Vec<Sent>,
    arrivals: Vec<Arrival>,
}

/// A message that was sent, in the order in which its producer sent it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sent {
    /// Its id as text.
    pub id: String,
    /// Its key.
    pub key: Option<MessageKey>,
    /// Who sent it.
    pub producer: String,
    /// `None` when it was accepted, else what the error said.
    pub outcome: Option<SendOutcome>,
}

/// One copy of a message that arrived, in the order of time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Arrival {
    /// Its id as text; empty when it came without one.
    pub id: String,
    /// The queue it came through: a channel or a subscription.
    pub subscription: String,
    /// Who received it.
    pub consumer: String,
    /// The number of the attempt, where known.
    pub attempt: Option<u32>,
}

impl History {
    /// Nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes what became of a message that was sent. Called in the order of one producer's sends.
    pub fn sent(&self, producer: &str, message: &Message, outcome: Option<SendOutcome>) {
        self.record().sent.push(Sent {
            id: text(message.id()),
            key: message.key().cloned(),
            producer: producer.to_owned(),
            outcome,
        });
    }

    /// Notes one copy that arrived.
    pub fn arrived(&self, subscription: &str, consumer: &str, message: &Message, attempt: Option<u32>) {
        self.record().arrivals.push(Arrival {
            id: text(message.id()),
            subscription: subscription.to_owned(),
            consumer: consumer.to_owned(),
            attempt,
        });
    }

    /// How many copies have arrived, over all subscriptions.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.record().arrivals.len()
    }

    /// How many different messages have arrived on that subscription.
    #[must_use]
    pub fn distinct(&self, subscription: &str) -> usize {
        let record = self.record();
        let ids: BTreeSet<&str> = record.arrivals_on(subscription).map(|a| a.id.as_str()).collect();
        ids.len()
    }

    /// How many messages were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.record().sent.iter().filter(|s| s.outcome.is_none()).count()
    }

    /// How many messages were not accepted.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.record().sent.iter().filter(|s| s.outcome.is_some()).count()
    }

    /// Whether each accepted message has arrived on each of these subscriptions, at least once.
    #[must_use]
    pub fn is_complete(&self, subscriptions: &[&str]) -> bool {
        self.nothing_lost(subscriptions).is_ok()
    }

    /// Each accepted message arrived on each of these subscriptions exactly once, and nothing else arrived.
    ///
    /// # Errors
    /// The ids that are missing, too many, or unknown.
    pub fn exact_copies(&self, subscriptions: &[&str]) -> Result<(), String> {
        self.nothing_lost(subscriptions)?;
        self.nothing_made_up()?;
        let extra = self.duplicates();
        if extra.is_empty() {
            return Ok(());
        }
        let extra = extra.iter().map(|((on, id), copies)| format!("{id} ×{copies} on {on}"));
        Err(format!("arrived more than once: {}", list(extra)))
    }

    /// Each accepted message arrived on each of these subscriptions at least once.
    ///
    /// # Errors
    /// The ids that are missing.
    pub fn nothing_lost(&self, subscriptions: &[&str]) -> Result<(), String> {
        let record = self.record();
        for on in subscriptions {
            let there: BTreeSet<&str> = record.arrivals_on(on).map(|a| a.id.as_str()).collect();
            let lost: Vec<&str> = record
                .sent
                .iter()
                .filter(|s| s.outcome.is_none() && !there.contains(s.id.as_str()))
                .map(|s| s.id.as_str())
                .collect();
            if !lost.is_empty() {
                return Err(format!(
                    "accepted and never arrived on {on}: {} ({} of {} accepted)",
                    list(lost.iter()),
                    lost.len(),
                    record.sent.iter().filter(|s| s.outcome.is_none()).count(),
                ));
            }
        }
        Ok(())
    }

    /// Nothing arrived that was never sent, or whose sending had failed for certain.
    ///
    /// # Errors
    /// The ids that came from nowhere.
    pub fn nothing_made_up(&self) -> Result<(), String> {
        let record = self.record();
        let possible: BTreeSet<&str> = record
            .sent
            .iter()
            .filter(|s| matches!(s.outcome, None | Some(SendOutcome::Unknown)))
            .map(|s| s.id.as_str())
            .collect();
        let unknown: BTreeSet<&str> =
            record.arrivals.iter().map(|a| a.id.as_str()).filter(|id| !possible.contains(id)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(format!("arrived and should not have: {}", list(unknown.iter())))
    }

    /// On each subscription, the messages of one producer and one key arrived in the order in which they were sent, judged by the first copy of
    /// each. Messages that did not arrive are not missed here.
    ///
    /// # Errors
    /// The key, and the two sequences.
    pub fn order_per_key(&self) -> Result<(), String> {
        let record = self.record();
        let mut lines: BTreeMap<(&str, Option<&MessageKey>), Vec<&str>> = BTreeMap::new();
        for sent in &record.sent {
            let line = lines.entry((sent.producer.as_str(), sent.key.as_ref())).or_default();
            line.push(sent.id.as_str());
        }
        let queues: BTreeSet<&str> = record.arrivals.iter().map(|a| a.subscription.as_str()).collect();
        for on in queues {
            let mut first = BTreeMap::new();
            for (position, arrival) in record.arrivals_on(on).enumerate() {
                first.entry(arrival.id.as_str()).or_insert(position);
            }
            for ((producer, key), line) in &lines {
                let sent: Vec<&str> = line.iter().copied().filter(|id| first.contains_key(id)).collect();
                let mut arrived = sent.clone();
                arrived.sort_by_key(|id| first[id]);
                if let Some(at) = sent.iter().zip(&arrived).position(|(s, a)| s != a) {
                    let near = at.saturating_sub(2)..(at + 6).min(sent.len());
                    return Err(format!(
                        "out of order on {on}, producer {producer}, key {key:?}, from message {at}: sent … {}; arrived … {}",
                        sent[near.clone()].join(" "),
                        arrived[near].join(" "),
                    ));
                }
            }
        }
        Ok(())
    }

    /// What arrived more than once: how many copies of each id on each subscription.
    #[must_use]
    pub fn duplicates(&self) -> BTreeMap<(String, String), usize> {
        let mut copies = BTreeMap::new();
        for arrival in &self.record().arrivals {
            *copies.entry((arrival.subscription.clone(), arrival.id.clone())).or_insert(0) += 1;
        }
        copies.retain(|_, count| *count > 1);
        copies
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn arrivals_on(&self, subscription: &str) -> impl Iterator<Item = &Arrival> {
        self.arrivals.iter().filter(move |a| a.subscription == subscription)
    }
}

fn text(id: Option<&MessageId>) -> String {
    id.map(ToString::to_string).unwrap_or_default()
}

/// The first few, and how many more there are.
fn list<T: std::fmt::Display>(ids: impl ExactSizeIterator<Item = T>) -> String {
    const SHOWN: usize = 12;
    let count = ids.len();
    let mut text = String::new();
    for id in ids.take(SHOWN) {
        let _ = write!(text, "{}{id}", if text.is_empty() { "" } else { ", " });
    }
    if count > SHOWN {
        let _ = write!(text, " and {} more", count - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, key: &str) -> Message {
        Message::new("").with_id(id).with_key(key)
    }

    fn history(sent: &[(&str, &str)], arrived: &[&str]) -> History {
        let history = History::new();
        for (id, key) in sent {
            history.sent("p", &message(id, key), None);
        }
        for id in arrived {
            history.arrived("q", "c", &message(id, ""), Some(1));
        }
        history
    }

    #[test]
    fn one_too_few_is_seen() {
        let report = history(&[("1", "a"), ("2", "a")], &["1"]).exact_copies(&["q"]);
        assert!(report.is_err_and(|r| r.contains("never arrived on q: 2 (1 of 2")));
    }

    #[test]
    fn one_too_many_is_seen() {
        let history = history(&[("1", "a")], &["1", "1"]);
        assert!(history.nothing_lost(&["q"]).is_ok());
        assert!(history.exact_copies(&["q"]).is_err_and(|r| r.contains("1 ×2")));
    }

    #[test]
    fn what_nobody_sent_is_seen() {
        assert!(history(&[("1", "a")], &["1", "9"]).exact_copies(&["q"]).is_err());
        let refused = History::new();
        refused.sent("p", &message("1", "a"), Some(SendOutcome::Refused));
        refused.arrived("q", "c", &message("1", "a"), None);
        assert!(refused.nothing_made_up().is_err());
    }

    #[test]
    fn order_is_of_first_copies_and_per_key() {
        let sent = [("1", "a"), ("2", "a"), ("x", "b")];
        assert!(history(&sent, &["x", "1", "2", "1"]).order_per_key().is_ok());
        let swapped = history(&sent, &["2", "1", "x"]).order_per_key();
        assert!(swapped.is_err_and(|r| r.contains("arrived … 2 1")));
    }
}
