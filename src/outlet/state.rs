use super::driver::{Landed, earliest};
use super::lanes::{Lanes, Verdict};
use super::{Entry, Settings, Ticket, not_sent};
use crate::adapter::{Capabilities, Confirm, Confirmed, Message, MessageKey, Receipt, SendOutcome, Sender};
use crate::clock::later;
use crate::{Error, ErrorKind, Result, backoff::Backoff};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What waits to be sent, in order, and the sender while nobody uses it.
pub(super) struct Queue {
    pub(super) phase: Phase,
    sender: Option<Box<dyn Sender>>,
    broken: bool,
    /// The broker has accepted something from this sender.
    worked: bool,
    /// Failed before, to go again before anything new; ascending.
    again: VecDeque<Entry>,
    waiting: VecDeque<Entry>,
    /// Handed over by callers, for the driver to watch.
    flights: Vec<Flight>,
    lanes: Lanes,
    limits: Limits,
    seq: u64,
    /// No deadline of what waits here is earlier.
    alarm: Option<Instant>,
    in_flight: usize,
    in_flight_bytes: usize,
    /// How long a failed message waits, by its own tries.
    backoff: Backoff,
    /// Who waits for every send before a seq to have its result.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
}

/// What follows from the answers to one batch.
#[derive(Default)]
struct Aftermath {
    /// By tries: what has failed together goes again together.
    waits: HashMap<u32, Duration>,
    failed: FailedKeys,
}

/// The first message of each key that has failed for good: what waits behind it fails too, since sending that would reorder the key if the
/// caller sends the failed one again.
type FailedKeys = HashMap<MessageKey, u64>;

/// So many messages together are worth a batch of their own.
const GATHERED: usize = 16;

/// Whether the outlet takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closing(Instant),
}

#[derive(Debug)]
struct Limits {
    message: usize,
    batch: usize,
    batch_bytes: usize,
    window: usize,
    window_bytes: usize,
}

/// A batch that was handed over: entries without their messages, which lie together for the adapter.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) messages: Arc<Vec<Message>>,
    pub(super) entries: Vec<Entry>,
    pub(super) confirm: Confirm,
    /// The earliest deadline of those that still wait.
    pub(super) deadline: Option<Instant>,
}

impl Flight {
    pub(super) fn new(messages: Arc<Vec<Message>>, entries: Vec<Entry>, confirm: Confirm) -> Self {
        let deadline = earliest(&entries);
        Self { messages, entries, confirm, deadline }
    }
}

/// What became of messages that a caller handed over itself.
pub(super) enum HandedOver {
    /// Accepted at once.
    All(Receipt),
    /// Handed over; the answer is in the confirm.
    Later(Confirm),
    /// The only message cannot be carried.
    Refused(Error),
    /// Nothing was taken.
    NotNow,
}

/// What the driver does next.
pub(super) enum Next {
    Send { sender: Box<dyn Sender>, messages: Vec<Message>, entries: Vec<Entry> },
    Reopen,
    Wait { until: Option<Instant> },
    End,
}

impl Queue {
    pub(super) fn new(
        sender: Box<dyn Sender>,
        ordered: bool,
        has: &Capabilities,
        settings: &Settings,
    ) -> Self {
        Self {
            phase: Phase::Open,
            sender: Some(sender),
            broken: false,
            worked: true,
            again: VecDeque::new(),
            waiting: VecDeque::new(),
            flights: Vec::new(),
            lanes: Lanes::new(ordered, has.in_flight_per_key),
            limits: Limits::new(has, settings),
            seq: 0,
            alarm: None,
            in_flight: 0,
            in_flight_bytes: 0,
            backoff: settings.backoff,
            flushes: Vec::new(),
        }
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.phase.is_open() {
            return Ok(());
        }
        Err(not_sent(ErrorKind::Closed, "the producer is closed"))
    }

    /// Resolves once everything sent so far has its result, or the outlet ends.
    pub(super) fn flush(&mut self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        self.flushes.push((self.seq, done));
        flushed
    }

