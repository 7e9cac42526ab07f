use crate::error::{error, lost, operation, within};
use crate::link::{FAREWELL, Link};
use crate::shard::{Next, Shard};
use anybroker_contract::{
    Clock, Error, ErrorKind, Outcome, Receive, Received, Receiver, Result, Room, Scope, Settle, async_trait,
};
use futures_util::future::join_all;
use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// The receiving end: one queue, or the queues of a channel in order.
pub(crate) struct RabbitReceiver {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    shards: Mutex<Vec<Arc<Shard>>>,
    /// Whether a queue has one active consumer, which must not leave before its deliveries do.
    ordered: bool,
    /// The shard that is asked first.
    turn: AtomicUsize,
    stopped: AtomicBool,
    closed: AtomicBool,
    /// Why it cannot go on.
    failed: Mutex<Option<Error>>,
    waker: AtomicWaker,
}

impl RabbitReceiver {
    pub(crate) fn new(link: Arc<Link>, clock: Arc<dyn Clock>, shards: Vec<Shard>, ordered: bool) -> Self {
        Self {
            link,
            clock,
            shards: Mutex::new(shards.into_iter().map(Arc::new).collect()),
            ordered,
            turn: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            failed: Mutex::default(),
            waker: AtomicWaker::new(),
        }
    }

    /// Whether it takes no more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.stopped.load(Ordering::Acquire) || self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shard>> {
        self.shards().clone()
    }

    /// Takes out what should have been given away by now.
    pub(crate) fn take_overdue(&self, now: Instant) -> Vec<Arc<Shard>> {
        self.shards().extract_if(.., |shard| shard.is_overdue(now)).collect()
    }

    /// Receives from that one too.
    pub(crate) async fn add(&self, shard: Shard) {
        let late = {
            let mut shards = self.shards();
            match self.is_leaving() {
                true => Some(shard),
                false => {
                    shards.push(Arc::new(shard));
                    None
                }
            }
        };
        match late {
            // It has nothing, and nobody is left to be told.
            Some(shard) => drop(shard.close().await),
            None => self.waker.wake(),
        }
    }

    /// The receiver is dead.
    pub(crate) fn fail(&self, error: Error) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.waker.wake();
    }

    fn shards(&self) -> MutexGuard<'_, Vec<Arc<Shard>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_of(&self, scope: Scope) -> Option<Arc<Shard>> {
        self.shards().iter().find(|shard| shard.scope == scope).cloned()
    }

    fn poll_receive(
        &self,
        room: Room,
        into: &mut Vec<Received>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Receive>> {
        self.waker.register(cx.waker());
        if self.closed.load(Ordering::Acquire) {
            return Poll::Ready(Err(closed()));
        }
        if self.stopped.load(Ordering::Acquire) {
            return Poll::Ready(Ok(Receive::Ended));
        }
        if let Some(failed) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner) {
            let what = format!("the consumer cannot go on: {failed}");
            return Poll::Ready(Err(error(ErrorKind::Disconnected, what)));
        }
        let shards = self.shards();
        let (mut messages, mut bytes) = (0, 0);
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for n in 0..shards.len() {
            let shard = &shards[(first + n) % shards.len()];
            while messages < room.messages {
                // One is taken whatever its size.
                let left = if messages == 0 { usize::MAX } else { room.bytes.saturating_sub(bytes) };
                match shard.poll_next(left, cx) {
                    Next::Delivery(received, size) => {
                        into.push(received);
                        messages += 1;
                        bytes += size;
                    }
                    Next::Nothing => break,
                    Next::Gone(error) if messages == 0 => return Poll::Ready(Err(error)),
                    // Said with the next call.
                    Next::Gone(_) => break,
                }
            }
        }
        if messages > 0 { Poll::Ready(Ok(Receive::More)) } else { Poll::Pending }
    }

    fn settled(&self, shard: &Shard, outcome: Outcome) -> Option<Result<()>> {
        match outcome {
            Outcome::Retry { .. } => {
                Some(Err(error(ErrorKind::Unsupported, "RabbitMQ cannot delay a message")))
            }
            Outcome::Held { .. } => Some(Ok(())),
            _ if !shard.is_live() => Some(Err(error(ErrorKind::Disconnected, "the connection is gone"))),
            _ => None,
        }
    }
}

#[async_trait]
impl Receiver for RabbitReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        poll_fn(|cx| self.poll_receive(room, into, cx)).await
    }

    async fn settle(&self, batch: &mut [Settle]) {
        let mut scopes: Vec<Scope> = batch.iter().map(|settle| Scope::new(settle.token.part())).collect();
        scopes.sort_unstable();
        scopes.dedup();
        for scope in scopes {
            let shard = self.shard_of(scope);
            let mine = batch.iter_mut().filter(|settle| settle.token.part() == scope.number());
            let Some(shard) = shard.filter(|_| !self.closed.load(Ordering::Acquire)) else {
                let why = || if self.closed.load(Ordering::Acquire) { closed() } else { lease_lost() };
                mine.for_each(|settle| settle.result = Some(Err(why())));
                continue;
            };
            let mut open = Vec::new();
            for settle in mine {
                settle.result = self.settled(&shard, settle.outcome);
                if settle.result.is_none() {
                    open.push(settle);
                }
            }
            shard.settle(open).await;
        }
    }

    async fn flush(&self) -> Result<()> {
        let shards = self.shards().clone();
        // The broker works through a channel in order: when it answers this, it has what was settled before.
        let asking = join_all(shards.iter().map(|shard| shard.round_trip())).await;
        asking.into_iter().collect::<lapin::Result<()>>().map_err(|e| lost("flushing", &e))
    }

    async fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Release);
        self.waker.wake();
        if self.ordered {
            // The place as the active consumer is kept until the last delivery is settled: nobody may overtake.
            return Ok(());
        }
        let shards = self.shards().clone();
        for shard in shards {
            shard.cancel().await.map_err(|e| operation("stopping", &e))?;
        }
        Ok(())
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        let Some(shard) = self.shard_of(scope) else { return Err(lease_lost()) };
        self.shards().retain(|kept| kept.scope != scope);
        let deadline = self.clock.now() + FAREWELL;
        within(&*self.clock, deadline, "releasing", shard.close()).await?.map_err(|e| lost("releasing", &e))
    }

    async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.waker.wake();
        let shards = std::mem::take(&mut *self.shards());
        let deadline = self.clock.now() + FAREWELL;
        let closing = join_all(shards.iter().map(|shard| shard.close()));
        let closed = within(&*self.clock, deadline, "closing the receiver", closing).await;
        match closed {
            Ok(each) if self.link.is_live() => {
                each.into_iter().collect::<lapin::Result<()>>().map_err(|e| lost("closing the receiver", &e))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                // What it holds comes again only when the broker knows that it is gone.
                self.link.kill();
                Err(error)
            }
        }
    }
}

pub(crate) fn closed() -> Error {
    error(ErrorKind::Closed, "the receiver is closed")
}

pub(crate) fn lease_lost() -> Error {
    error(ErrorKind::LeaseLost, "the delivery is settled already, or belongs to another consumer")
}
