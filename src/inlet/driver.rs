use super::state::Phase;
use super::{Inlet, LostBatch};
use crate::adapter::{Clock, Receive, Received, Receiver, Room, Source, SystemClock};
use crate::backoff::Backoff;
use crate::clock::later;
use crate::status::State as Health;
use crate::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Serves one receiver after another until the consumer leaves.
pub(super) async fn supervise(inlet: Arc<Inlet>, first: Arc<dyn Receiver>) {
    let mut next = Some(first);
    let mut backoff = inlet.settings.backoff;
    while let Some(receiver) = next.take() {
        let opened = inlet.now();
        let handle = Arc::new(Handle::new(receiver));
        let mut receiving = tokio::spawn(receive(Arc::clone(&inlet), Arc::clone(&handle)));
        let settling = tokio::spawn(settle(Arc::clone(&inlet), Arc::clone(&handle)));
        let leaving = inlet.until_end_of(&handle).await;
        let given_back = if leaving { leave(&inlet, &handle, &mut receiving).await } else { 0 };
        handle.die(None);
        inlet.wake_all();
        // Both end as soon as the adapter's pending calls do, which a dead handle ends. None is dropped while it is pending.
        let over = if leaving {
            inlet.bounded(settling).await;
            true
        } else {
            // Settlements are numbered through all receivers, so the next may settle only when this one has ended.
            !inlet.ends_in_time(settling).await
        };
        if over {
            inlet.lose_all();
            inlet.end(&handle, given_back).await;
            return;
        }
        inlet.bounded(receiving).await;
        inlet.lose_all();
        let error = handle.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        // One that has given something, or has been there for long, is opened again at once; one that breaks as soon as it is open is not.
        if handle.worked.load(Ordering::Acquire) || inlet.now() >= later(opened, backoff.longest()) {
            backoff.reset();
        } else {
            let again = later(inlet.now(), backoff.next_wait());
            inlet.pause(again).await;
        }
        next = reopen(&inlet, error, &mut backoff).await;
    }
    inlet.shut();
    inlet.ended.send_replace(Some(0));
}

/// Tries until a receiver is open again, or the consumer leaves. The first try is at once.
async fn reopen(
    inlet: &Arc<Inlet>,
    error: Option<Error>,
    backoff: &mut Backoff,
) -> Option<Arc<dyn Receiver>> {
    let reason = error.map_or_else(|| "the receiver's connection is lost".into(), |e| e.to_string());
    inlet.status.set(Health::Reconnecting, Some(reason));
    loop {
        if inlet.lock().phase != Phase::Open {
            return None;
        }
        let opened = {
            let mut opening = std::pin::pin!(inlet.open_receiver());
            loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    // What is being opened is on a task of its own and ends there.
                    () = inlet.wake_supervisor.notified() => if inlet.lock().phase != Phase::Open { return None },
                }
            }
        };
        match opened {
            Ok(receiver) => {
                if let Source::Subscription(_, subscription) = &inlet.source
                    && subscription.name().is_none()
                {
                    // The one before has ended with its receiver, and what came meanwhile with it.
                    inlet.lock().counts.gaps += 1;
                }
                inlet.status.set(Health::Connected, None);
                return Some(receiver);
            }
            Err(error) => {
                let wait = if error.is_retryable() { backoff.next_wait() } else { backoff.longest() };
                inlet.status.set(Health::Reconnecting, Some(error.to_string()));
                inlet.pause(later(inlet.now(), wait)).await;
            }
        }
    }
}

/// Leaves in order: takes no more, lets finish what runs, settles, and gives the rest back oldest first.
async fn leave(inlet: &Arc<Inlet>, handle: &Arc<Handle>, receiving: &mut JoinHandle<()>) -> usize {
    let Phase::Leaving(deadline) = inlet.lock().phase else {
        return 0;
    };
    let receiver = Arc::clone(&handle.receiver);
    let stopping = tokio::spawn(async move { receiver.stop().await });
    inlet.wake_receiver.notify_one();
    tokio::select! {
        _ = stopping => {}
        () = inlet.link.clock.sleep_until(deadline) => {}
    }
    // What the receiver still had is given back with the rest.
    tokio::select! {
        _ = receiving => {}
        () = inlet.link.clock.sleep_until(deadline) => {}
    }
    while inlet.lock().running > 0 && inlet.now() < deadline && !handle.is_dead() {
        inlet.sleep(deadline, &inlet.wake_supervisor).await;
    }
    let (given_back, upto) = {
        let mut state = inlet.lock();
        let waiting = state.give_back();
        (waiting + state.running, state.outbox.next_seq())
    };
    inlet.wake_settler.notify_one();
    while !inlet.lock().outbox.is_settled(upto) && inlet.now() < deadline && !handle.is_dead() {
        inlet.sleep(deadline, &inlet.wake_supervisor).await;
    }
    given_back
}

