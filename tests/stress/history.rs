//! What has happened in one run, and what of it should not have.

use crate::plan::Plan;
use anybroker::adapter::MessageKey;
use anybroker::conformance;
use anybroker::message::{Receipt, SendOutcome};
use anybroker::{Message, Result};
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};

/// The queue whose arrivals are judged: there is only one.
const QUEUE: &str = "orders";

/// Cheap to clone; all clones are one history.
#[derive(Clone, Debug)]
pub(crate) struct History {
    plan: Plan,
    /// Every copy that was handed out.
    handed_out: conformance::History,
    /// Where messages ended: acknowledged, in the dead letters, or still there at the end.
    ended: conformance::History,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    /// The ids of messages that were settled for good, with the broker's word.
    settled: HashSet<String>,
    /// What is out of each key.
    out: HashMap<MessageKey, String>,
    faults: Vec<String>,
}

impl History {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            handed_out: conformance::History::new(),
            ended: conformance::History::new(),
            record: Arc::default(),
        }
    }

    /// Notes something that should never be. Its first word says what kind of fault it is.
    pub(crate) fn fault(&self, what: impl Display) {
        const ENOUGH: usize = 50;
        let mut record = self.record();
        if record.faults.len() < ENOUGH {
            record.faults.push(what.to_string());
        }
    }

    /// Notes what became of a message that was sent. Called in the order of one producer's sends.
    pub(crate) fn sent(&self, producer: &str, message: &Message, result: &Result<Receipt>) {
        // The library says `Unknown` where it does not know, and so does an error that says nothing.
        let outcome = result.as_ref().err().map(|error| error.outcome().unwrap_or(SendOutcome::Unknown));
        self.handed_out.sent(producer, message, outcome);
        self.ended.sent(producer, message, outcome);
    }

    /// Notes a copy that a consumer was handed.
    pub(crate) fn received(&self, consumer: &str, message: &Message, attempt: Option<u32>) {
        self.handed_out.arrived(QUEUE, consumer, message, attempt);
        if self.plan.takes_away() {
            return;
        }
        let id = id(message);
        let mut record = self.record();
        if record.settled.contains(&id) {
            record.faults.push(format!("AGAIN: {id}, after its settlement was done"));
        }
        if let (true, Some(key)) = (self.plan.ordered, message.key())
            && let Some(other) = record.out.insert(key.clone(), id.clone())
        {
            record.faults.push(format!("TWO OUT: {id} while {other} is"));
        }
    }

    /// Notes that a consumer is about to settle or drop a delivery.
    pub(crate) fn settles(&self, message: &Message) {
        if let Some(key) = message.key() {
            self.record().out.remove(key);
        }
    }

    /// Notes that a consumer is about to acknowledge a delivery: from here on the message may be gone.
    pub(crate) fn acknowledges(&self, message: &Message) {
        self.settles(message);
        self.ended.arrived(QUEUE, "consumer", message, None);
    }

    /// Notes that the broker has a settlement, after which the message never comes again.
    pub(crate) fn settled(&self, message: &Message) {
        self.record().settled.insert(id(message));
    }

    /// Notes a message that was still in the queue when all consumers had left.
    pub(crate) fn left(&self, message: &Message) {
        self.ended.arrived(QUEUE, "queue", message, None);
        let id = id(message);
        let mut record = self.record();
        if !self.plan.takes_away() && record.settled.contains(&id) {
            record.faults.push(format!("AGAIN: {id}, after its settlement was done"));
        }
    }

    /// Notes a message that was in the dead letters.
    pub(crate) fn buried(&self, message: &Message) {
        self.ended.arrived(QUEUE, "dead letters", message, None);
    }

    /// Whether all that was accepted has been handed out.
    pub(crate) fn is_handed_out(&self) -> bool {
        self.handed_out.is_complete(&[QUEUE])
    }

    /// Whether it is known of all that was accepted where it ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_complete(&[QUEUE])
    }

    /// Everything that is wrong, one a line.
    pub(crate) fn judge(&self) -> Vec<String> {
        let order = if self.plan.ordered { self.handed_out.order_per_key() } else { Ok(()) };
        let judgments = [
            ("STALL", self.handed_out.nothing_lost(&[QUEUE])),
            ("LOST", self.ended.nothing_lost(&[QUEUE])),
            ("MADE UP", self.handed_out.nothing_made_up().and(self.ended.nothing_made_up())),
            ("ORDER", order),
        ];
        let mut faults = self.record().faults.clone();
        faults.extend(judgments.into_iter().filter_map(|(kind, judgment)| {
            let what = judgment.err()?;
            Some(format!("{kind}: {what}"))
        }));
        faults
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }
}

fn id(message: &Message) -> String {
    message.id().map(ToString::to_string).unwrap_or_default()
}
