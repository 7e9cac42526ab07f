use super::lanes::Lanes;
use super::outbox::Outbox;
use super::parcel::{Leased, Parcel, Tie, lease_lost};
use super::{ConsumerStatus, Flow, RUN};
use crate::adapter::{Extend, Lease, Outcome, Received, Receiver, Room, Scope, Settle};
use crate::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Everything a consumer holds: what waits for the application, what is parked, and what waits to be settled.
pub(super) struct State {
    pub(super) phase: Phase,
    /// Counts the receivers; what an earlier one reports is void.
    pub(super) generation: u64,
    flow: Flow,
    prefetch: Room,
    ready: VecDeque<Parcel>,
    lanes: Lanes,
    parked: BTreeMap<(Instant, u64), Parcel>,
    ties: Vec<Arc<Tie>>,
    /// Scopes of this receiver that are gone: what of them was on its way is not handed out any more.
    gone: HashSet<Scope>,
    leases: HashMap<u64, Leased>,
    due: BTreeSet<(Instant, u64)>,
    arrivals: u64,
    unsettled: usize,
    bytes: usize,
    pub(super) running: usize,
    pub(super) outbox: Outbox,
    pub(super) waker: Option<Waker>,
    /// The receiving task sleeps because there is no room.
    pub(super) wants_room: bool,
    /// The settling task sleeps.
    pub(super) settler_sleeps: bool,
    /// The settling task waits a moment for more settlements.
    pub(super) settler_lingers: bool,
    /// Nothing is handed out for the time being.
    pub(super) paused: bool,
    pub(super) counts: ConsumerStatus,
    pub(super) failed_since_flush: u64,
    /// Given back after the consumer had given back the others.
    pub(super) late: usize,
    pub(super) receiver: Option<Arc<dyn Receiver>>,
    /// Who receives: the receiving task, or else the application's task by itself while there is something.
    pub(super) task_receives: bool,
    /// Turns in a row in which the application's task found nothing.
    pub(super) dry_turns: u8,
    /// The application's task settles by itself while it receives.
    pub(super) direct: bool,
    /// Somebody waits for a settlement.
    pub(super) urgent: bool,
    /// Received by the application's task; kept for its room.
    pub(super) batch: Vec<Received>,
    /// Empty parcels to be used again, so that a delivery costs no allocation.
    spare: Vec<Parcel>,
}

/// Where a consumer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing is handed out any more; what runs may finish until then.
    Leaving(Instant),
    Closed,
}

/// What the settling task does next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) settle: Vec<Settle>,
    pub(super) extend: Vec<Extend>,
    pub(super) extended: Vec<u64>,
    pub(super) release: Vec<Scope>,
    pub(super) until: Option<Instant>,
    pub(super) wake: Option<Waker>,
    /// Settlements wait for more, or for the application's task to take them along.
    pub(super) linger: bool,
}

impl Work {
    /// Nothing is to be asked of the adapter.
    pub(super) const fn is_empty(&self) -> bool {
        self.settle.is_empty() && self.extend.is_empty() && self.release.is_empty()
    }
}

