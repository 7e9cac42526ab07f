//! The sending side of one channel: one ordered outlet for all producers of a broker.
//!
//! A message takes one of two ways. When nothing is waiting and the client can take it at once, the caller hands it over itself and nobody is
//! woken. Otherwise it is queued and the driver, a task of the outlet's own, hands it over: batches as large as what has gathered, pipelined
//! within a window. The driver alone waits for the adapter, so no pending adapter future depends on a caller that may go away.

mod driver;
mod lanes;
mod state;
#[cfg(test)]
mod tests;
mod ticket;

pub(crate) use ticket::Answers;

use crate::adapter::{Capabilities, Channel, Events, Message, Receipt, SendOutcome, Target};
use crate::clock::later;
use crate::link::{Link, undropped};
use crate::status::HandleStatus;
use crate::{Error, ErrorKind, Result, backoff::Backoff, foreign::Foreign, id::new_id};
use state::{HandedOver, Phase, Queue};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use ticket::{Ticket, tickets};
use tokio::sync::{Notify, OnceCell, watch};

/// A message on its way, and what belongs to its sending.
#[derive(Debug)]
pub(crate) struct Entry {
    message: Message,
    seq: u64,
    /// On the wire; zero until measured.
    size: usize,
    deadline: Instant,
    /// Absent once the caller has its answer.
    ticket: Option<Ticket>,
    /// How often it has waited to go again.
    tries: u32,
    not_before: Option<Instant>,
    /// An attempt has ended without the broker's word: whatever comes later, nobody can say that it was not sent.
    unknown: bool,
}

impl Entry {
    fn may_go_again(&self, error: &Error) -> bool {
        error.is_retryable() && self.ticket.is_some()
    }

    /// Tells the caller, if it still waits, and gives it the message back. An error that does not say whether it was sent leaves that unknown.
    fn fail(&mut self, error: Error, message: Message) {
        let Some(ticket) = self.ticket.take() else { return };
        let outcome = error.outcome().filter(|_| !self.unknown).unwrap_or(SendOutcome::Unknown);
        ticket.answer(Err(error.with_outcome(outcome).with_operation("send").with_message(message)));
    }
}

/// How an outlet is opened.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) window_messages: usize,
    pub(crate) window_bytes: usize,
    pub(crate) backoff: Backoff,
    /// Whether a lost sender is opened again. A return address is not: it is gone.
    pub(crate) reopen: bool,
    pub(crate) foreign: Foreign,
}

/// The sending side of one channel.
#[derive(Debug)]
pub(crate) struct Outlet {
    link: Link,
    target: Target,
    settings: Settings,
    capabilities: Capabilities,
    /// The channel as the application wrote it when it asked first.
    asked: OnceLock<Channel>,
    queue: Mutex<Queue>,
    wake: Notify,
    ended: watch::Sender<Option<usize>>,
    status: Arc<HandleStatus>,
}

/// An outlet that is opened when it is first used. Opening one keeps no other waiting.
pub(crate) type Slot = Arc<OnceCell<Arc<Outlet>>>;

/// Whether its outlet was open once and is not any more.
pub(crate) fn has_ended(slot: &Slot) -> bool {
    slot.get().is_some_and(|outlet| outlet.has_ended())
}

/// A send that was begun.
pub(crate) enum Sending {
    /// It has ended already.
    Done(Result<Receipt>),
    /// It ends later.
    Waiting(Answers),
}

impl Outlet {
    /// Opens the sender and starts the driver.
    pub(crate) async fn open(
        link: Link,
        target: Target,
        settings: Settings,
        status: Arc<HandleStatus>,
    ) -> Result<Arc<Self>> {
        let opened = {
            let (link, target, events) = (link.clone(), target.clone(), events(&status));
            undropped(async move { link.sender(&target, events).await }).await?
        };
        let ordered = link.binding.channel.requirements().order_per_key;
        let outlet = Arc::new(Self {
            queue: Mutex::new(Queue::new(opened.handle, ordered, &opened.capabilities, &settings)),
            capabilities: opened.capabilities,
            asked: OnceLock::new(),
            link,
            target,
            settings,
            wake: Notify::new(),
            ended: watch::Sender::new(None),
            status,
        });
        tokio::spawn(driver::drive(Arc::clone(&outlet)));
        Ok(outlet)
    }

