use crate::broker::Link;
use crate::consumer::Take;
use crate::error;
use crate::queue::Queue;
use anybroker_contract::{
    BoxFuture, Error, ErrorKind, Extend, Receive, Received, Receiver, ReceiverOptions, Result, Room, Scope,
    Settle, async_trait,
};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

/// One consumer of one queue.
pub(crate) struct MemoryReceiver {
    link: Arc<Link>,
    queue: Arc<Queue>,
    id: u64,
    closed: AtomicBool,
}

impl MemoryReceiver {
    pub(crate) fn open(link: Arc<Link>, queue: Arc<Queue>, options: &ReceiverOptions) -> Result<Self> {
        let joined = queue.join(link.id, options.prefetch, options.events.clone());
        let id =
            joined.ok_or_else(|| error(ErrorKind::NotFound, format!("`{}` was deleted", queue.title)))?;
        let receiver = Self { link, queue, id, closed: AtomicBool::new(false) };
        if receiver.link.is_cut() {
            // The cut may have passed the queue by before the consumer was there; dropping the receiver takes it out.
            return Err(receiver.ended());
        }
        Ok(receiver)
    }

    /// Why the consumer is none any more.
    fn ended(&self) -> Error {
        if self.closed.load(Ordering::Acquire) {
            error(ErrorKind::Closed, "the receiver is closed")
        } else if self.link.is_cut() {
            error(ErrorKind::Disconnected, "the connection is gone")
        } else {
            error(ErrorKind::NotFound, format!("`{}` was deleted", self.queue.title))
        }
    }

    fn settle_all(&self, batch: &mut [Settle]) {
        if !self.queue.settle(self.id, batch) {
            for settle in batch {
                settle.result = Some(Err(self.ended()));
            }
        }
    }

    fn poll_receive(
        &self,
        room: Room,
        into: &mut Vec<Received>,
        alarm: &mut Option<(Instant, BoxFuture<'static, ()>)>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Receive>> {
        loop {
            match self.queue.take(self.id, room, into, Some(cx.waker())) {
                Take::Taken => return Poll::Ready(Ok(Receive::More)),
                Take::Stopped => return Poll::Ready(Ok(Receive::Ended)),
                Take::Absent => return Poll::Ready(Err(self.ended())),
                Take::Wait(None) => {
                    *alarm = None;
                    return Poll::Pending;
                }
                Take::Wait(Some(at)) => {
                    if alarm.as_ref().is_none_or(|(set, _)| *set != at) {
                        *alarm = Some((at, self.queue.clock.sleep_until(at)));
                    }
                    if let Some((_, sleep)) = alarm
                        && sleep.as_mut().poll(cx).is_pending()
                    {
                        return Poll::Pending;
                    }
                }
            }
            // The alarm has gone off: what was due may be there now.
            *alarm = None;
        }
    }
}

#[async_trait]
impl Receiver for MemoryReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        let mut alarm = None;
        poll_fn(|cx| self.poll_receive(room, into, &mut alarm, cx)).await
    }

    fn try_receive(&self, room: Room, into: &mut Vec<Received>) -> Option<usize> {
        let before = into.len();
        self.queue.take(self.id, room, into, None);
        Some(into.len() - before)
    }

    fn try_settle(&self, batch: &mut [Settle]) -> bool {
        self.settle_all(batch);
        true
    }

    async fn settle(&self, batch: &mut [Settle]) {
        self.settle_all(batch);
    }

    async fn extend(&self, batch: &mut [Extend]) {
        if !self.queue.extend(self.id, batch) {
            for extend in batch {
                extend.result = Some(Err(self.ended()));
            }
        }
    }

    async fn stop(&self) -> Result<()> {
        if self.queue.stop(self.id) { Ok(()) } else { Err(self.ended()) }
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        self.queue.release(self.id, scope).unwrap_or_else(|| Err(self.ended()))
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        self.queue.leave(self.id);
        Ok(())
    }
}

impl Drop for MemoryReceiver {
    fn drop(&mut self) {
        self.queue.leave(self.id);
    }
}
