use crate::adapter::{
    Events, Message, MessageId, Outcome, Receipt, Receive, Receiver, ReceiverOptions, Room, Settle, Target,
    Text,
};
use crate::clock::later;
use crate::link::{Link, undropped};
use crate::outlet::{Outlet, Sending, Settings, Slot, has_ended};
use crate::status::Board;
use crate::{Error, ErrorKind, IntoMessage, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// Answers requests that came through one broker, each at its return address.
#[derive(Debug)]
pub(crate) struct Replier {
    link: Link,
    settings: Settings,
    board: Board,
    broker: Arc<str>,
    /// By return address, the oldest first; bounded, since addresses are foreign input.
    outlets: Mutex<Vec<(Text, Slot)>>,
}

/// So many return addresses are kept open.
const ADDRESSES: usize = 256;

impl Replier {
    pub(crate) fn new(link: Link, settings: Settings, board: Board, broker: Arc<str>) -> Self {
        Self { link, settings, board, broker, outlets: Mutex::default() }
    }

    /// Sends what waits, and says how many replies were left.
    pub(crate) async fn close(&self, deadline: Instant) -> usize {
        let slots = std::mem::take(&mut *self.lock());
        let mut unsent = 0;
        for outlet in slots.iter().filter_map(|(_, slot)| slot.get()) {
            unsent += outlet.close(deadline).await;
        }
        unsent
    }

    pub(crate) async fn reply(&self, request: &Message, body: impl IntoMessage) -> Result<Receipt> {
        let mut reply = body.into_message()?;
        let Some(address) = request.reply_to() else {
            let what = "the message has no return address: nobody waits for an answer";
            return Err(Error::new(ErrorKind::InvalidMessage, what).with_operation("reply"));
        };
        let id = request.correlation_id().cloned();
        reply.set_correlation_id(id.or_else(|| request.id().map(MessageId::to_text)));
        let slot = self.slot(address);
        let opened = tokio::select! {
            opened = slot.get_or_try_init(|| self.open(address)) => opened,
            () = self.link.clock.sleep_until(later(self.link.clock.now(), self.link.open_within)) => {
                Err(Error::new(ErrorKind::Timeout, "the return address could not be opened before the deadline"))
            }
        };
        let result = match opened {
            Ok(outlet) => match outlet.send(reply, self.link.open_within) {
                Sending::Done(result) => result,
                Sending::Waiting(answers) => answers.one().await,
            },
            Err(error) => Err(error),
        };
        if !self.lock().iter().any(|(_, other)| Arc::ptr_eq(other, &slot)) {
            // Given up while it was being opened, or by closing.
            self.give_up(&slot);
        }
        if result.is_err() {
            // The next reply to this address opens it anew, in case its requester is still there.
            self.remove(&slot);
        }
        result.map_err(|e| e.with_operation("reply").with_adapter(self.link.adapter.name()))
    }

    async fn open(&self, address: &Text) -> Result<Arc<Outlet>> {
        let status = self.board.handle(&self.broker, "a return address".into());
        let target = Target::Reply(address.clone());
        Outlet::open(self.link.clone(), target, self.settings.clone(), Arc::new(status)).await
    }

    fn slot(&self, address: &Text) -> Slot {
        let mut outlets = self.lock();
        if let Some((_, slot)) = outlets.iter().find(|(other, slot)| other == address && !has_ended(slot)) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        outlets.push((address.clone(), Arc::clone(&slot)));
        let oldest = if outlets.len() > ADDRESSES { Some(outlets.remove(0).1) } else { None };
        drop(outlets);
        if let Some(oldest) = oldest {
            self.give_up(&oldest);
        }
        slot
    }

    fn remove(&self, slot: &Slot) {
        self.lock().retain(|(_, other)| !Arc::ptr_eq(other, slot));
        self.give_up(slot);
    }

    /// Lets it send what waits, and end.
    fn give_up(&self, slot: &Slot) {
        if let Some(outlet) = slot.get() {
            outlet.begin_close(later(self.link.clock.now(), self.link.open_within));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Text, Slot)>> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The return address of one broker and the requests that wait for their replies.
pub(crate) struct Mailbox {
    link: Link,
    open: tokio::sync::Mutex<Option<Address>>,
    waiting: Mutex<Waiting>,
    late: AtomicU64,
    receiver: Mutex<Option<Arc<dyn Receiver>>>,
}

/// A return address, and its number among those that this broker has had one after another.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) text: Text,
    generation: u64,
}

/// The requests that wait for replies at the return address of that generation.
#[derive(Debug, Default)]
struct Waiting {
    generation: u64,
    requests: HashMap<Text, oneshot::Sender<Result<Message>>>,
}

impl Mailbox {
    pub(crate) fn new(link: Link) -> Arc<Self> {
        Arc::new(Self {
            link,
            open: tokio::sync::Mutex::new(None),
            waiting: Mutex::default(),
            late: AtomicU64::new(0),
            receiver: Mutex::default(),
        })
    }

    /// Replies that came when nobody waited for them any more.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// The return address, opened if it is not.
    pub(crate) async fn address(self: &Arc<Self>) -> Result<Address> {
        let mut open = self.open.lock().await;
        if let Some(address) = &*open {
            return Ok(address.clone());
        }
        let options = ReceiverOptions::new(
            Room::new(1024, 64 << 20),
            self.link.instance.clone(),
            later(self.link.clock.now(), self.link.open_within),
            Arc::clone(&self.link.clock),
            Events::ignored(),
        );
        let adapter = Arc::clone(&self.link.adapter);
        let replies = undropped(async move { adapter.open_replies(&options).await })
            .await
            .map_err(|e| e.with_operation("open replies").with_adapter(self.link.adapter.name()))?;
        let address = Address { text: replies.address, generation: self.lock().generation };
        *open = Some(address.clone());
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&replies.receiver));
        tokio::spawn(Arc::clone(self).serve(replies.receiver));
        Ok(address)
    }

    /// Waits for the reply to that correlation id at that address, from now on.
    pub(crate) fn expect(self: &Arc<Self>, id: Text, at: &Address) -> Expected {
        let (sender, reply) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.generation == at.generation {
            waiting.requests.insert(id.clone(), sender);
        } else {
            // Nobody has looked at the other end yet.
            let _ = sender.send(Err(Error::new(ErrorKind::Disconnected, "the return address is lost")));
        }
        drop(waiting);
        Expected { mailbox: Arc::clone(self), id, reply }
    }

    pub(crate) async fn close(&self) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(receiver) = receiver {
            let closing = undropped(async move {
                let stopped = receiver.stop().await;
                receiver.close().await.and(stopped)
            });
            // It is gone either way; whoever still waits for a reply is told by the receiving task.
            tokio::select! {
                _ = closing => {}
                () = self.link.clock.sleep_until(later(self.link.clock.now(), self.link.open_within)) => {}
            }
        }
    }

    /// Gives replies to those who wait for them until the return address ends.
    async fn serve(self: Arc<Self>, receiver: Arc<dyn Receiver>) {
        let mailbox = Arc::clone(&self);
        // On a task of its own, so that the address ends also when the adapter panics.
        let error = match undropped(async move { mailbox.receive(&*receiver).await }).await {
            Ok(()) => Error::new(ErrorKind::Closed, "the broker is closed"),
            Err(error) => error,
        };
        // Replies to this address cannot arrive any more; the next request opens another.
        let lost = {
            let mut waiting = self.lock();
            waiting.generation += 1;
            std::mem::take(&mut waiting.requests)
        };
        *self.open.lock().await = None;
        for (_, waiting) in lost {
            let lost = Error::new(error.kind(), format!("the return address is lost: {error}"));
            // Whoever waited may be gone.
            let _ = waiting.send(Err(lost));
        }
    }

    async fn receive(&self, receiver: &dyn Receiver) -> Result<()> {
        let mut batch = Vec::new();
        loop {
            let received = receiver.receive_batch(Room::new(256, 64 << 20), &mut batch).await;
            let mut settles: Vec<_> =
                batch.iter().map(|r| Settle::new(r.token.clone(), Outcome::Ack)).collect();
            for reply in batch.drain(..).filter_map(|received| received.content.ok()) {
                let waiting = reply.correlation_id().and_then(|id| self.lock().requests.remove(id));
                // A reply that nobody waits for, not any more or never, reaches nobody else.
                if waiting.is_none_or(|waiting| waiting.send(Ok(reply)).is_err()) {
                    self.late.fetch_add(1, Ordering::Relaxed);
                }
            }
            receiver.settle(&mut settles).await;
            match received {
                Ok(Receive::Ended) => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Throttled) => {
                    let wait = error.retry_after().unwrap_or(self.link.open_within / 30);
                    self.link.clock.sleep_until(later(self.link.clock.now(), wait)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reply that is waited for. Dropped, it is waited for no more.
pub(crate) struct Expected {
    mailbox: Arc<Mailbox>,
    id: Text,
    reply: oneshot::Receiver<Result<Message>>,
}

impl Expected {
    pub(crate) async fn reply(&mut self) -> Result<Message> {
        (&mut self.reply).await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the broker is closed")))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.mailbox.lock().requests.remove(&self.id);
    }
}