/// Receives while there is room.
async fn receive(inlet: Arc<Inlet>, handle: Arc<Handle>) {
    let panicked = Panicked(Some(Arc::clone(&handle)));
    let mut batch = Vec::new();
    let mut backoff = inlet.settings.backoff;
    let mut stalled = false;
    let here = handle.receiver.try_receive(Room::new(1, 1), &mut batch).is_some();
    inlet.take_in(&handle.receiver, &mut batch, false);
    inlet.lock().direct = here;
    while let Some(room) = inlet.room(&handle).await {
        let received = handle.receiver.receive_batch(room, &mut batch).await;
        if !batch.is_empty() {
            handle.worked.store(true, Ordering::Release);
        }
        inlet.take_in(&handle.receiver, &mut batch, here);
        match received {
            Ok(Receive::Ended) => break,
            Ok(_) => {
                backoff.reset();
                if std::mem::take(&mut stalled) {
                    inlet.status.set(Health::Connected, None);
                }
            }
            Err(error) if error.kind() == ErrorKind::Unavailable || error.kind() == ErrorKind::Throttled => {
                let wait = error.retry_after().unwrap_or_else(|| backoff.next_wait());
                stalled = true;
                inlet.status.set(Health::Stalled, Some(error.to_string()));
                inlet.sleep(later(inlet.now(), wait), &inlet.wake_receiver).await;
            }
            Err(error) => {
                handle.die(Some(error));
                break;
            }
        }
    }
    panicked.disarm();
}

/// Settles, extends leases, gives up revoked scopes, and hands out what is due again.
async fn settle(inlet: Arc<Inlet>, handle: Arc<Handle>) {
    let panicked = Panicked(Some(Arc::clone(&handle)));
    let mut linger: Option<Instant> = None;
    loop {
        let now = inlet.now();
        let mut work = {
            let mut state = inlet.lock();
            if handle.is_dead() {
                let answered = state.outbox.fail_waiting();
                inlet.finish(state, answered);
                panicked.disarm();
                return;
            }
            let lingered = linger.is_some_and(|until| until <= SystemClock::new().now());
            let work = state.work(now, lingered);
            // What was lost has made room.
            if inlet.wakes_receiver(&mut state) {
                inlet.wake_receiver.notify_one();
            }
            // For the application's next settlement it need not be woken while it waits for just that.
            state.settler_sleeps = work.is_empty() && !work.linger;
            state.settler_lingers = work.is_empty() && work.linger;
            work
        };
        if let Some(waker) = work.wake.take() {
            waker.wake();
        }
        if !work.linger {
            linger = None;
        }
        if work.is_empty() {
            if work.linger {
                linger.get_or_insert_with(|| SystemClock::new().now() + LINGER);
            }
            inlet.sleep_until(work.until, linger, &inlet.wake_settler).await;
            continue;
        }
        if !work.settle.is_empty() {
            let lost = LostBatch(Some(&inlet));
            handle.receiver.settle(&mut work.settle).await;
            lost.disarm();
            let mut state = inlet.lock();
            let answered = state.outbox.answered(work.settle);
            inlet.finish(state, answered);
        }
        if !work.extend.is_empty() {
            handle.receiver.extend(&mut work.extend).await;
            inlet.lock().extended(inlet.now(), &work.extended, work.extend);
        }
        for scope in work.release {
            // When it fails the scope is lost all the same.
            let _ = handle.receiver.release(scope).await;
            inlet.lock().lose_scope(scope);
        }
    }
}

/// How long settlements wait for more of them, or for the application's task to take them along. Real time, whatever the clock says: nothing but speed hangs on it.
const LINGER: Duration = Duration::from_millis(1);

impl Inlet {
    /// Resolves when the handle is dead (false) or the consumer leaves (true).
    async fn until_end_of(&self, handle: &Handle) -> bool {
        loop {
            if self.lock().phase != Phase::Open {
                return true;
            }
            if handle.is_dead() {
                return false;
            }
            tokio::select! {
                () = handle.ended.notified() => {}
                () = self.wake_supervisor.notified() => {}
            }
        }
    }

    /// How much to receive, once there is room; `None` when there is nothing more to receive.
    async fn room(&self, handle: &Handle) -> Option<Room> {
        loop {
            {
                let mut state = self.lock();
                if state.phase != Phase::Open || handle.is_dead() {
                    return None;
                }
                if state.task_receives {
                    if let Some(room) = state.room() {
                        return Some(room);
                    }
                    state.wants_room = true;
                }
            }
            self.wake_receiver.notified().await;
        }
    }

