//! The receiving side of one consumer.
//!
//! Two tasks serve one receiver: one receives as long as there is room, the other settles, extends leases and watches the clock; where an adapter can
//! do it without waiting, the application's own task does both instead. A third supervises them:
//! it opens the receiver again after a loss and leaves in order at the end. All that is held lies in one [`State`] between them and the application,
//! so a caller that stops waiting loses nothing.

mod bury;
mod driver;
mod lanes;
mod outbox;
mod parcel;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use parcel::Parcel;

use crate::adapter::{Capabilities, Capability, Channel, Event, Events, Outcome, Room, Source, Support};
use crate::clock::later;
use crate::delivery::Settlement;
use crate::foreign::Foreign;
use crate::link::{Link, undropped, undropped_receiver};
use crate::outlet::Outlet;
use crate::replies::Replier;
use crate::status::{HandleStatus, State as Health};
use crate::{Error, ErrorKind, Result, backoff::Backoff};
use outbox::Answered;
use state::{Phase, State};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// What a consumer has done so far and what it holds: a snapshot.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// How it is doing.
    pub state: Health,
    /// Deliveries that are queued, in the application's hands, or parked.
    pub unsettled: usize,
    /// Deliveries that wait for their retry.
    pub parked: usize,
    /// The most that may be unsettled.
    pub prefetch: usize,
    /// Acknowledged.
    pub acked: u64,
    /// Failed and to come again.
    pub retried: u64,
    /// Copied to the dead-letter channel.
    pub dead_lettered: u64,
    /// Not handed out because they had expired, and acknowledged.
    pub expired: u64,
    /// Gone to another consumer before they were settled.
    pub lost: u64,
    /// Messages that the broker says were missed for good, one where it does not say how many.
    pub gaps: u64,
    /// Settlements that failed.
    pub failed_settlements: u64,
}

/// How deliveries flow on this channel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    /// The key gate is on.
    ordered: bool,
    /// The broker delays retries itself.
    delays: bool,
}

/// How a consumer is opened.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) prefetch: Room,
    pub(crate) backoff: Backoff,
    pub(crate) leave_within: Duration,
    pub(crate) foreign: Foreign,
}

/// The receiving side of one consumer.
#[derive(Debug)]
pub(crate) struct Inlet {
    link: Link,
    source: Source,
    settings: Settings,
    capabilities: OnceLock<Capabilities>,
    dead_letters: Option<Arc<Outlet>>,
    replier: Arc<Replier>,
    state: Mutex<State>,
    wake_receiver: Notify,
    wake_settler: Notify,
    wake_supervisor: Notify,
    leaving: Notify,
    ended: watch::Sender<Option<usize>>,
    status: Arc<HandleStatus>,
    runtime: tokio::runtime::Handle,
}

impl Inlet {
    /// Opens the receiver and starts its tasks.
    pub(crate) async fn open(
        link: Link,
        source: Source,
        settings: Settings,
        dead_letters: Option<Arc<Outlet>>,
        replier: Arc<Replier>,
        status: Arc<HandleStatus>,
    ) -> Result<Arc<Self>> {
        let inlet = Arc::new(Self {
            state: Mutex::new(State::new(Flow::default(), settings.prefetch)),
            capabilities: OnceLock::new(),
            link,
            source,
            settings,
            dead_letters,
            replier,
            wake_receiver: Notify::new(),
            wake_settler: Notify::new(),
            wake_supervisor: Notify::new(),
            leaving: Notify::new(),
            ended: watch::Sender::new(None),
            status,
            runtime: tokio::runtime::Handle::current(),
        });
        let receiver = inlet.open_receiver().await?;
        tokio::spawn(driver::supervise(Arc::clone(&inlet), receiver));
        Ok(inlet)
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        static NONE: OnceLock<Capabilities> = OnceLock::new();
        self.capabilities.get().unwrap_or_else(|| NONE.get_or_init(Capabilities::none))
    }

    pub(crate) fn channel(&self) -> &str {
        self.link.binding.channel.name()
    }

    /// The channel, with what configuration requires in addition.
    pub(crate) fn bound(&self) -> &Channel {
        &self.link.binding.channel
    }