impl State {
    pub(super) fn new(flow: Flow, prefetch: Room) -> Self {
        Self {
            phase: Phase::Open,
            generation: 0,
            flow,
            prefetch,
            ready: VecDeque::new(),
            lanes: Lanes::default(),
            parked: BTreeMap::new(),
            ties: Vec::new(),
            gone: HashSet::new(),
            leases: HashMap::new(),
            due: BTreeSet::new(),
            arrivals: 0,
            unsettled: 0,
            bytes: 0,
            running: 0,
            outbox: Outbox::default(),
            waker: None,
            wants_room: false,
            settler_sleeps: false,
            settler_lingers: false,
            paused: false,
            counts: ConsumerStatus::default(),
            failed_since_flush: 0,
            late: 0,
            receiver: None,
            task_receives: true,
            dry_turns: 0,
            direct: false,
            urgent: false,
            batch: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub(super) const fn adopt(&mut self, flow: Flow) {
        self.flow = flow;
    }

    pub(super) const fn count_failed(&mut self, settlements: u64) {
        self.counts.failed_settlements += settlements;
        self.failed_since_flush += settlements;
    }

    pub(super) const fn flow(&self) -> Flow {
        self.flow
    }

    /// How much may be received now. Small gains of room are saved up while the application has something to do.
    pub(super) fn room(&self) -> Option<Room> {
        let messages = self.prefetch.messages.saturating_sub(self.unsettled);
        let bytes = self.prefetch.bytes.saturating_sub(self.bytes);
        let enough = messages >= self.prefetch.messages.div_ceil(4) || self.ready.is_empty();
        (messages > 0 && (bytes > 0 || self.unsettled == 0) && enough).then_some(Room::new(messages, bytes))
    }

    /// Takes in what was received; gives back what goes to the dead-letter channel unseen.
    pub(super) fn take_in(
        &mut self,
        receiver: &Arc<dyn Receiver>,
        batch: &mut Vec<Received>,
        bury_undecodable: bool,
    ) -> Vec<Parcel> {
        let mut bury = Vec::new();
        if !self.is_current(receiver) {
            // Its receiver is gone: all of it comes again.
            batch.clear();
            return bury;
        }
        let mut last: Option<Arc<Tie>> = None;
        if !self.gone.is_empty() {
            batch.retain(|received| !self.gone.contains(&received.scope));
        }
        for received in batch.drain(..) {
            let order = self.arrivals;
            self.arrivals += 1;
            let tie = match (received.lease(), last) {
                (Some(lease), _) => self.leased(&received, lease, order),
                (None, Some(tie)) if tie.scope == received.scope => tie,
                (None, _) => self.tie(received.scope),
            };
            let mut parcel = self.spare.pop().unwrap_or_else(|| Parcel::empty(&tie));
            parcel.fill(received, &tie, order);
            // A leased delivery is alone in its tie; others mostly come in runs of one scope.
            last = self.leases.is_empty().then_some(tie);
            parcel.tie.add(parcel.size);
            self.unsettled += 1;
            self.bytes += parcel.size;
            if parcel.tie.is_revoking() {
                // It was on its way when its scope was revoked.
                self.forget(&parcel);
                self.outbox.push(parcel.token.clone(), Outcome::Release);
            } else if parcel.undecodable().is_some() && bury_undecodable {
                self.begin(&parcel);
                bury.push(parcel);
            } else {
                self.enter(parcel);
            }
        }
        if self.phase != Phase::Open {
            // The rest was given back already, or is just being given back.
            self.late += self.give_back();
        }
        bury
    }

    /// Whether that receiver is the current one.
    pub(super) fn is_current(&self, receiver: &Arc<dyn Receiver>) -> bool {
        self.receiver.as_ref().is_some_and(|current| Arc::ptr_eq(current, receiver))
    }

    /// A tie for one leased delivery, whose lease is extended from now on.
    fn leased(&mut self, received: &Received, lease: Lease, order: u64) -> Arc<Tie> {
        let tie = Tie::new(received.scope);
        // Half of what is left: a lost extension can be tried once more.
        let half = lease.extendable.and_then(|extension| lease.expires.checked_sub(extension / 2));
        let due = half.unwrap_or(lease.expires);
        if self.ties.iter().any(|other| other.scope == tie.scope && other.is_revoking()) {
            tie.revoke();
        }
        let token = received.token.clone();
        self.leases.insert(order, Leased { token, tie: Arc::clone(&tie), lease, due });
        self.due.insert((due, order));
        tie
    }

    fn tie(&mut self, scope: Scope) -> Arc<Tie> {
        if let Some(tie) = self.ties.iter().find(|tie| tie.scope == scope) {
            return Arc::clone(tie);
        }
        let tie = Tie::new(scope);
        self.ties.push(Arc::clone(&tie));
        tie
    }

    fn enter(&mut self, parcel: Parcel) {
        let parcel = if self.flow.ordered { self.lanes.enter(parcel) } else { Some(parcel) };
        self.ready.extend(parcel);
    }

    /// The next for the application, now in its hands.
    pub(super) fn next(&mut self) -> Option<Parcel> {
        let parcel = self.ready.pop_front()?;
        self.begin(&parcel);
        Some(parcel)
    }

    /// The next for the application, at most so many, now in its hands.
    pub(super) fn next_batch(&mut self, max: usize) -> Vec<Parcel> {
        let count = self.ready.len().min(max.max(1));
        let batch: Vec<_> = self.ready.drain(..count).collect();
        batch.iter().for_each(|parcel| self.begin(parcel));
        batch
    }

    fn begin(&mut self, parcel: &Parcel) {
        self.running += 1;
        parcel.tie.begin();
    }

    /// Queues the settlement of a delivery that the application had.
    pub(super) fn settle(&mut self, parcel: Parcel, outcome: Outcome) -> Result<u64> {
        self.returned(&parcel)?;
        let seq = self.outbox.push(parcel.token.clone(), outcome);
        self.finish(parcel);
        Ok(seq)
    }

    fn finish(&mut self, mut parcel: Parcel) {
        self.forget(&parcel);
        if let Some(next) = self.lanes.leave(parcel.message.key(), parcel.order) {
            self.ready.push_back(next);
        }
        if self.spare.len() < self.prefetch.messages {
            parcel.clear();
            self.spare.push(parcel);
        }
    }

    /// A receiver is open. Until it says otherwise, the receiving task receives.
    pub(super) fn begin_with(&mut self, receiver: Arc<dyn Receiver>) {
        self.receiver = Some(receiver);
        self.gone.clear();
        self.task_receives = true;
        self.direct = false;
    }

    /// Keeps a delivery that the application had, until it is due again. Its key stays closed.
    pub(super) fn park(&mut self, mut parcel: Parcel, due: Instant) -> Result<()> {
        self.returned(&parcel)?;
        parcel.attempt = parcel.attempt.saturating_add(1);
        self.outbox.push(parcel.token.clone(), Outcome::Held { attempt: parcel.attempt });
        if parcel.tie.is_revoking() {
            // The next owner tries it again.
            self.outbox.push(parcel.token.clone(), Outcome::Release);
            self.finish(parcel);
            return Ok(());
        }
        self.parked.insert((due, parcel.order), parcel);
        // It may be due before the settling task looks again.
        self.settler_sleeps = true;
        Ok(())
    }

    /// A delivery that could not be buried: it waits to be given back.
    pub(super) fn unburied(&mut self, parcel: Parcel, now: Instant) {
        if self.returned(&parcel).is_ok() {
            self.parked.insert((now, parcel.order), parcel);
        }
    }

    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// The application has it no more. An error when it is this consumer's no more either.
    fn returned(&mut self, parcel: &Parcel) -> Result<()> {
        self.running -= 1;
        parcel.tie.end();
        if self.phase == Phase::Closed {
            return Err(Error::new(ErrorKind::Closed, "the consumer is closed; the message comes again")
                .with_operation("settle"));
        }
        if parcel.is_lost() {
            if let Some(next) = self.lanes.leave(parcel.message.key(), parcel.order) {
                self.ready.push_back(next);
            }
            return Err(lease_lost());
        }
        Ok(())
    }

    fn forget(&mut self, parcel: &Parcel) {
        self.unsettled -= 1;
        self.bytes -= parcel.size;
        parcel.tie.subtract(parcel.size);
        if !self.leases.is_empty()
            && let Some(leased) = self.leases.remove(&parcel.order)
        {
            self.due.remove(&(leased.due, parcel.order));
        }
    }

    /// What the settling task does now, and when it looks again.
    /// `lingered` says that settlements have waited long enough.
    pub(super) fn work(&mut self, now: Instant, lingered: bool) -> Work {
        let mut work = Work::default();
        let at_once =
            lingered || self.urgent || self.has_gathered() || self.phase != Phase::Open || self.is_revoking();
        if !at_once && self.outbox.is_waiting() {
            work.linger = true;
        } else {
            self.urgent = false;
            work.settle = self.outbox.take().unwrap_or_default();
        }
        while let Some(entry) = self.parked.first_entry().filter(|entry| entry.key().0 <= now) {
            if self.phase != Phase::Open {
                break;
            }
            self.ready.push_back(entry.remove());
        }
        while let Some((due, order)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, order));
            let Some(leased) = self.leases.get(&order) else {
                continue;
            };
            let ended = leased.lease.hard_end.is_some_and(|end| end <= now) || leased.lease.expires <= now;
            if ended || leased.lease.extendable.is_none() {
                let tie = Arc::clone(&leased.tie);
                self.lose(|other| Arc::ptr_eq(other, &tie));
            } else {
                work.extend.push(Extend::new(leased.token.clone()));
                work.extended.push(order);
            }
        }
        let runs = |scope| self.leases.values().any(|l| l.tie.scope == scope && l.tie.is_running());
        let free = self.ties.iter().filter(|tie| tie.is_revoking() && !tie.is_running() && !runs(tie.scope));
        // Not before everything of it is settled: what the application's task is settling just now has to be answered first.
        if !work.settle.is_empty() || self.outbox.is_idle() {
            work.release.extend(free.map(|tie| tie.scope));
        }
        let parked = self.parked.first_key_value().map(|((due, _), _)| *due);
        let parked = parked.filter(|_| self.phase == Phase::Open);
        let leases = self.due.first().map(|(due, _)| *due);
        work.until = parked.into_iter().chain(leases).min();
        work.wake = if self.ready.is_empty() { None } else { self.waker.take() };
        work
    }

