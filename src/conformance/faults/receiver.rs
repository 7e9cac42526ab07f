use super::{Connected, State, disconnected};
use crate::adapter::{
    Clock, Error, ErrorKind, Event, Events, Extend, Receive, Received, Receiver, ReceiverOptions, Result,
    Room, Scope, Settle, async_trait,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

pub(super) struct FaultyReceiver {
    inner: Arc<dyn Receiver>,
    connected: Connected,
    mine: Arc<Mine>,
}

/// What this handle and the task that watches over it share. The task holds no handle while it waits, so that dropping one stays a crash.
struct Mine {
    scopes: Mutex<BTreeSet<u64>>,
    phase: watch::Sender<Phase>,
    is_stopped: watch::Sender<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Live,
    /// The scopes go: nothing more is received.
    Revoked,
    /// The scopes are released: nothing of them is held.
    Released,
    /// The scopes are gone: nothing settles.
    Lost,
    /// Closed or dropped by its user.
    Gone,
}

impl FaultyReceiver {
    pub(super) fn new(inner: Arc<dyn Receiver>, connected: Connected, options: &ReceiverOptions) -> Self {
        let mine = Arc::new(Mine {
            scopes: Mutex::default(),
            phase: watch::Sender::new(Phase::Live),
            is_stopped: watch::Sender::new(false),
        });
        tokio::spawn(watch_over(
            Arc::downgrade(&inner),
            connected.clone(),
            Arc::clone(&mine),
            options.events.clone(),
            Arc::clone(&options.clock),
        ));
        Self { inner, connected, mine }
    }

    fn phase(&self) -> Phase {
        *self.mine.phase.borrow()
    }

    /// Turns what is to be garbled into undecodable records, and remembers the scopes.
    fn translate(&self, received: Received) -> Received {
        self.mine.scopes().insert(received.scope.number());
        let Ok(message) = &received.content else { return received };
        let garbled =
            message.id().as_ref().is_some_and(|id| self.connected.faults.0.borrow().garbled.contains(id));
        if !garbled {
            return received;
        }
        let raw = message.payload().cloned().unwrap_or_default();
        let error = Error::new(ErrorKind::InvalidMessage, "the record was garbled");
        let lease = received.lease();
        let mut undecodable = Received::undecodable(raw, error, received.token).with_scope(received.scope);
        undecodable.attempt = received.attempt;
        match lease {
            Some(lease) => undecodable.with_lease(lease),
            None => undecodable,
        }
    }
}

impl Drop for FaultyReceiver {
    fn drop(&mut self) {
        self.mine.phase.send_replace(Phase::Gone);
    }
}

#[async_trait]
impl Receiver for FaultyReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        let inner = Arc::clone(&self.inner);
        let receiving = tokio::spawn(async move {
            let mut batch = Vec::new();
            (inner.receive_batch(room, &mut batch).await, batch)
        });
        let received = async {
            let (ended, batch) = receiving.await.map_err(|_| disconnected())?;
            if !self.connected.passes().await {
                return Err(disconnected());
            }
            // What a receiver gives that is being revoked or has lost its scopes is not handed out: it goes to the next owner.
            if self.phase() >= Phase::Revoked {
                self.mine.stopped().await;
                return Ok(Receive::Ended);
            }
            into.extend(batch.into_iter().map(|received| self.translate(received)));
            ended
        };
        tokio::select! {
            biased;
            () = self.connected.death() => Err(disconnected()),
            ended = received => ended,
        }
    }

    async fn settle(&self, batch: &mut [Settle]) {
        let alive = self.connected.passes().await;
        if alive && self.phase() < Phase::Released {
            self.inner.settle(batch).await;
            return;
        }
        for settle in batch {
            settle.result = Some(Err(if alive { lost() } else { disconnected() }));
        }
    }

    async fn extend(&self, batch: &mut [Extend]) {
        let alive = self.connected.passes().await;
        if alive && self.phase() < Phase::Released {
            self.inner.extend(batch).await;
            return;
        }
        for extend in batch {
            extend.result = Some(Err(if alive { lost() } else { disconnected() }));
        }
    }

    async fn stop(&self) -> Result<()> {
        if !self.connected.passes().await {
            return Err(disconnected());
        }
        self.mine.is_stopped.send_replace(true);
        if self.phase() >= Phase::Revoked {
            return Ok(());
        }
        self.inner.stop().await
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        if self.phase() < Phase::Revoked {
            return self.inner.release(scope).await;
        }
        let mut scopes = self.mine.scopes();
        if self.phase() > Phase::Revoked || !scopes.remove(&scope.number()) {
            return Err(lost());
        }
        if scopes.is_empty() {
            self.mine.phase.send_replace(Phase::Released);
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        if self.connected.is_dead_now() {
            return Err(disconnected());
        }
        let closed = self.inner.close().await;
        self.mine.phase.send_replace(Phase::Gone);
        closed
    }
}

impl Mine {
    fn scopes(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stopped(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.is_stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    async fn reaches(&self, wanted: impl Fn(Phase) -> bool + Send + Sync) -> Phase {
        let mut phase = self.phase.subscribe();
        phase.wait_for(|phase| wanted(*phase)).await.map_or(Phase::Gone, |phase| *phase)
    }

    fn report_each(&self, events: &Events, event: impl Fn(Scope) -> Event) {
        for scope in self.scopes().iter() {
            events.report(event(Scope::new(*scope)));
        }
    }
}

/// Waits for what befalls the receiver from outside, and carries it out.
async fn watch_over(
    inner: std::sync::Weak<dyn Receiver>,
    connected: Connected,
    mine: Arc<Mine>,
    events: Events,
    clock: Arc<dyn Clock>,
) {
    let counts = |state: &State| (state.revocations, state.losses);
    let before = counts(&connected.faults.0.borrow());
    tokio::select! {
        _ = mine.reaches(|phase| phase == Phase::Gone) => return,
        () = connected.death() => return leave(&inner).await,
        () = connected.wait(|state| counts(state) != before) => {}
    }
    let revoked = {
        let state = connected.faults.0.borrow();
        state.revoked.filter(|_| state.losses == before.1)
    };
    let Some(time) = revoked else { return lose(&inner, &mine, &events).await };
    if let Some(inner) = inner.upgrade() {
        let _ = inner.stop().await;
    }
    let deadline = clock.now() + time;
    mine.phase.send_replace(Phase::Revoked);
    mine.report_each(&events, |scope| Event::Revoking { scope, deadline });
    tokio::select! {
        ended = mine.reaches(|phase| matches!(phase, Phase::Gone | Phase::Released)) => {
            if ended == Phase::Released {
                leave(&inner).await;
            }
        }
        () = connected.death() => leave(&inner).await,
        () = clock.sleep_until(deadline) => lose(&inner, &mine, &events).await,
    }
}

async fn lose(inner: &std::sync::Weak<dyn Receiver>, mine: &Mine, events: &Events) {
    mine.phase.send_replace(Phase::Lost);
    mine.report_each(events, |scope| Event::Lost { scope });
    leave(inner).await;
}

/// Ends the receiver at the broker, so that what it held goes to others.
async fn leave(inner: &std::sync::Weak<dyn Receiver>) {
    if let Some(inner) = inner.upgrade() {
        let _ = inner.stop().await;
        let _ = inner.close().await;
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::LeaseLost, "its scope belongs to another consumer")
}