    pub(crate) const fn has_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    pub(crate) fn replier(&self) -> &Replier {
        &self.replier
    }

    /// The next delivery; `None` once the consumer leaves. Nothing is lost when the caller stops polling.
    pub(crate) fn poll_next(self: &Arc<Self>, cx: &Context<'_>) -> Poll<Option<Parcel>> {
        self.poll_ready(cx, |inlet, mut state| {
            let parcel = state.next()?;
            inlet.after_hand_out(state);
            inlet.unexpired(parcel)
        })
    }

    /// Acknowledges one at once, and gives the next: one lock for both, where there is one.
    pub(crate) fn poll_after(
        self: &Arc<Self>,
        handled: &mut Option<Parcel>,
        cx: &Context<'_>,
    ) -> Poll<Option<Parcel>> {
        let Some(parcel) = handled.take() else { return self.poll_next(cx) };
        let mut state = self.lock();
        // One that is not this consumer's any more comes again, and was counted when it was lost.
        if state.settle(parcel, Outcome::Ack).is_ok() {
            state.counts.acked += 1;
        }
        if state.phase != Phase::Open || !state.is_ready() || is_full(&state) {
            self.after_return(state);
            return self.poll_next(cx);
        }
        let next = state.next();
        self.wake(state);
        match next.and_then(|parcel| self.unexpired(parcel)) {
            Some(parcel) => Poll::Ready(Some(parcel)),
            None => self.poll_next(cx),
        }
    }