    /// Whether enough settlements wait for the settling task to be worth a call. The rest of the prefetch keeps the broker busy meanwhile.
    pub(super) fn has_gathered(&self) -> bool {
        !self.direct && self.outbox.len() >= (self.prefetch.messages / 4).clamp(1, RUN)
    }

    /// Whether the settling task has to be woken for what waits to be settled.
    pub(super) fn wakes_settler(&mut self) -> bool {
        let gathered = self.settler_lingers && self.has_gathered();
        if gathered {
            self.settler_lingers = false;
        }
        std::mem::take(&mut self.settler_sleeps) || gathered
    }

    /// A scope is about to go to another consumer.
    pub(super) fn is_revoking(&self) -> bool {
        self.ties.iter().any(|tie| tie.is_revoking())
    }

    /// The answers to extensions: a refused one is tried again until the lease ends.
    pub(super) fn extended(&mut self, now: Instant, orders: &[u64], answers: Vec<Extend>) {
        for (order, answer) in orders.iter().zip(answers) {
            let Some(leased) = self.leases.get_mut(order) else {
                continue;
            };
            match answer.result {
                Some(Ok(expires)) => {
                    leased.lease.expires = expires;
                    leased.due = now + expires.saturating_duration_since(now) / 2;
                }
                Some(Err(error)) if error.kind() == ErrorKind::LeaseLost => {
                    let tie = Arc::clone(&leased.tie);
                    self.lose(|other| Arc::ptr_eq(other, &tie));
                    continue;
                }
                _ => leased.due = now + leased.lease.expires.saturating_duration_since(now) / 2,
            }
            // No earlier than a moment from now, so that a lease about to end is not asked for without pause.
            leased.due = leased.due.max(now + Duration::from_millis(1));
            self.due.insert((leased.due, *order));
        }
    }

