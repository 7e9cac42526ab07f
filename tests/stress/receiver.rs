//! Hesitates between taking and giving, and watches who calls what beside what.

use crate::adapter::Context;
use crate::rng::Rng;
use crate::wait::turns;
use anybroker::adapter::{
    Extend, Outcome, Receive, Received, Receiver, Room, Scope, Settle, Token, async_trait,
};
use anybroker::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct ShakyReceiver {
    inner: Arc<dyn Receiver>,
    context: Context,
    rng: Mutex<Rng>,
    is_receiving: AtomicBool,
    is_stopped: AtomicBool,
    is_closed: AtomicBool,
    scopes: Mutex<Scopes>,
}

#[derive(Default)]
struct Scopes {
    /// Of what is not settled.
    of: HashMap<Token, Scope>,
    /// Of the batch that is being settled.
    settling: Option<HashSet<Scope>>,
}

impl ShakyReceiver {
    pub(crate) fn new(inner: Arc<dyn Receiver>, context: Context, rng: Rng) -> Self {
        Self {
            inner,
            context,
            rng: Mutex::new(rng),
            is_receiving: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            scopes: Mutex::default(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.rng.lock().unwrap().below(bound)
    }

    fn check(&self, is_kept: bool, rule: &str) {
        if !is_kept {
            self.context.broken(rule);
        }
    }

    fn begin_to_settle(&self, batch: &[Settle]) {
        self.check(!batch.is_empty(), "nothing is settled");
        self.check(!self.is_closed.load(SeqCst), "a delivery is settled after close");
        let retries = batch.iter().any(|settle| matches!(settle.outcome, Outcome::Retry { .. }));
        self.check(!(retries && self.context.plan.ordered), "an ordered channel is asked to retry");
        let mut scopes = self.scopes.lock().unwrap();
        let settling: Vec<_> =
            batch.iter().filter_map(|settle| scopes.of.get(&settle.token)).copied().collect();
        self.check(settling.len() == batch.len(), "a delivery is settled that is not out");
        let other = scopes.settling.replace(settling.into_iter().collect());
        self.check(other.is_none(), "two batches are settled at once");
    }

    fn end_to_settle(&self, batch: &[Settle]) {
        let mut scopes = self.scopes.lock().unwrap();
        scopes.settling = None;
        let is_out =
            |settle: &Settle| settle.result.is_none() || matches!(settle.outcome, Outcome::Held { .. });
        for settle in batch.iter().filter(|settle| !is_out(settle)) {
            scopes.of.remove(&settle.token);
        }
    }

    fn note(&self, received: &[Received]) {
        let scopes = received.iter().map(|received| (received.token.clone(), received.scope));
        self.scopes.lock().unwrap().of.extend(scopes);
    }
}

#[async_trait]
impl Receiver for ShakyReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        let pending = self.context.pending("receive_batch");
        self.check(!self.is_receiving.swap(true, SeqCst), "two tasks receive at once");
        self.check(!self.is_closed.load(SeqCst), "a batch is received after close");
        let before = into.len();
        let received = match self.below(100) {
            0..5 => Err(later()),
            _ => self.inner.receive_batch(room, into).await,
        };
        self.note(&into[before..]);
        turns(self.below(4)).await;
        self.is_receiving.store(false, SeqCst);
        pending.ended();
        received
    }

    fn try_receive(&self, room: Room, into: &mut Vec<Received>) -> Option<usize> {
        if !self.context.shaky.at_once {
            return None;
        }
        let beside = "try_receive runs while receive_batch is pending";
        self.check(!self.is_receiving.load(SeqCst), beside);
        let before = into.len();
        let received = self.inner.try_receive(room, into);
        self.note(&into[before..]);
        self.check(!self.is_receiving.load(SeqCst), beside);
        received
    }

    fn try_settle(&self, batch: &mut [Settle]) -> bool {
        if !self.context.shaky.at_once {
            return false;
        }
        self.begin_to_settle(batch);
        let are_settled = self.below(100) >= 15 && self.inner.try_settle(batch);
        self.end_to_settle(batch);
        are_settled
    }

    async fn settle(&self, batch: &mut [Settle]) {
        let pending = self.context.pending("settle");
        self.begin_to_settle(batch);
        turns(self.below(4)).await;
        self.inner.settle(batch).await;
        self.end_to_settle(batch);
        pending.ended();
    }

    async fn extend(&self, batch: &mut [Extend]) {
        self.check(!batch.is_empty(), "nothing is extended");
        let pending = self.context.pending("extend");
        self.inner.extend(batch).await;
        pending.ended();
    }

    async fn flush(&self) -> Result<()> {
        let pending = self.context.pending("the flush of a receiver");
        let flushed = self.inner.flush().await;
        pending.ended();
        flushed
    }

    async fn stop(&self) -> Result<()> {
        self.check(!self.is_stopped.swap(true, SeqCst), "a receiver is stopped twice");
        let pending = self.context.pending("stop");
        let stopped = self.inner.stop().await;
        pending.ended();
        stopped
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        let settling = |scopes: &Scopes| scopes.settling.as_ref().is_some_and(|of| of.contains(&scope));
        let is_settling = settling(&self.scopes.lock().unwrap());
        self.check(!is_settling, "a scope is released while its settlements are on their way");
        let pending = self.context.pending("release");
        let released = self.inner.release(scope).await;
        pending.ended();
        released
    }

    async fn close(&self) -> Result<()> {
        self.check(!self.is_closed.swap(true, SeqCst), "a receiver is closed twice");
        let pending = self.context.pending("the close of a receiver");
        let closed = self.inner.close().await;
        pending.ended();
        closed
    }
}

/// What passes, and leaves the receiver alive.
fn later() -> Error {
    Error::new(ErrorKind::Unavailable, "later").with_retry_after(Duration::from_millis(1))
}