    /// The next deliveries, as many as are there, at most `max`; `None` once the consumer leaves.
    pub(crate) fn poll_batch(self: &Arc<Self>, max: usize, cx: &Context<'_>) -> Poll<Option<Vec<Parcel>>> {
        self.poll_ready(cx, |inlet, mut state| {
            let mut batch = state.next_batch(max);
            inlet.after_hand_out(state);
            if batch.iter().any(|parcel| parcel.message.expires_at().is_some()) {
                batch = batch.into_iter().filter_map(|parcel| inlet.unexpired(parcel)).collect();
            }
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Waits until there is something and takes it; again when all that was taken had expired.
    fn poll_ready<T>(
        self: &Arc<Self>,
        cx: &Context<'_>,
        take: impl Fn(&Arc<Self>, MutexGuard<'_, State>) -> Option<T>,
    ) -> Poll<Option<T>> {
        loop {
            let state = self.lock();
            if state.phase != Phase::Open {
                return Poll::Ready(None);
            }
            if state.is_ready() {
                match take(self, state) {
                    Some(taken) => return Poll::Ready(Some(taken)),
                    None => continue,
                }
            }
            if state.direct && state.outbox.is_waiting() {
                self.settle_here(state);
                continue;
            }
            match self.received_here(state) {
                Here::Received => continue,
                Here::Again => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Here::Waits => {}
            }
            let mut state = self.lock();
            if state.is_ready() || state.phase != Phase::Open {
                continue;
            }
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
    }

    /// Wakes the receiving task when handing out has made room.
    fn after_hand_out(&self, mut state: MutexGuard<'_, State>) {
        let more = !state.is_ready() && self.wakes_receiver(&mut state);
        drop(state);
        if more {
            self.wake_receiver.notify_one();
        }
    }

    /// The parcel, unless it has expired.
    fn unexpired(self: &Arc<Self>, parcel: Parcel) -> Option<Parcel> {
        if parcel.message.expires_at().is_some_and(|at| at <= self.link.clock.wall()) {
            self.expire(parcel);
            return None;
        }
        Some(parcel)
    }

    /// Receives on the caller's task, where the receiver has that way and nobody waits in the other. When there is nothing (or no room) for some turns,
    /// the receiving task takes over and waits.
    fn received_here<'s>(self: &'s Arc<Self>, mut state: MutexGuard<'s, State>) -> Here {
        if state.task_receives {
            return Here::Waits;
        }
        if let (Some(mut room), Some(receiver)) = (state.room(), state.receiver.clone()) {
            room.messages = room.messages.min(RUN);
            let mut batch = std::mem::take(&mut state.batch);
            drop(state);
            let received = receiver.try_receive(room, &mut batch).is_some_and(|count| count > 0);
            if received {
                self.take_in(&receiver, &mut batch, false);
            }
            state = self.lock();
            state.batch = batch;
            if received {
                state.dry_turns = 0;
                return Here::Received;
            }
            if state.dry_turns < DRY_TURNS {
                state.dry_turns += 1;
                return Here::Again;
            }
        }
        state.dry_turns = 0;
        state.task_receives = true;
        drop(state);
        self.wake_receiver.notify_one();
        Here::Waits
    }

    /// Handled: it never comes again.
    pub(crate) fn ack(self: &Arc<Self>, parcel: Parcel) -> Settlement {
        self.settle(parcel, Outcome::Ack, |state| state.counts.acked += 1)
    }

    /// All handled: none comes again.
    pub(crate) fn ack_all(self: &Arc<Self>, parcels: Vec<Parcel>) -> Settlement {
        let mut state = self.lock();
        let first = state.outbox.next_seq();
        let mut result = Ok(());
        for parcel in parcels {
            match state.settle(parcel, Outcome::Ack) {
                Ok(_) => state.counts.acked += 1,
                Err(error) => result = result.and(Err(error)),
            }
        }
        let next = state.outbox.next_seq();
        self.after_return(state);
        match result {
            Ok(()) if next > first => Settlement::queued(Arc::clone(self), first, next - 1),
            other => Settlement::done(other.map_err(|e| self.link.explain(e, "settle"))),
        }
    }

    /// Failed: it comes again after that time, or goes to the dead-letter channel when its attempts are used up.
    pub(crate) fn retry(self: &Arc<Self>, parcel: Parcel, after: Duration) -> Settlement {
        let limit = self.link.binding.channel.requirements().dead_letter_after;
        if limit.is_some_and(|limit| parcel.attempt >= limit) && self.dead_letters.is_some() {
            return self.reject(parcel, "attempts exhausted".into());
        }
        let flow = self.lock().flow();
        if flow.delays && !flow.ordered {
            return self.settle(parcel, Outcome::Retry { after }, |state| state.counts.retried += 1);
        }
        self.park(parcel, after)
    }

    fn park(&self, parcel: Parcel, after: Duration) -> Settlement {
        let due = later(self.link.clock.now(), after);
        let mut state = self.lock();
        let parked = state.park(parcel, due);
        state.counts.retried += u64::from(parked.is_ok());
        self.after_return(state);
        Settlement::done(parked.map_err(|e| self.link.explain(e, "settle")))
    }

    /// Not to be handled: a copy goes to the dead-letter channel, then it is acknowledged.
    pub(crate) fn reject(self: &Arc<Self>, parcel: Parcel, reason: String) -> Settlement {
        if self.dead_letters.is_some() {
            return bury::bury(self, parcel, reason);
        }
        // There is nowhere to put it, and dropping it would be a silent loss: it comes again, not at once.
        let retried = self.park(parcel, Duration::from_secs(1));
        if retried.is_failed() {
            return retried;
        }
        let what = "there is no dead-letter channel here to take a rejected message; it comes again";
        let error = Error::new(ErrorKind::Unsupported, what).with_help("acknowledge what is to be dropped");
        Settlement::done(Err(self.link.explain(error, "reject")))
    }

    /// The application has dropped it unsettled: it comes again.
    pub(crate) fn dropped(self: &Arc<Self>, parcel: Parcel) {
        // The delivery is gone already, so is whoever could be told of an error; the broker gives it again in any case.
        drop(self.retry(parcel, Duration::ZERO));
    }

    /// Resolves when the broker has everything that was settled before.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        let upto = self.lock().outbox.next_seq();
        std::future::poll_fn(|cx| self.poll_all_settled(upto, cx)).await;
        let receiver = self.lock().receiver.clone();
        if let Some(receiver) = receiver {
            undropped(async move { receiver.flush().await })
                .await
                .map_err(|e| self.link.explain(e, "flush"))?;
        }
        let failed = std::mem::take(&mut self.lock().failed_since_flush);
        if failed == 0 {
            return Ok(());
        }
        let what = format!("{failed} settlements failed since the last flush; their messages come again");
        Err(self.link.explain(Error::new(ErrorKind::LeaseLost, what), "flush"))
    }

    /// What became of the settlements from `first` to `last`.
    pub(crate) fn poll_settled(&self, first: u64, last: u64, cx: &Context<'_>) -> Poll<Result<()>> {
        if self.poll_all_settled(last + 1, cx).is_pending() {
            return Poll::Pending;
        }
        let result = self.lock().outbox.result(first, last);
        Poll::Ready(result.map_err(|e| self.link.explain(e, "settle")))
    }

    /// Ready when all settlements before `upto` are answered. Asking hurries them on.
    fn poll_all_settled(&self, upto: u64, cx: &Context<'_>) -> Poll<()> {
        loop {
            let mut state = self.lock();
            if state.outbox.is_settled(upto) {
                return Poll::Ready(());
            }
            if state.direct && state.outbox.is_waiting() {
                self.settle_here(state);
                continue;
            }
            state.outbox.wait(upto - 1, cx.waker());
            state.urgent = true;
            drop(state);
            self.wake_settler.notify_one();
            return Poll::Pending;
        }
    }

    /// Stops handing out, gives what runs until the deadline to finish, settles, gives the rest back, and says how many that were.
    pub(crate) async fn close(&self) -> usize {
        self.leave();
        let mut ended = self.ended.subscribe();
        ended.wait_for(Option::is_some).await.map_or(0, |given_back| given_back.unwrap_or(0))
    }

    /// Hands out nothing, or goes on.
    pub(crate) fn hold_back(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused;
        self.wake(state);
    }

    /// Begins to leave.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Leaving(later(self.link.clock.now(), self.settings.leave_within));
        }
        let waker = state.waker.take();
        drop(state);
        self.leaving.notify_waiters();
        self.wake_supervisor.notify_one();
        self.wake_receiver.notify_one();
        self.wake_settler.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn status(&self) -> ConsumerStatus {
        let mut status = self.lock().status();
        status.state = self.status.state();
        status
    }

    fn expire(self: &Arc<Self>, parcel: Parcel) {
        let wanted = self.link.binding.channel.requirements().expired_to_dead_letter;
        drop(if wanted && self.dead_letters.is_some() {
            bury::bury(self, parcel, "expired".into())
        } else {
            self.settle(parcel, Outcome::Ack, |state| state.counts.expired += 1)
        });
    }

    fn settle(
        self: &Arc<Self>,
        parcel: Parcel,
        outcome: Outcome,
        count: impl FnOnce(&mut State),
    ) -> Settlement {
        let mut state = self.lock();
        let settled = state.settle(parcel, outcome);
        if settled.is_ok() {
            count(&mut state);
        }
        self.after_return(state);
        match settled {
            Ok(seq) => Settlement::queued(Arc::clone(self), seq, seq),
            Err(error) => Settlement::done(Err(self.link.explain(error, "settle"))),
        }
    }

    /// Settles what waits on the caller's task, where the receiver has that way.
    fn settle_here(&self, mut state: MutexGuard<'_, State>) {
        let Some(receiver) = state.receiver.clone().filter(|_| state.direct) else { return };
        let Some(mut batch) = state.outbox.take() else { return };
        drop(state);
        let panicked = LostBatch(Some(self));
        let settled = receiver.try_settle(&mut batch);
        panicked.disarm();
        let mut state = self.lock();
        if settled {
            let answered = state.outbox.answered(batch);
            self.finish(state, answered);
        } else {
            state.direct = false;
            state.settler_sleeps = true;
            let answered = state.outbox.put_back(batch);
            self.finish(state, answered);
        }
    }

    /// Takes note of answers, and wakes whom they concern.
    fn finish(&self, mut state: MutexGuard<'_, State>, answered: Answered) {
        state.count_failed(answered.failed);
        // What came meanwhile had nobody to take it.
        let more = state.outbox.is_waiting() || state.is_revoking();
        let more = more && std::mem::take(&mut state.settler_sleeps);
        let leaving = state.phase != Phase::Open;
        drop(state);
        answered.wakers.into_iter().for_each(Waker::wake);
        if more {
            self.wake_settler.notify_one();
        }
        if leaving {
            self.wake_supervisor.notify_one();
        }
    }

    /// What follows from a returned delivery.
    fn after_return(&self, state: MutexGuard<'_, State>) {
        let full = is_full(&state);
        self.wake(state);
        if full {
            self.settle_here(self.lock());
        }
    }

    /// Wakes whom a change concerns. Never calls the adapter, so its events may come with its own locks held.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let waker: Option<Waker> = if state.is_ready() { state.waker.take() } else { None };
        let receiver = self.wakes_receiver(&mut state);
        let settler = state.wakes_settler();
        let supervisor = state.running == 0 && state.phase != Phase::Open;
        drop(state);
        if settler {
            self.wake_settler.notify_one();
        }
        if receiver {
            self.wake_receiver.notify_one();
        }
        if supervisor {
            self.wake_supervisor.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wakes_receiver(&self, state: &mut State) -> bool {
        let wakes = state.wants_room && state.room().is_some();
        if wakes {
            state.wants_room = false;
        }
        wakes
    }

    async fn open_receiver(self: &Arc<Self>) -> Result<Arc<dyn crate::adapter::Receiver>> {
        let generation = {
            let mut state = self.lock();
            state.generation += 1;
            state.generation
        };
        let (link, source) = (self.link.clone(), self.source.clone());
        let (prefetch, events) = (self.settings.prefetch, self.events(generation));
        let opened =
            undropped_receiver(async move { link.receiver(&source, prefetch, events).await }).await?;
        let has = &opened.capabilities;
        let ordered = self.link.binding.channel.requirements().order_per_key;
        let mut state = self.lock();
        state.begin_with(Arc::clone(&opened.handle));
        state.adopt(Flow {
            ordered: ordered && !matches!(self.source, Source::DeadLetter(..)),
            delays: has.support(Capability::DelayedRetry) == Support::Native,
        });
        drop(state);
        // The first ones stay: what the application was told when it opened the consumer.
        let _ = self.capabilities.set(opened.capabilities);
        Ok(opened.handle)
    }

    /// Where the receiver of that generation reports. Holds no part of the consumer alive.
    fn events(self: &Arc<Self>, generation: u64) -> Events {
        let inlet: Weak<Self> = Arc::downgrade(self);
        Events::new(move |event| {
            if let Some(inlet) = inlet.upgrade() {
                inlet.on_event(generation, event);
            }
        })
    }

    fn on_event(&self, generation: u64, event: Event) {
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        match event {
            Event::Revoking { scope, .. } => state.revoke(scope),
            Event::Lost { scope } => state.lose_scope(scope),
            Event::Gap { messages } => state.counts.gaps += messages.unwrap_or(1),
            other => {
                drop(state);
                self.status.on_event(other);
                return;
            }
        }
        state.settler_sleeps = true;
        self.wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.link.clock.now()
    }
}

/// Whether so much waits to be settled that the application's task does it now.
fn is_full(state: &State) -> bool {
    state.direct && state.outbox.len() >= RUN
}

/// Fails the settlements that an adapter panics over while this is armed.
struct LostBatch<'i>(Option<&'i Inlet>);

impl LostBatch<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for LostBatch<'_> {
    fn drop(&mut self) {
        if let Some(inlet) = self.0 {
            let mut state = inlet.lock();
            let answered = state.outbox.lost();
            inlet.finish(state, answered);
        }
    }
}

/// So many turns in a row an application's task finds nothing before it goes to sleep: whoever sends mostly has its turn meanwhile, and waking two
/// tasks for each message costs more than a turn.
const DRY_TURNS: u8 = 2;

/// So many messages at most are received at once on the caller's task, and settlements gathered: enough to share the cost, and few enough that
/// senders do not wait long for an adapter's lock.
const RUN: usize = 64;

/// How receiving on the caller's task went.
enum Here {
    /// There is something now.
    Received,
    /// Nothing yet: the caller comes again after the others' turn.
    Again,
    /// Nothing: the receiving task waits for it.
    Waits,
}