    /// Stops handing out what the scope has: it goes to another consumer.
    pub(super) fn revoke(&mut self, scope: Scope) {
        let tie = self.tie(scope);
        tie.revoke();
        for leased in self.leases.values().filter(|leased| leased.tie.scope == scope) {
            leased.tie.revoke();
        }
        let mut waiting = self.take_waiting(|parcel| parcel.tie.is_revoking());
        waiting.sort_by_key(|parcel| parcel.order);
        for parcel in waiting {
            self.forget(&parcel);
            // Nobody has tried it, so it must not count as tried.
            self.outbox.push(parcel.token.clone(), Outcome::Release);
            // It may have been its key's turn.
            let next = self.lanes.leave(parcel.message.key(), parcel.order);
            self.ready.extend(next);
        }
    }

    /// The scope is another consumer's now.
    pub(super) fn lose_scope(&mut self, scope: Scope) {
        self.gone.insert(scope);
        self.lose(|tie| tie.scope == scope);
    }

    /// Drops what is tied to these: it is another consumer's now.
    pub(super) fn lose(&mut self, hit: impl Fn(&Arc<Tie>) -> bool) {
        let leased = self.leases.values().map(|leased| &leased.tie);
        for tie in self.ties.iter().chain(leased).filter(|tie| hit(tie) && !tie.is_lost()) {
            let (messages, bytes) = tie.lose();
            self.unsettled -= messages;
            self.bytes -= bytes;
            self.counts.lost += messages as u64;
        }
        self.ties.retain(|tie| !tie.is_lost());
        self.leases.retain(|order, leased| {
            let keep = !leased.tie.is_lost();
            if !keep {
                self.due.remove(&(leased.due, *order));
            }
            keep
        });
        drop(self.take_waiting(|parcel| parcel.is_lost()));
    }

    /// All that waits here, oldest first, to be given back to the broker.
    pub(super) fn give_back(&mut self) -> usize {
        let mut waiting = self.take_waiting(|_| true);
        waiting.sort_by_key(|parcel| parcel.order);
        for parcel in &waiting {
            self.forget(parcel);
            self.outbox.push(parcel.token.clone(), Outcome::Release);
        }
        waiting.len()
    }

    fn take_waiting(&mut self, hit: impl Fn(&Parcel) -> bool) -> Vec<Parcel> {
        let mut taken = Vec::new();
        for parcel in std::mem::take(&mut self.ready) {
            if hit(&parcel) { taken.push(parcel) } else { self.ready.push_back(parcel) }
        }
        for (due, parcel) in std::mem::take(&mut self.parked) {
            if hit(&parcel) {
                taken.push(parcel);
            } else {
                self.parked.insert(due, parcel);
            }
        }
        let (followers, freed) = self.lanes.take(hit);
        taken.extend(followers);
        self.ready.extend(freed);
        taken
    }

    pub(super) fn status(&self) -> ConsumerStatus {
        let mut status = self.counts.clone();
        status.unsettled = self.unsettled;
        status.parked = self.parked.len();
        status.prefetch = self.prefetch.messages;
        status
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.paused && !self.ready.is_empty()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("phase", &self.phase)
            .field("unsettled", &self.unsettled)
            .finish_non_exhaustive()
    }
}
