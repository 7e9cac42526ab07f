use crate::adapter::{Outcome, Settle, Token};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::task::Waker;

/// Settlements on their way to the adapter, numbered, and what became of those that failed. One batch is on its way at a time, so they reach the
/// adapter in their order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Vec<Settle>,
    spare: Vec<Settle>,
    /// The size of the batch on its way.
    in_flight: Option<usize>,
    /// The receiver is gone: what waits behind the batch on its way fails with it.
    doomed: bool,
    /// The consumer is closed: what has no answer gets none.
    shut: bool,
    next: u64,
    done: u64,
    failures: BTreeMap<u64, Error>,
    forgotten: u64,
    waiters: Vec<(u64, Waker)>,
}

/// So many failed settlements are kept for callers that have not asked yet.
const FAILURES: usize = 1024;

/// What follows from answers: how many failed, and who waited for them.
#[derive(Debug, Default)]
#[must_use = "someone may be waiting for it"]
pub(super) struct Answered {
    pub(super) failed: u64,
    pub(super) wakers: Vec<Waker>,
}

impl Outbox {
    pub(super) fn push(&mut self, token: Token, outcome: Outcome) -> u64 {
        self.waiting.push(Settle::new(token, outcome));
        self.next += 1;
        self.next - 1
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a batch could be taken now.
    pub(super) const fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.in_flight.is_none()
    }

    /// All that waits, unless a batch is on its way. The answers, or the batch itself, have to come back.
    pub(super) fn take(&mut self) -> Option<Vec<Settle>> {
        if !self.is_waiting() {
            return None;
        }
        self.in_flight = Some(self.waiting.len());
        let spare = std::mem::take(&mut self.spare);
        Some(std::mem::replace(&mut self.waiting, spare))
    }

    /// A batch that was not handed over after all. It waits again, unless its receiver is gone.
    pub(super) fn put_back(&mut self, mut batch: Vec<Settle>) -> Answered {
        self.in_flight = None;
        batch.append(&mut self.waiting);
        self.waiting = batch;
        if std::mem::take(&mut self.doomed) { self.fail_waiting() } else { Answered::default() }
    }

    /// The adapter's answers, in the order of the batch.
    pub(super) fn answered(&mut self, mut batch: Vec<Settle>) -> Answered {
        if self.shut {
            return Answered::default();
        }
        self.in_flight = None;
        let mut failed = self.note(&mut batch);
        self.spare = batch;
        if std::mem::take(&mut self.doomed) {
            failed += self.fail();
        }
        Answered { failed, wakers: self.woken() }
    }

    /// The adapter has panicked over the batch on its way: it has failed.
    pub(super) fn lost(&mut self) -> Answered {
        let lost = std::iter::repeat_with(|| Settle::new(Token::number(0), Outcome::Ack));
        let batch = lost.take(self.in_flight.unwrap_or(0)).collect();
        self.answered(batch)
    }

    /// Whether nothing waits and nothing is on its way.
    pub(super) const fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_none()
    }

    /// The receiver is gone: what was not handed to it has failed.
    pub(super) fn fail_waiting(&mut self) -> Answered {
        if self.in_flight.is_some() {
            self.doomed = true;
            return Answered::default();
        }
        Answered { failed: self.fail(), wakers: self.woken() }
    }

    /// The consumer is closed. Whoever waits for a settlement waits no longer.
    pub(super) fn shut(&mut self) -> Answered {
        let open = self.next - self.done;
        self.shut = true;
        self.waiting.clear();
        Answered {
            failed: open,
            wakers: std::mem::take(&mut self.waiters).into_iter().map(|(_, waker)| waker).collect(),
        }
    }

    /// What became of answered settlements, from `first` to `last`: the first failure among them.
    pub(super) fn result(&mut self, first: u64, last: u64) -> Result<()> {
        if last >= self.done {
            return Err(Error::new(ErrorKind::Closed, "the consumer closed before the broker answered"));
        }
        let failed: Vec<u64> = self.failures.range(first..=last).map(|(seq, _)| *seq).collect();
        let errors: Vec<Error> = failed.iter().filter_map(|seq| self.failures.remove(seq)).collect();
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None if first < self.forgotten => {
                Err(Error::new(ErrorKind::Other, "what became of this settlement is not known any more"))
            }
            None => Ok(()),
        }
    }

    /// Wakes that task once the settlement is answered.
    pub(super) fn wait(&mut self, seq: u64, waker: &Waker) {
        self.waiters.retain(|(other, waiting)| *other != seq || !waiting.will_wake(waker));
        self.waiters.push((seq, waker.clone()));
    }

    pub(super) const fn next_seq(&self) -> u64 {
        self.next
    }

    pub(super) const fn is_settled(&self, upto: u64) -> bool {
        self.shut || self.done >= upto
    }

    fn fail(&mut self) -> u64 {
        let mut batch = std::mem::take(&mut self.waiting);
        batch.iter_mut().for_each(|settle| settle.result = Some(Err(super::parcel::lease_lost())));
        self.note(&mut batch)
    }

    fn note(&mut self, batch: &mut Vec<Settle>) -> u64 {
        let mut failed = 0;
        for settle in batch.drain(..) {
            let seq = self.done;
            self.done += 1;
            let error = match settle.result {
                Some(Ok(())) => continue,
                Some(Err(error)) => error,
                None => Error::new(ErrorKind::Other, "the adapter gave no answer for this settlement"),
            };
            if matches!(settle.outcome, Outcome::Release | Outcome::Held { .. }) {
                // Nobody waits for these, and the broker brings their messages again in any case.
                continue;
            }
            failed += 1;
            self.failures.insert(seq, error.with_operation("settle"));
        }
        while self.failures.len() > FAILURES
            && let Some((seq, _)) = self.failures.pop_first()
        {
            self.forgotten = seq + 1;
        }
        failed
    }

    fn woken(&mut self) -> Vec<Waker> {
        if self.waiters.is_empty() {
            return Vec::new();
        }
        let done = self.done;
        let (ready, waiters): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|(seq, _)| *seq < done);
        self.waiters = waiters;
        ready.into_iter().map(|(_, waker)| waker).collect()
    }
}
