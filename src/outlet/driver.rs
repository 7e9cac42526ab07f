use super::state::{Flight, Next, Queue, for_all};
use super::{Entry, Outlet, events, not_sent};
use crate::adapter::{BoxFuture, Confirm, Confirmed, Message, SendOutcome, Sender};
use crate::backoff::Backoff;
use crate::clock::later;
use crate::link::undropped;
use crate::status::State as Health;
use crate::{Error, ErrorKind, Result};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::task::yield_now;

/// Hands over what waits, watches what is on its way, and opens the sender again after a loss, until the outlet closes.
pub(super) async fn drive(outlet: Arc<Outlet>) {
    let _ended = Ended(Arc::clone(&outlet));
    let mut flights = Flights::default();
    let mut backoff = outlet.settings.backoff;
    loop {
        // Whoever the same answers have woken may send first: one batch of many costs far less than many of one.
        let mut landed = Vec::new();
        if !flights.0.is_empty() {
            yield_now().await;
            // A failure that is known by now must not be overtaken.
            landed = poll_fn(|cx| Poll::Ready(flights.landed(cx))).await;
        }
        let now = outlet.link.clock.now();
        let next = {
            let mut queue = outlet.lock();
            queue.take_in(landed, now);
            flights.0.extend(queue.launched());
            queue.serve_flushes(flights.entries());
            queue.next(now, !flights.0.is_empty())
        };
        match next {
            Next::Send { mut sender, messages, entries } => {
                let messages = Arc::new(messages);
                let batch = Arc::clone(&messages);
                let mut handing: Handing = Box::pin(async move {
                    let taken = sender.send_batch(&batch).await;
                    (sender, taken)
                });
                let mut handed = Handed { messages: &messages, entries };
                let taken = outlet.attend(&mut handing, &mut flights, Some(&mut handed)).await;
                let entries = handed.entries;
                let Some((sender, taken)) = taken else {
                    // The close deadline has passed and the client still does not take the batch. It runs on by itself.
                    let confirm = Confirm::pending(async move {
                        drop(handing.await);
                        Vec::new()
                    });
                    flights.0.push(Flight::new(messages, entries, confirm));
                    continue;
                };
                let confirm = taken.unwrap_or_else(|error| for_all(&error, entries.len()));
                let mut queue = outlet.lock();
                queue.give_back(sender);
                // Answers that are there already count before anything else is handed over: a failure must not be overtaken.
                match confirm.try_now() {
                    Ok(confirmed) => queue.landed(messages, entries, confirmed, outlet.link.clock.now()),
                    Err(confirm) => flights.0.push(Flight::new(messages, entries, confirm)),
                }
            }
            Next::Reopen if !outlet.settings.reopen => {
                let gone = not_sent(ErrorKind::NotFound, "the return address is gone");
                let unsent = outlet.give_up(&gone);
                outlet.end(unsent).await;
                return;
            }
            Next::Reopen => reopen(&outlet, &mut flights, &mut backoff).await,
            Next::Wait { until } => {
                if outlet.lock().is_broken() {
                    flights.forsake(&mut outlet.lock(), now);
                }
                outlet.rest(until, &mut flights).await;
            }
            Next::End => {
                let closed =
                    not_sent(ErrorKind::Closed, "the producer closed before the message could be sent");
                let unsent = outlet.lock().abandon(&closed);
                let unanswered = flights.0.iter().map(|f| f.entries.len()).sum::<usize>();
                flights.forsake_all();
                outlet.end(unsent + unanswered).await;
                return;
            }
        }
    }
}