    pub(crate) const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether this outlet was opened for exactly that channel: then nothing has to be looked up.
    pub(crate) fn serves(&self, channel: &Channel) -> bool {
        self.asked.get() == Some(channel)
    }

    pub(crate) fn remember(&self, channel: &Channel) {
        // The first one stays; others are looked up.
        let _ = self.asked.set(channel.clone());
    }

    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    /// Begins to send one message: its place in the order is fixed when this returns.
    pub(crate) fn send(&self, mut message: Message, within: Duration) -> Sending {
        self.stamp(std::slice::from_mut(&mut message));
        let mut queue = self.lock();
        if let Err(closed) = queue.check_open() {
            return Sending::Done(Err(self.explain(closed).with_message(message)));
        }
        let handed_over = queue.hand_over(std::slice::from_ref(&message));
        match handed_over {
            HandedOver::All(receipt) => Sending::Done(Ok(receipt)),
            HandedOver::Refused(error) => Sending::Done(Err(self.explain(error).with_message(message))),
            other => Sending::Waiting(self.wait(queue, [message], other, within)),
        }
    }

    /// Sends all, in order, and gives one result for each.
    pub(crate) async fn send_all(
        &self,
        mut messages: Vec<Message>,
        within: Duration,
    ) -> Vec<Result<Receipt>> {
        if messages.is_empty() {
            return Vec::new();
        }
        self.stamp(&mut messages);
        let answers = {
            let mut queue = self.lock();
            if let Err(closed) = queue.check_open() {
                return messages
                    .into_iter()
                    .map(|m| Err(self.explain(closed.duplicate()).with_message(m)))
                    .collect();
            }
            match queue.hand_over(&messages) {
                HandedOver::All(receipt) => return messages.iter().map(|_| Ok(receipt.clone())).collect(),
                other => self.wait(queue, messages, other, within),
            }
        };
        answers.all().await.into_iter().map(|result| result.map_err(|e| self.explain(e))).collect()
    }

    fn wait(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        messages: impl IntoIterator<Item = Message, IntoIter: ExactSizeIterator>,
        handed_over: HandedOver,
        within: Duration,
    ) -> Answers {
        let messages = messages.into_iter();
        let (tickets, answers) = tickets(messages.len());
        let deadline = later(self.link.clock.now(), within);
        match handed_over {
            HandedOver::Later(confirm) => queue.launch(messages.collect(), tickets, deadline, confirm),
            _ => messages.zip(tickets).for_each(|(m, ticket)| queue.push(m, deadline, ticket)),
        }
        drop(queue);
        self.wake.notify_one();
        answers
    }

    /// Resolves when everything sent before has its result.
    pub(crate) async fn flush(&self) {
        let flushed = self.lock().flush();
        if self.ended.borrow().is_some() {
            return;
        }
        self.wake.notify_one();
        // Both outcomes say the same: nothing of it waits any more.
        let _ = flushed.await;
    }

    /// Takes no more, sends what waits until the deadline, and says how many were left. Again gives the same answer.
    pub(crate) async fn close(&self, deadline: Instant) -> usize {
        self.begin_close(deadline);
        let mut ended = self.ended.subscribe();
        ended.wait_for(Option::is_some).await.map_or(0, |unsent| unsent.unwrap_or(0))
    }

    /// Begins to close.
    pub(crate) fn begin_close(&self, deadline: Instant) {
        self.lock().close(deadline);
        self.wake.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    fn stamp(&self, messages: &mut [Message]) {
        let now = self.link.clock.wall();
        for message in messages {
            if message.id().is_none() {
                message.set_id(new_id(now));
            }
            if message.time().is_none() {
                message.set_time(now);
            }
            self.settings.foreign.outgoing(message);
        }
    }

    fn explain(&self, error: Error) -> Error {
        self.link.explain(error, "send")
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the adapter reports about a sender, as a state.
fn events(status: &Arc<HandleStatus>) -> Events {
    let status = Arc::clone(status);
    Events::new(move |event| status.on_event(event))
}

/// The error of a message that was never handed over.
fn not_sent(kind: ErrorKind, what: impl Into<String>) -> Error {
    Error::new(kind, what).with_outcome(SendOutcome::NotSent)
}

impl Phase {
    const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