    /// Tells those whose sends all have their results. `flying` are those that the driver watches.
    pub(super) fn serve_flushes<'e>(&mut self, flying: impl Iterator<Item = &'e Entry>) {
        if self.flushes.is_empty() {
            return;
        }
        let here = self.again.iter().chain(&self.waiting).chain(self.lanes.undecided());
        let here = here.chain(self.flights.iter().flat_map(|flight| &flight.entries));
        let open = |entry: &Entry| entry.ticket.is_some().then_some(entry.seq);
        let lowest = here.filter_map(open).chain(flying.filter_map(open)).min().unwrap_or(u64::MAX);
        // Dropping the sender resolves the flush.
        self.flushes.retain(|(upto, _)| *upto > lowest);
    }

    /// Hands over at once, when nobody is overtaken by it and the client takes it now. While batches are on their way, messages
    /// gather instead, unless they have already.
    pub(super) fn hand_over(&mut self, messages: &[Message]) -> HandedOver {
        let count = messages.len();
        let first = !self.broken && self.waiting.is_empty() && self.again.is_empty();
        let room = self.in_flight == 0 || (count >= GATHERED && self.in_flight + count <= self.limits.window);
        // Several of one key may be among several: then one after another is the driver's business.
        let fits = count == 1 || (count <= self.limits.batch && !self.lanes.holds_back());
        let held = |message| self.lanes.key(message).is_some_and(|key| self.lanes.holds(key));
        if !(first && room && fits) || (self.in_flight > 0 && messages.iter().any(held)) {
            return HandedOver::NotNow;
        }
        let Some(sender) = self.sender.as_mut() else { return HandedOver::NotNow };
        let mut bytes = 0;
        for message in messages {
            match measure(&**sender, message, self.limits.message) {
                Ok(size) => bytes += size,
                Err(error) if count == 1 => return HandedOver::Refused(error),
                Err(_) => return HandedOver::NotNow,
            }
        }
        let crowded = self.in_flight > 0 && self.in_flight_bytes + bytes > self.limits.window_bytes;
        if crowded || (bytes > self.limits.batch_bytes && count > 1) {
            return HandedOver::NotNow;
        }
        match sender.try_send(messages) {
            None => HandedOver::NotNow,
            Some(Ok(confirm)) => match confirm.try_now() {
                Ok(Confirmed::All(receipt)) => {
                    self.worked = true;
                    HandedOver::All(receipt)
                }
                Ok(other) => HandedOver::Later(Confirm::ready(other.into_results(count))),
                Err(confirm) => HandedOver::Later(confirm),
            },
            Some(Err(error)) => HandedOver::Later(for_all(&error, count)),
        }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: Message, deadline: Instant, ticket: Ticket) {
        let entry = self.entry(message, deadline, ticket);
        self.waiting.push_back(entry);
    }

    /// Gives the driver a batch to watch that a caller has handed over.
    pub(super) fn launch(
        &mut self,
        messages: Vec<Message>,
        tickets: impl Iterator<Item = Ticket>,
        deadline: Instant,
        confirm: Confirm,
    ) {
        let mut entries = Vec::with_capacity(messages.len());
        for (message, ticket) in messages.iter().zip(tickets) {
            let mut entry = self.entry(Message::default(), deadline, ticket);
            // Near enough for the window.
            entry.size = message.size();
            self.depart(message, &entry, false);
            entries.push(entry);
        }
        self.flights.push(Flight::new(Arc::new(messages), entries, confirm));
    }

    fn entry(&mut self, message: Message, deadline: Instant, ticket: Ticket) -> Entry {
        self.seq += 1;
        self.alarm = Some(self.alarm.map_or(deadline, |at| at.min(deadline)));
        Entry {
            message,
            seq: self.seq - 1,
            size: 0,
            deadline,
            ticket: Some(ticket),
            tries: 0,
            not_before: None,
            unknown: false,
        }
    }

    /// The batches that callers have handed over since the driver last looked.
    pub(super) fn launched(&mut self) -> Vec<Flight> {
        std::mem::take(&mut self.flights)
    }

    /// What the driver does next. `flying` says whether batches are on their way.
    pub(super) fn next(&mut self, now: Instant, flying: bool) -> Next {
        if let Phase::Closing(deadline) = self.phase {
            let drained = self.waiting.is_empty() && self.again.is_empty();
            if now >= deadline || (drained && !flying) {
                return Next::End;
            }
        }
        if self.broken {
            return if flying { Next::Wait { until: self.earliest(now) } } else { Next::Reopen };
        }
        let Some(sender) = self.sender.take() else {
            return Next::Wait { until: self.earliest(now) };
        };
        let (messages, entries) = self.batch(&*sender, now);
        if messages.is_empty() {
            self.sender = Some(sender);
            return Next::Wait { until: self.earliest(now) };
        }
        Next::Send { sender, messages, entries }
    }

    /// The sender is free again.
    pub(super) fn give_back(&mut self, sender: Box<dyn Sender>) {
        self.sender = Some(sender);
    }

    /// A new sender, after a loss: what failed meanwhile may go at once.
    pub(super) fn reopened(&mut self, sender: Box<dyn Sender>, has: &Capabilities, settings: &Settings) {
        self.sender = Some(sender);
        self.broken = false;
        self.worked = false;
        self.lanes.adopt(has.in_flight_per_key);
        self.limits = Limits::new(has, settings);
        for entry in &mut self.again {
            entry.not_before = None;
        }
    }

    pub(super) fn take_sender(&mut self) -> Option<Box<dyn Sender>> {
        self.sender.take().filter(|_| !self.broken)
    }

    pub(super) const fn has_worked(&self) -> bool {
        self.worked
    }

    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// The close deadline has passed.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Closing(deadline) if now >= deadline)
    }

    pub(super) fn close(&mut self, deadline: Instant) {
        if self.phase.is_open() {
            self.phase = Phase::Closing(deadline);
        }
    }

    /// The answers for batches, in the order in which these were handed over.
    pub(super) fn take_in(&mut self, landed: Landed, now: Instant) {
        for (flight, confirmed) in landed {
            self.landed(flight.messages, flight.entries, confirmed, now);
        }
    }

    /// The answers for a batch.
    pub(super) fn landed(
        &mut self,
        messages: Arc<Vec<Message>>,
        entries: Vec<Entry>,
        confirmed: Confirmed,
        now: Instant,
    ) {
        let results = confirmed.into_results(entries.len());
        let messages = Arc::try_unwrap(messages).unwrap_or_else(|shared| shared.to_vec());
        let mut after = Aftermath::default();
        // In the order of the batch: a failure is judged before what follows it.
        for ((message, mut entry), result) in messages.into_iter().zip(entries).zip(results) {
            entry.message = message;
            self.in_flight -= 1;
            self.in_flight_bytes -= entry.size;
            // What goes again is measured again: by then the limits may be those of another sender.
            entry.size = 0;
            self.answer(entry, result, now, &mut after);
        }
        self.fail_followers(&after.failed);
    }

    /// Fails what has passed its deadline: what waits here, and in `flying` what has no answer yet.
    pub(super) fn expire(&mut self, now: Instant, flying: &mut dyn Iterator<Item = (&Message, &mut Entry)>) {
        let mut late = FailedKeys::new();
        for (message, entry) in flying {
            if entry.deadline <= now && entry.ticket.is_some() {
                if let Some(key) = self.lanes.key(message) {
                    late.entry(key.clone()).or_insert(entry.seq);
                }
                let what = "the broker has not answered before the deadline";
                entry.fail(Error::new(ErrorKind::Timeout, what), message.clone());
            }
        }
        if self.alarm.is_some_and(|at| at <= now) {
            self.lanes.answer_where(|entry| entry.deadline <= now);
            let why = || not_sent(ErrorKind::Timeout, "the message could not be sent before the deadline");
            self.fail_where(|entry| entry.deadline <= now, why);
            let waiting = self.again.iter().chain(&self.waiting).chain(self.lanes.undecided());
            let earliest = waiting.filter(|entry| entry.ticket.is_some()).map(|entry| entry.deadline).min();
            // Deadlines close to each other share one look at all that waits.
            self.alarm = earliest.map(|at| at.max(later(now, Duration::from_millis(10))));
        }
        self.fail_followers(&late);
    }

    /// Fails everything that waits. Says how many that were.
    pub(super) fn abandon(&mut self, why: &Error) -> usize {
        let unsent = self.waiting.len() + self.again.len();
        self.lanes.answer_where(|_| true);
        self.fail_where(|_| true, || why.duplicate().with_outcome(SendOutcome::NotSent));
        unsent
    }

    fn fail_where(&mut self, hit: impl Fn(&Entry) -> bool, why: impl Fn() -> Error) {
        let mut failed_keys = HashSet::new();
        for again in [true, false] {
            let entries = std::mem::take(if again { &mut self.again } else { &mut self.waiting });
            for entry in entries {
                let key = self.lanes.key(&entry.message).cloned();
                let follows = key.as_ref().is_some_and(|key| failed_keys.contains(key));
                if !follows && !hit(&entry) {
                    if again {
                        self.again.push_back(entry)
                    } else {
                        self.waiting.push_back(entry)
                    }
                    continue;
                }
                let error = if follows { follower() } else { why() };
                if let Some(key) = key {
                    if again {
                        self.lanes.given_up(&key);
                    }
                    if !follows {
                        failed_keys.insert(key);
                    }
                }
                fail(entry, error);
            }
        }
    }

    fn batch(&mut self, sender: &dyn Sender, now: Instant) -> (Vec<Message>, Vec<Entry>) {
        let most = (self.again.len() + self.waiting.len()).min(self.limits.batch);
        let mut messages = Vec::with_capacity(most);
        let mut entries: Vec<Entry> = Vec::with_capacity(most);
        let mut bytes = 0;
        let mut failed = FailedKeys::new();
        for again in [true, false] {
            let mut kept = VecDeque::new();
            let mut held: HashSet<MessageKey> = HashSet::new();
            // Looking past held messages is bounded, so that a long queue of one key costs no full scan per batch.
            while kept.len() < 4 * self.limits.window {
                let from = if again { &mut self.again } else { &mut self.waiting };
                let Some(mut entry) = from.pop_front() else { break };
                let key = self.lanes.key(&entry.message).cloned();
                let follows = key.as_ref().is_some_and(|key| failed.contains_key(key));
                let waits = !follows
                    && (entry.not_before.is_some_and(|at| at > now)
                        || key.as_ref().is_some_and(|key| {
                            held.contains(key)
                                || if again { self.lanes.holds_again(key) } else { self.lanes.holds(key) }
                        }));
                if waits {
                    held.extend(key);
                    kept.push_back(entry);
                    continue;
                }
                let fit = match entry.size {
                    _ if follows => Err(follower()),
                    0 => measure(sender, &entry.message, self.limits.message),
                    measured => Ok(measured),
                };
                match fit {
                    Ok(size) => entry.size = size.max(1),
                    Err(error) => {
                        if let Some(key) = key.filter(|_| again) {
                            self.lanes.given_up(&key);
                        }
                        self.give_up(entry, error, &mut failed);
                        // Whoever waits for just this need not wait for the next deadline.
                        self.alarm = Some(now);
                        continue;
                    }
                }
                let full = messages.len() >= self.limits.batch
                    || self.in_flight >= self.limits.window
                    || (!messages.is_empty() && bytes + entry.size > self.limits.batch_bytes)
                    || (self.in_flight > 0 && self.in_flight_bytes + entry.size > self.limits.window_bytes);
                if full {
                    kept.push_back(entry);
                    break;
                }
                bytes += entry.size;
                let message = std::mem::take(&mut entry.message);
                self.depart(&message, &entry, again);
                messages.push(message);
                entries.push(entry);
            }
            let from = if again { &mut self.again } else { &mut self.waiting };
            for entry in kept.into_iter().rev() {
                from.push_front(entry);
            }
        }
        self.fail_followers(&failed);
        (messages, entries)
    }

    fn depart(&mut self, message: &Message, entry: &Entry, again: bool) {
        self.in_flight += 1;
        self.in_flight_bytes += entry.size;
        if let Some(key) = self.lanes.key(message).cloned() {
            self.lanes.handed_over(&key, again);
        }
    }

    fn answer(&mut self, mut entry: Entry, result: Result<Receipt>, now: Instant, after: &mut Aftermath) {
        let key = self.lanes.key(&entry.message).cloned();
        match (result, key) {
            (Ok(receipt), key) => {
                self.worked = true;
                let seq = entry.seq;
                if let Some(ticket) = entry.ticket.take() {
                    ticket.answer(Ok(receipt));
                }
                if let Some(key) = key {
                    let verdict = self.lanes.accepted(&key, seq);
                    self.carry_out(verdict, now, after);
                }
            }
            (Err(error), key) => {
                // It may wait here from now on.
                self.alarm = Some(self.alarm.map_or(entry.deadline, |at| at.min(entry.deadline)));
                self.broken |= error.kind() == ErrorKind::Disconnected;
                entry.unknown |= error.outcome().unwrap_or(SendOutcome::Unknown) == SendOutcome::Unknown;
                let verdict = match key {
                    Some(key) => self.lanes.failed(&key, entry, error),
                    None if entry.may_go_again(&error) => {
                        Verdict { again: vec![(entry, error)], failed: vec![] }
                    }
                    None => Verdict { again: vec![], failed: vec![(entry, error)] },
                };
                self.carry_out(verdict, now, after);
            }
        }
    }

    fn carry_out(&mut self, verdict: Verdict, now: Instant, after: &mut Aftermath) {
        for (mut entry, error) in verdict.again {
            if error.kind() != ErrorKind::Disconnected {
                let wait =
                    *after.waits.entry(entry.tries).or_insert_with(|| self.backoff.wait_after(entry.tries));
                entry.not_before = Some(later(now, error.retry_after().unwrap_or(wait)));
                entry.tries += 1;
            }
            let at = self.again.partition_point(|other| other.seq < entry.seq);
            self.again.insert(at, entry);
        }
        for (entry, error) in verdict.failed {
            self.give_up(entry, error, &mut after.failed);
        }
    }

    /// Fails a message for good, and notes its key.
    fn give_up(&self, entry: Entry, error: Error, failed: &mut FailedKeys) {
        if let Some(key) = self.lanes.key(&entry.message) {
            failed.entry(key.clone()).or_insert(entry.seq);
        }
        fail(entry, error);
    }

    /// Fails what waits behind failed messages of its key.
    fn fail_followers(&mut self, failed: &FailedKeys) {
        if !failed.is_empty() {
            let first = |entry: &Entry| entry.message.key().and_then(|key| failed.get(key));
            self.fail_where(|entry| first(entry).is_some_and(|seq| *seq < entry.seq), follower);
        }
    }

    /// When the driver has to look again at the latest.
    pub(super) fn earliest(&self, now: Instant) -> Option<Instant> {
        let times =
            self.again.iter().filter_map(|entry| entry.not_before).filter(|at| *at > now).chain(self.alarm);
        let closing = match self.phase {
            Phase::Open => None,
            Phase::Closing(deadline) => Some(deadline),
        };
        times.chain(closing).min()
    }
}

