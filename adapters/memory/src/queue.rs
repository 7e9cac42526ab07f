use crate::after::{After, lock};
use crate::consumer::{Consumer, Take};
use crate::entries::{Content, fitting};
use crate::incoming::{Incoming, MANY};
use crate::state::{State, lease_lost};
use anybroker_contract::{Clock, Events, Extend, Message, Received, Result, Room, Scope, Settle};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

/// One queue: of a point-to-point channel, of a subscription, of dead letters, or of replies.
pub(crate) struct Queue {
    pub(crate) title: String,
    pub(crate) clock: Arc<dyn Clock>,
    form: Form,
    incoming: Mutex<Incoming>,
    /// Locked before `incoming` where both are.
    state: Mutex<State>,
}

/// What a queue is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// The number of key-hashed shards; `None` keeps no order among competing consumers.
    pub(crate) shards: Option<usize>,
    pub(crate) bound: Option<usize>,
    /// The most bytes of a message.
    pub(crate) largest: usize,
    pub(crate) lease: Option<Duration>,
    /// Says which attempt a delivery is.
    pub(crate) counts_attempts: bool,
    /// It goes with its first consumer.
    pub(crate) temporary: bool,
}

/// How a batch fared.
pub(crate) enum Offer {
    /// So many of its first messages were taken.
    Taken(usize),
    /// There is no room now, or a message is too large.
    Full,
    /// The queue does not exist any more.
    Gone,
}

/// Who waits for room: a sender's number, and how to wake it.
pub(crate) type Waiter<'a> = Option<(u64, &'a Waker)>;

impl Queue {
    pub(crate) fn new(title: String, clock: Arc<dyn Clock>, form: Form) -> Arc<Self> {
        let state = State::new(form);
        let incoming = Mutex::new(Incoming::new(state.view()));
        Arc::new(Self { title, clock, form, incoming, state: Mutex::new(state) })
    }

    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn is_gone(&self) -> bool {
        lock(&self.incoming).view.gone
    }

    /// Takes the first messages that are not too large and for which there is room, if there are at least so many. Else `waiter` is woken when there is room.
    pub(crate) fn offer(&self, batch: &[Message], at_least: usize, waiter: Waiter<'_>) -> Offer {
        self.arrive(|incoming| {
            if incoming.view.gone {
                return Offer::Gone;
            }
            let (before, room) = (incoming.contents.len(), incoming.room(waiter));
            fitting(batch, room, self.form.largest).for_each(|content| incoming.contents.push(content));
            let taken = incoming.contents.len() - before;
            if taken < at_least {
                incoming.contents.truncate(before);
                return Offer::Full;
            }
            Offer::Taken(taken)
        })
    }

    /// How many messages fit. When none does, `waiter` is woken as soon as one does.
    pub(crate) fn room(&self, waiter: Waiter<'_>) -> usize {
        self.arrive(|incoming| incoming.room(waiter))
    }

    /// Appends all of them, whatever the bound. Says whether the queue exists.
    pub(crate) fn push(&self, contents: impl Iterator<Item = Content>) -> bool {
        self.arrive(|incoming| {
            if !incoming.view.gone {
                incoming.contents.extend(contents);
            }
            !incoming.view.gone
        })
    }

    /// A new consumer, which belongs to that connection. `None`: the queue does not exist any more.
    pub(crate) fn join(&self, link: u64, prefetch: Room, events: Events) -> Option<u64> {
        self.with(|state, after| {
            if state.gone {
                return None;
            }
            let (id, scope) = (state.next(), Scope::new(state.next()));
            state.consumers.insert(id, Consumer::new(link, scope, prefetch, events));
            state.rebalance(self.clock.now(), after);
            Some(id)
        })
    }

    /// Appends what the consumer can have now; else `waker` is woken when there is something, or it has to look again at the time given.
    pub(crate) fn take(&self, id: u64, room: Room, into: &mut Vec<Received>, waker: Option<&Waker>) -> Take {
        self.with(|state, after| {
            self.expire(state, after);
            match state.consumers.get(&id) {
                None => return Take::Absent,
                Some(consumer) if consumer.stopped => return Take::Stopped,
                Some(_) => {}
            }
            let ready = |state: &State| state.shards.iter().map(|shard| shard.ready.len()).sum::<usize>();
            let short = |state: &State| ready(state) < room.messages || state.next_for(id).is_none();
            while short(state) && self.bring_in(state, waker.is_some()) {}
            let lease = self.form.lease.map(|lease| (self.clock.now() + lease, lease));
            if state.take(id, room, lease, into) {
                state.unwait(id);
                return Take::Taken;
            }
            Take::Wait(waker.and_then(|waker| state.wait(id, waker)))
        })
    }