    /// Takes in what that receiver has given. With `hand_over` the application's task receives from now on, behind this batch.
    pub(super) fn take_in(
        self: &Arc<Self>,
        receiver: &Arc<dyn Receiver>,
        batch: &mut Vec<Received>,
        hand_over: bool,
    ) {
        if batch.is_empty() && !hand_over {
            return;
        }
        if !self.settings.foreign.is_empty() {
            for message in batch.iter_mut().filter_map(|received| received.content.as_mut().ok()) {
                self.settings.foreign.incoming(message);
            }
        }
        let (bury, waker, work) = {
            let mut state = self.lock();
            let bury = state.take_in(receiver, batch, self.dead_letters.is_some());
            if hand_over && state.is_current(receiver) {
                // Only with something in hand: else nobody would come back to receive.
                state.task_receives = !state.is_ready();
            }
            let waker = if state.is_ready() { state.waker.take() } else { None };
            let work = state.has_leases() || state.outbox.is_waiting();
            (bury, waker, work && std::mem::take(&mut state.settler_sleeps))
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if work {
            self.wake_settler.notify_one();
        }
        for parcel in bury {
            let error = parcel.undecodable().map(ToString::to_string).unwrap_or_default();
            drop(super::bury::bury(self, parcel, format!("undecodable: {error}")));
        }
    }

    /// Sleeps until then or until woken.
    async fn sleep(&self, until: Instant, wake: &Notify) {
        tokio::select! {
            () = self.link.clock.sleep_until(until) => {}
            () = wake.notified() => {}
        }
    }

    /// Waits until then, or until the consumer leaves.
    async fn pause(&self, until: Instant) {
        while self.lock().phase == Phase::Open && self.now() < until {
            self.sleep(until, &self.wake_supervisor).await;
        }
    }

    /// Sleeps until then by the clock, or until `real` by the system's, or until woken.
    async fn sleep_until(&self, until: Option<Instant>, real: Option<Instant>, wake: &Notify) {
        let sleep = |clock: &dyn Clock, at: Option<Instant>| at.map(|at| clock.sleep_until(at));
        let (until, real) = (sleep(&*self.link.clock, until), sleep(&SystemClock::new(), real));
        tokio::select! {
            () = maybe(until) => {}
            () = maybe(real) => {}
            () = wake.notified() => {}
        }
    }

    /// Waits for it, but not for ever: it runs on where it is.
    async fn bounded(&self, ending: impl Future<Output = impl Sized>) {
        tokio::select! {
            _ = ending => {}
            () = self.link.clock.sleep_until(later(self.now(), self.link.open_within)) => {}
        }
    }

    /// Waits for it, but once the consumer leaves, no longer than until the close deadline. False when that was too short.
    async fn ends_in_time(&self, mut ending: JoinHandle<()>) -> bool {
        loop {
            let deadline = match self.lock().phase {
                Phase::Leaving(deadline) => Some(deadline),
                _ => None,
            };
            if deadline.is_some_and(|at| at <= self.now()) {
                return false;
            }
            tokio::select! {
                _ = &mut ending => return true,
                () = self.sleep_until(deadline, None, &self.wake_supervisor) => {}
            }
        }
    }

    fn wake_all(&self) {
        self.wake_receiver.notify_one();
        self.wake_settler.notify_one();
    }

    fn lose_all(&self) {
        let mut state = self.lock();
        state.lose(|_| true);
        state.receiver = None;
        // Its deliveries are gone; a report of its receiver that comes late must not touch those of the next.
        state.generation += 1;
        // What was settled since the settling task ended must not reach the next receiver, where its token names another delivery.
        let answered = state.outbox.fail_waiting();
        self.finish(state, answered);
    }

    /// Nothing can be settled any more. Says how many deliveries were given back after the others.
    fn shut(&self) -> usize {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        let late = state.late;
        let answered = state.outbox.shut();
        self.finish(state, answered);
        self.status.set(Health::Closed, None);
        late
    }

    async fn end(&self, handle: &Handle, given_back: usize) {
        let receiver = Arc::clone(&handle.receiver);
        let closing = tokio::spawn(async move { receiver.close().await });
        self.bounded(closing).await;
        let late = self.shut();
        self.ended.send_replace(Some(given_back + late));
    }
}

/// One receiver and the word of its end.
struct Handle {
    receiver: Arc<dyn Receiver>,
    dead: AtomicBool,
    /// It has given something.
    worked: AtomicBool,
    ended: Notify,
    error: std::sync::Mutex<Option<Error>>,
}

impl Handle {
    fn new(receiver: Arc<dyn Receiver>) -> Self {
        Self {
            receiver,
            dead: AtomicBool::new(false),
            worked: AtomicBool::new(false),
            ended: Notify::new(),
            error: std::sync::Mutex::new(None),
        }
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn die(&self, error: Option<Error>) {
        *self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = error;
        self.dead.store(true, Ordering::Release);
        self.ended.notify_one();
    }
}

/// Ends the handle when the adapter panics in one of its tasks: the supervisor then opens another.
struct Panicked(Option<Arc<Handle>>);

impl Panicked {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Panicked {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.die(Some(Error::new(ErrorKind::Other, "the adapter has panicked")));
        }
    }
}

async fn maybe(sleep: Option<crate::adapter::BoxFuture<'static, ()>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}