impl Limits {
    fn new(has: &Capabilities, settings: &Settings) -> Self {
        Self {
            message: has.max_message_bytes.unwrap_or(usize::MAX),
            batch: has.max_batch_messages.unwrap_or(usize::MAX).min(settings.window_messages),
            batch_bytes: has.max_batch_bytes.unwrap_or(usize::MAX).min(settings.window_bytes),
            window: settings.window_messages,
            window_bytes: settings.window_bytes,
        }
    }
}

/// The same error for every message of a batch.
pub(super) fn for_all(error: &Error, count: usize) -> Confirm {
    Confirm::ready(std::iter::repeat_with(|| Err(error.duplicate())).take(count).collect())
}

fn measure(sender: &dyn Sender, message: &Message, limit: usize) -> Result<usize> {
    let size = sender.measure(message).map_err(|e| e.with_outcome(SendOutcome::NotSent))?;
    if size <= limit {
        return Ok(size);
    }
    let what = format!("the message has {size} bytes on the wire, and the channel takes at most {limit}");
    Err(not_sent(ErrorKind::PayloadTooLarge, what).with_help("send a reference to the data, or split it"))
}

fn follower() -> Error {
    not_sent(ErrorKind::Rejected, "an earlier message of the same key failed, and order per key is required")
        .with_help("send the failed message again first, then this one")
}

fn fail(mut entry: Entry, error: Error) {
    let message = std::mem::take(&mut entry.message);
    entry.fail(error, message);
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
