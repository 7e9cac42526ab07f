use crate::after::{After, lock};
use crate::consumer::{Consumer, Take};
use crate::entries::Content;
use crate::state::{State, lease_lost};
use anybroker_contract::{Clock, Events, Extend, Message, Received, Result, Room, Scope, Settle};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

/// One queue: of a point-to-point channel, of a subscription, of dead letters, or of replies.
pub(crate) struct Queue {
    pub(crate) title: String,
    pub(crate) clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// What a queue is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// The number of key-hashed shards; `None` keeps no order among competing consumers.
    pub(crate) shards: Option<usize>,
    pub(crate) bound: Option<usize>,
    pub(crate) lease: Option<Duration>,
    /// It goes with its first consumer.
    pub(crate) temporary: bool,
}

/// How a batch fared.
pub(crate) enum Offer {
    /// So many of its first messages were taken.
    Taken(usize),
    /// There is no room now.
    Full,
    /// The queue does not exist any more.
    Gone,
}

/// Who waits for room: a sender's number, and how to wake it.
pub(crate) type Waiter<'a> = Option<(u64, &'a Waker)>;

impl Queue {
    pub(crate) fn new(title: String, clock: Arc<dyn Clock>, form: Form) -> Arc<Self> {
        let state = Mutex::new(State::new(form));
        Arc::new(Self { title, clock, state })
    }

    pub(crate) fn form(&self) -> Form {
        lock(&self.state).form
    }

    pub(crate) fn is_gone(&self) -> bool {
        lock(&self.state).gone
    }

    /// Takes the first messages for which there is room, if at least so many fit. Else `waiter` is woken when there is room.
    pub(crate) fn offer(&self, batch: &[Message], at_least: usize, waiter: Waiter<'_>) -> Offer {
        self.with(|state, _| {
            if state.gone {
                return Offer::Gone;
            }
            let taken = state.room(waiter).min(batch.len());
            if taken < at_least {
                return Offer::Full;
            }
            for message in &batch[..taken] {
                state.append(Content::Message(message.clone()));
            }
            Offer::Taken(taken)
        })
    }

    /// How many messages fit. When none does, `waiter` is woken as soon as one does.
    pub(crate) fn room(&self, waiter: Waiter<'_>) -> usize {
        self.with(|state, _| state.room(waiter))
    }

    /// Appends all of them, whatever the bound. Says whether the queue exists.
    pub(crate) fn push(&self, contents: impl Iterator<Item = Content>) -> bool {
        self.with(|state, _| {
            if !state.gone {
                contents.for_each(|content| state.append(content));
            }
            !state.gone
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
    pub(crate) fn poll_take(&self, id: u64, room: Room, into: &mut Vec<Received>, waker: &Waker) -> Take {
        self.take(id, room, into, |state| state.wait(id, waker))
    }

    /// Appends what the consumer can have now.
    pub(crate) fn try_take(&self, id: u64, room: Room, into: &mut Vec<Received>) {
        self.take(id, room, into, |_| None);
    }

    fn take(
        &self,
        id: u64,
        room: Room,
        into: &mut Vec<Received>,
        wait: impl FnOnce(&mut State) -> Option<Instant>,
    ) -> Take {
        self.with(|state, after| {
            self.expire(state, after);
            match state.consumers.get(&id) {
                None => return Take::Absent,
                Some(consumer) if consumer.stopped => return Take::Stopped,
                Some(_) => {}
            }
            let lease = state.form.lease.map(|lease| (self.clock.now() + lease, lease));
            if state.take(id, room, lease, into) {
                state.unwait(id);
                return Take::Taken;
            }
            Take::Wait(wait(state))
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
        self.with(|state, after| state.cut(link, self.clock.now(), after));
    }

    /// The queue is deleted, with all that is in it.
    pub(crate) fn delete(&self) {
        self.with(|state, after| {
            state.cut(None, self.clock.now(), after);
            state.vanish(after);
        });
    }

    /// Runs a change under the lock, and what follows from it after.
    fn with<R>(&self, change: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut state = lock(&self.state);
        let result = change(&mut state, &mut after);
        state.notify(&mut after);
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
