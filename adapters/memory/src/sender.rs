use crate::broker::{Broker, Link};
use crate::channel::Channel;
use crate::error;
use crate::queue::{Offer, Queue, Waiter};
use anybroker_contract::{
    Confirm, Error, ErrorKind, Events, Message, Receipt, Result, SendOutcome, Sender, async_trait,
};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The sending end of a channel, a dead-letter queue or a return address.
pub(crate) struct MemorySender {
    broker: Arc<Broker>,
    link: Arc<Link>,
    to: Route,
    /// Its number at the gate, under which it also waits for room.
    id: u64,
    closed: bool,
}

pub(crate) enum Route {
    Channel(Arc<Channel>),
    Queue(Arc<Queue>),
    /// The queue of a requester, who may be gone.
    Reply(Arc<Queue>),
}

impl MemorySender {
    pub(crate) fn new(broker: Arc<Broker>, link: Arc<Link>, to: Route, events: Events) -> Self {
        let id = broker.gate.enter(events);
        Self { broker, link, to, id, closed: false }
    }

    fn alive(&self) -> Result<()> {
        if self.closed {
            Err(error(ErrorKind::Closed, "the sender is closed").with_outcome(SendOutcome::NotSent))
        } else if self.link.is_cut() {
            Err(error(ErrorKind::Disconnected, "the connection is gone").with_outcome(SendOutcome::NotSent))
        } else {
            Ok(())
        }
    }

    fn receipt(&self) -> Receipt {
        Receipt::new(self.broker.config.level())
    }

    fn admit(&self, message: &Message) -> Result<()> {
        let (size, limit) = (message.size(), self.broker.config.max_message);
        if size <= limit {
            return Ok(());
        }
        let what = format!("the message has {size} bytes, and at most {limit} bytes are taken");
        Err(error(ErrorKind::PayloadTooLarge, what).with_outcome(SendOutcome::Refused))
    }

    /// Waits until at least one message was taken, and says how many were. The first must not be too large.
    fn poll_offer(&self, batch: &[Message], cx: &Context<'_>) -> Poll<Result<usize>> {
        self.alive()?;
        let offer = match self.broker.gate.poll_open(self.id, cx) {
            Poll::Ready(()) => self.to.offer(batch, 1, Some((self.id, cx.waker()))),
            Poll::Pending => Offer::Full,
        };
        match offer {
            Offer::Taken(taken) => Poll::Ready(Ok(taken)),
            Offer::Gone => Poll::Ready(Err(self.to.gone())),
            Offer::Full => {
                // Looked at again: a cut before the waker was in its place has not woken it.
                self.alive()?;
                Poll::Pending
            }
        }
    }
}

#[async_trait]
impl Sender for MemorySender {
    fn measure(&self, message: &Message) -> Result<usize> {
        Ok(message.size())
    }

    fn try_send(&mut self, batch: &[Message]) -> Option<Result<Confirm>> {
        if let Err(error) = self.alive() {
            return Some(Err(error));
        }
        if !self.broker.gate.is_open() {
            return None;
        }
        match self.to.offer(batch, batch.len(), None) {
            Offer::Taken(_) => Some(Ok(Confirm::accepted(self.receipt()))),
            Offer::Full => None,
            Offer::Gone => Some(self.to.refuse(batch.len())),
        }
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        if let Some(sent) = self.try_send(batch) {
            return sent;
        }
        let mut results = Vec::with_capacity(batch.len());
        while let Some(message) = batch.get(results.len()) {
            let rest = &batch[results.len()..];
            if let Err(error) = self.admit(message) {
                results.push(Err(error));
                continue;
            }
            match poll_fn(|cx| self.poll_offer(rest, cx)).await {
                Ok(taken) => results.extend((0..taken).map(|_| Ok(self.receipt()))),
                Err(error) if results.is_empty() && !self.to.is_reply() => return Err(error),
                Err(error) => results.extend(rest.iter().map(|_| Err(error.duplicate()))),
            }
        }
        if self.broker.gate.loses() {
            // A test wants this: the messages are there, and the answer is on a connection that is not.
            self.broker.cut(None);
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                let what = "the connection was lost before the answer came";
                *result = Err(error(ErrorKind::Disconnected, what).with_outcome(SendOutcome::Unknown));
            }
        }
        Ok(Confirm::ready(results))
    }

    async fn close(&mut self) -> Result<()> {
        self.closed = true;
        self.broker.gate.leave(self.id);
        Ok(())
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        self.broker.gate.leave(self.id);
    }
}

impl Route {
    fn offer(&self, batch: &[Message], at_least: usize, waiter: Waiter<'_>) -> Offer {
        match self {
            Self::Channel(channel) => channel.offer(batch, at_least, waiter),
            Self::Queue(queue) | Self::Reply(queue) => queue.offer(batch, at_least, waiter),
        }
    }

    const fn is_reply(&self) -> bool {
        matches!(self, Self::Reply(_))
    }

    fn gone(&self) -> Error {
        let (kind, what) = match self {
            Self::Channel(channel) => {
                (ErrorKind::NotFound, format!("the channel `{}` was deleted", channel.name))
            }
            Self::Queue(queue) => (ErrorKind::NotFound, format!("`{}` was deleted", queue.title)),
            Self::Reply(queue) => {
                (ErrorKind::Rejected, format!("nobody waits at `{}` any more", queue.title))
            }
        };
        error(kind, what).with_outcome(SendOutcome::Refused)
    }

    /// A requester who is gone concerns its replies only; a channel that is gone ends the sender.
    fn refuse(&self, count: usize) -> Result<Confirm> {
        if self.is_reply() {
            Ok(Confirm::ready((0..count).map(|_| Err(self.gone())).collect()))
        } else {
            Err(self.gone())
        }
    }
}