    /// Settles each and answers each. False: there is no such consumer, and nothing was answered.
    pub(crate) fn settle(&self, id: u64, batch: &mut [Settle]) -> bool {
        self.with(|state, after| {
            self.expire(state, after);
            if !state.consumers.contains_key(&id) {
                return false;
            }
            for settle in batch {
                settle.result = Some(state.settle(id, &settle.token, settle.outcome, &*self.clock));
            }
            true
        })
    }

    /// Extends each lease and answers each. False as with [`Queue::settle`].
    pub(crate) fn extend(&self, id: u64, batch: &mut [Extend]) -> bool {
        self.with(|state, after| {
            self.expire(state, after);
            if !state.consumers.contains_key(&id) {
                return false;
            }
            for extend in batch {
                extend.result = Some(state.extend(id, &extend.token, self.clock.now()));
            }
            true
        })
    }

    /// The consumer takes no more, but keeps what it has. False as with [`Queue::settle`].
    pub(crate) fn stop(&self, id: u64) -> bool {
        self.with(|state, after| {
            let Some(consumer) = state.consumers.get_mut(&id) else {
                return false;
            };
            consumer.stopped = true;
            state.wake(id, after);
            state.rebalance(self.clock.now(), after);
            true
        })
    }

    /// The consumer gives a revoked scope away. `None` as with [`Queue::join`].
    pub(crate) fn release(&self, id: u64, scope: Scope) -> Option<Result<()>> {
        self.with(|state, after| {
            self.expire(state, after);
            state.consumers.get(&id)?;
            let released = state.release(id, scope, self.clock.now(), after);
            Some(if released { Ok(()) } else { Err(lease_lost("the scope")) })
        })
    }

    /// The consumer leaves; what it has not settled comes again.
    pub(crate) fn leave(&self, id: u64) {
        self.with(|state, after| state.remove(id, self.clock.now(), after));
    }

    /// The consumers of that connection, or of all, have lost it.
    pub(crate) fn cut(&self, link: Option<u64>) {
        self.with(|state, after| {
            state.cut(link, self.clock.now(), after);
            // Senders look for themselves whose connection it was.
            lock(&self.incoming).wake_senders(after);
        });
    }

    /// The queue is deleted, with all that is in it.
    pub(crate) fn delete(&self) {
        self.with(|state, after| {
            state.cut(None, self.clock.now(), after);
            state.vanish();
        });
    }

    /// Runs a sender's change, which meets consumers only where one waits.
    fn arrive<R>(&self, change: impl FnOnce(&mut Incoming) -> R) -> R {
        let mut after = After::default();
        let mut incoming = lock(&self.incoming);
        let result = change(&mut incoming);
        incoming.wake_sender(&mut after);
        let due = incoming.is_due();
        drop(incoming);
        after.run();
        if due {
            self.with(|state, _| self.bring_in(state, false));
        }
        result
    }

    /// Brings in what senders have put down. False: there was nothing, and if `awaited`, senders know by now that they have to bring the next themselves.
    fn bring_in(&self, state: &mut State, awaited: bool) -> bool {
        let mut arrived = std::mem::take(&mut state.arrived);
        arrived.shrink_to(MANY);
        let mut incoming = lock(&self.incoming);
        std::mem::swap(&mut incoming.contents, &mut arrived);
        // Until the state shows its own.
        incoming.view.room = incoming.view.room.saturating_sub(arrived.len());
        incoming.view.awaited |= awaited && arrived.is_empty();
        state.shown = incoming.shown();
        drop(incoming);
        let any = !arrived.is_empty();
        arrived.drain(..).for_each(|content| state.append(content));
        state.arrived = arrived;
        any
    }

    /// Runs a change under the lock, shows senders what concerns them, and does what follows after.
    fn with<R>(&self, change: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut state = lock(&self.state);
        let result = change(&mut state, &mut after);
        state.notify(&mut after);
        let view = state.view();
        if state.shown != Some(view) {
            let mut incoming = lock(&self.incoming);
            incoming.view = view;
            if view.gone {
                incoming.contents.clear();
                incoming.wake_senders(&mut after);
            }
            incoming.wake_sender(&mut after);
            state.shown = incoming.shown();
        }
        drop(state);
        after.run();
        result
    }

    fn expire(&self, state: &mut State, after: &mut After) {
        // Time is asked for only where something waits for it.
        if !state.timers.is_empty() {
            state.expire(self.clock.now(), after);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("title", &self.title).finish_non_exhaustive()
    }
}