/// Tries until a sender is open again, or the outlet closes. The first try is at once, if the sender before has ever worked.
async fn reopen(outlet: &Arc<Outlet>, flights: &mut Flights, backoff: &mut Backoff) {
    outlet.status.set(Health::Reconnecting, Some("the sender's connection is lost".into()));
    if outlet.lock().has_worked() {
        backoff.reset();
    } else {
        let again = later(outlet.link.clock.now(), backoff.next_wait());
        if outlet.pause(again, flights).await {
            return;
        }
    }
    loop {
        let (link, target, events) = (outlet.link.clone(), outlet.target.clone(), events(&outlet.status));
        let opening = undropped(async move { link.sender(&target, events).await });
        let mut opening = pin!(opening);
        let Some(opened) = outlet.attend(&mut opening, flights, None).await else { return };
        match opened {
            Ok(opened) => {
                outlet.lock().reopened(opened.handle, &opened.capabilities, &outlet.settings);
                outlet.status.set(Health::Connected, None);
                return;
            }
            Err(error) => {
                let wait = if error.is_retryable() { backoff.next_wait() } else { backoff.longest() };
                outlet.status.set(Health::Reconnecting, Some(error.to_string()));
                let again = later(outlet.link.clock.now(), wait);
                if outlet.pause(again, flights).await {
                    return;
                }
            }
        }
    }
}

impl Outlet {
    /// Polls an adapter's future. Meanwhile answers are taken in and deadlines kept. `None` when the outlet has to end before it does.
    async fn attend<F: Future + Unpin>(
        &self,
        adapter: &mut F,
        flights: &mut Flights,
        mut handed: Option<&mut Handed<'_>>,
    ) -> Option<F::Output> {
        loop {
            let now = self.link.clock.now();
            let (over, waiting) = {
                let mut queue = self.lock();
                queue.serve_flushes(flights.entries().chain(handed.iter().flat_map(|h| &h.entries)));
                (queue.is_over(now), queue.earliest(now))
            };
            if over {
                return None;
            }
            let deadline = handed.as_ref().and_then(|h| earliest(&h.entries));
            let mut timer =
                pin!(self.timer(flights.earliest().into_iter().chain(deadline).chain(waiting).min()));
            let landed = tokio::select! {
                biased;
                done = &mut *adapter => return Some(done),
                landed = flights.next() => landed,
                () = &mut timer => Vec::new(),
                () = self.wake.notified() => Vec::new(),
            };
            let now = self.link.clock.now();
            let mut queue = self.lock();
            queue.take_in(landed, now);
            flights.0.extend(queue.launched());
            let handed = handed.as_mut().into_iter();
            let handed = handed.flat_map(|h| h.messages.iter().zip(&mut h.entries));
            queue.expire(now, &mut flights.pairs(now).chain(handed));
        }
    }

    /// Waits for anything to do. Answers are taken in and deadlines kept.
    async fn rest(&self, until: Option<Instant>, flights: &mut Flights) {
        let mut timer = pin!(self.timer(until.into_iter().chain(flights.earliest()).min()));
        let landed = tokio::select! {
            biased;
            landed = flights.next() => landed,
            () = self.wake.notified() => Vec::new(),
            () = &mut timer => Vec::new(),
        };
        let now = self.link.clock.now();
        let mut queue = self.lock();
        queue.take_in(landed, now);
        flights.0.extend(queue.launched());
        queue.expire(now, &mut flights.pairs(now));
    }

    /// Waits until then, keeping deadlines. True when the outlet is to end.
    async fn pause(&self, until: Instant, flights: &mut Flights) -> bool {
        loop {
            let now = self.link.clock.now();
            self.lock().serve_flushes(flights.entries());
            match self.lock().next(now, false) {
                Next::End => return true,
                _ if now >= until => return false,
                _ => {}
            }
            self.rest(Some(until), flights).await;
        }
    }

    /// Takes no more and fails everything that waits. Says how many that were.
    fn give_up(&self, why: &Error) -> usize {
        let mut queue = self.lock();
        queue.close(self.link.clock.now());
        queue.abandon(why)
    }

    /// Closes the sender, on a task of its own if it does not answer, and tells whoever waits for the end.
    async fn end(&self, unsent: usize) {
        let sender = self.lock().take_sender();
        if let Some(mut sender) = sender {
            let closing = tokio::spawn(async move { sender.close().await });
            let deadline = later(self.link.clock.now(), self.link.open_within);
            tokio::select! {
                _ = closing => {}
                () = self.link.clock.sleep_until(deadline) => {}
            }
        }
        self.status.set(Health::Closed, None);
        self.finish(unsent);
    }

    /// Tells whoever waits for the end.
    fn finish(&self, unsent: usize) {
        self.ended.send_replace(Some(unsent));
        self.lock().serve_flushes(std::iter::empty());
    }

    async fn timer(&self, at: Option<Instant>) {
        match at {
            Some(at) => self.link.clock.sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Ends the outlet also when the adapter panics or the runtime ends: then nobody may wait for it any longer.
struct Ended(Arc<Outlet>);

impl Drop for Ended {
    fn drop(&mut self) {
        if self.0.ended.borrow().is_none() {
            let why = match std::thread::panicking() {
                true => not_sent(ErrorKind::Other, "the adapter has panicked; the producer is closed"),
                false => not_sent(ErrorKind::Closed, "the runtime has shut down; the producer is closed"),
            };
            let unsent = self.0.give_up(&why);
            self.0.status.set(Health::Closed, Some(why.to_string()));
            self.0.finish(unsent);
        }
    }
}

/// A sender at work on a batch. It owns both, so that it can run on by itself when the outlet ends.
type Handing = BoxFuture<'static, (Box<dyn Sender>, Result<Confirm>)>;

/// The batch that is being handed over, whose deadlines run too.
struct Handed<'m> {
    messages: &'m [Message],
    entries: Vec<Entry>,
}

/// The batches on their way, in the order in which they were handed over.
#[derive(Default)]
struct Flights(Vec<Flight>);

/// Batches with their answers, in the order of [`Flights`].
pub(super) type Landed = Vec<(Flight, Confirmed)>;

impl Flights {
    /// The batches that have their answers: at least one. Waits for ever when there is none. Cancel-safe.
    async fn next(&mut self) -> Landed {
        poll_fn(|cx| {
            let landed = self.landed(cx);
            if landed.is_empty() { Poll::Pending } else { Poll::Ready(landed) }
        })
        .await
    }

    /// All that have their answers by now.
    fn landed(&mut self, cx: &mut Context<'_>) -> Landed {
        let mut answers = Vec::new();
        let has_landed = |flight: &mut Flight| match Pin::new(&mut flight.confirm).poll(cx) {
            Poll::Ready(confirmed) => {
                answers.push(confirmed);
                true
            }
            Poll::Pending => false,
        };
        let flights: Vec<_> = self.0.extract_if(.., has_landed).collect();
        flights.into_iter().zip(answers).collect()
    }

    /// What is on its way in batches of which a deadline has passed.
    fn pairs(&mut self, now: Instant) -> impl Iterator<Item = (&Message, &mut Entry)> {
        self.0.iter_mut().filter(move |flight| flight.deadline.is_some_and(|at| at <= now)).flat_map(
            move |flight| {
                // Read again: what is answered now has no deadline any more.
                flight.deadline = earliest(flight.entries.iter().filter(|e| e.deadline > now));
                flight.messages.iter().zip(&mut flight.entries)
            },
        )
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().flat_map(|flight| &flight.entries)
    }

    fn earliest(&self) -> Option<Instant> {
        self.0.iter().filter_map(|flight| flight.deadline).min()
    }

    /// Lets go of batches of a dead sender that nobody waits for any more: their confirms run on, on tasks of their own.
    fn forsake(&mut self, queue: &mut Queue, now: Instant) {
        let (silent, kept): (Vec<_>, _) =
            self.0.drain(..).partition(|flight| flight.entries.iter().all(|entry| entry.ticket.is_none()));
        self.0 = kept;
        for flight in silent {
            drop(tokio::spawn(flight.confirm));
            let gone = Error::new(ErrorKind::Disconnected, "the connection was lost")
                .with_outcome(SendOutcome::Unknown);
            let answers = flight.entries.iter().map(|_| Err(gone.duplicate())).collect();
            queue.landed(flight.messages, flight.entries, Confirmed::Each(answers), now);
        }
    }

    /// Lets go of all batches; whoever waits for them gets "unknown".
    fn forsake_all(&mut self) {
        for flight in self.0.drain(..) {
            for (message, mut entry) in flight.messages.iter().zip(flight.entries) {
                let what = "the producer closed before the broker answered";
                entry.fail(Error::new(ErrorKind::Closed, what), message.clone());
            }
            drop(tokio::spawn(flight.confirm));
        }
    }
}

pub(super) fn earliest<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Option<Instant> {
    entries.into_iter().filter(|entry| entry.ticket.is_some()).map(|entry| entry.deadline).min()
}
