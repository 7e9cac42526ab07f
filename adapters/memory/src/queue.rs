use crate::after::{After, lock};
use crate::consumer::{Consumer, Take};
use crate::entries::{Content, Entries, Entry, Standing};
use crate::error;
use crate::shards::Shard;
use anybroker_contract::{
    Clock, Error, ErrorKind, Event, Events, Extend, Message, Outcome, Received, Result, Room, Scope, Settle,
    Token,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
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

/// All of a queue. Files `shards.rs` and `consumer.rs` have the parts about ownership and about waiting.
pub(crate) struct State {
    pub(crate) form: Form,
    pub(crate) entries: Entries,
    pub(crate) shards: Vec<Shard>,
    pub(crate) consumers: BTreeMap<u64, Consumer>,
    /// Consumers that wait for messages, the longest waiting first.
    pub(crate) waiting: VecDeque<u64>,
    /// The one waiting consumer that sleeps until the next timer, and until when.
    pub(crate) watch: Option<(u64, Instant)>,
    pub(crate) timers: BinaryHeap<Reverse<Timer>>,
    senders: VecDeque<(u64, Waker)>,
    out: usize,
    spread: usize,
    counter: u64,
    gone: bool,
}

/// When something is due. What has changed since then is found out by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Instant,
    pub(crate) due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A delay or lease of this slot ends, if it still has this number.
    Entry { slot: usize, number: u64 },
    /// The revoked scope is taken away.
    Revoked(Scope),
}

impl Queue {
    pub(crate) fn new(title: String, clock: Arc<dyn Clock>, form: Form) -> Arc<Self> {
        let state = Mutex::new(State {
            form,
            entries: Entries::default(),
            shards: (0..form.shards.unwrap_or(1)).map(|_| Shard::default()).collect(),
            consumers: BTreeMap::new(),
            waiting: VecDeque::new(),
            watch: None,
            timers: BinaryHeap::new(),
            senders: VecDeque::new(),
            out: 0,
            spread: 0,
            counter: 0,
            gone: false,
        });
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
            state
                .consumers
                .insert(id, Consumer::new(link, scope, prefetch, events));
            state.rebalance(self.clock.now(), after);
            Some(id)
        })
    }

    /// Appends what the consumer can have now; else its task is woken when there is something, or wakes itself at the time given.
    pub(crate) fn poll_take(&self, id: u64, room: Room, into: &mut Vec<Received>, waker: &Waker) -> Take {
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
            Take::Wait(state.wait(id, waker))
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
            Some(if released {
                Ok(())
            } else {
                Err(lease_lost("the scope"))
            })
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

impl State {
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn room(&mut self, waiter: Waiter<'_>) -> usize {
        let Some(bound) = self.form.bound.filter(|_| !self.gone) else {
            return usize::MAX;
        };
        let room = bound.saturating_sub(self.entries.len() - self.out);
        if let Some((id, waker)) = waiter {
            self.senders.retain(|(sender, _)| *sender != id);
            if room == 0 {
                self.senders.push_back((id, waker.clone()));
            }
        }
        room
    }

    fn append(&mut self, content: Content) {
        let shard = match content.key() {
            _ if self.shards.len() == 1 => 0,
            Some(key) => Shard::of(key, self.shards.len()),
            None => {
                self.spread = self.spread.wrapping_add(1);
                self.spread % self.shards.len()
            }
        };
        let place = self.next();
        let size = content.size();
        let slot = self.entries.insert(Entry {
            content,
            size,
            place,
            shard,
            attempt: 1,
            held: false,
            standing: Standing::Ready,
            number: place,
        });
        self.shards[shard].ready.push_back((place, slot));
    }

    /// Hands out to that consumer what fits; says whether anything did.
    fn take(
        &mut self,
        id: u64,
        room: Room,
        lease: Option<(Instant, Duration)>,
        into: &mut Vec<Received>,
    ) -> bool {
        let (mut messages, mut bytes) = (0, 0);
        while let Some((index, slot)) = self.next_for(id) {
            let number = self.next();
            let (shard, consumer) = (&mut self.shards[index], self.consumers.get_mut(&id));
            let (Some(entry), Some(consumer)) = (self.entries.get_mut(slot), consumer) else {
                break;
            };
            if messages > 0 && (messages >= room.messages || bytes + entry.size > room.bytes) {
                break;
            }
            shard.ready.pop_front();
            shard.out += 1;
            consumer.cursor = index;
            consumer.out.messages += 1;
            consumer.out.bytes += entry.size;
            self.out += 1;
            messages += 1;
            bytes += entry.size;
            let scope = shard.owner.map_or(consumer.scope, |owner| owner.scope);
            let expires = lease.map(|(expires, _)| expires);
            entry.number = number;
            entry.standing = Standing::Out {
                consumer: id,
                scope,
                expires,
            };
            into.push(received(entry, Token::pair(slot as u64, number), scope, lease));
            if let Some(at) = expires {
                self.timer(at, Due::Entry { slot, number });
            }
        }
        if let Some(consumer) = self.consumers.get_mut(&id) {
            // The next batch begins with another shard, so that a busy one starves none.
            consumer.cursor += 1;
        }
        messages > 0
    }

    fn settle(&mut self, id: u64, token: &Token, outcome: Outcome, clock: &dyn Clock) -> Result<()> {
        let Some(slot) = self.held_by(id, token) else {
            return Err(lease_lost("the delivery"));
        };
        match outcome {
            Outcome::Ack => {
                self.take_back(slot);
                self.entries.remove(slot);
            }
            Outcome::Retry { .. } if self.form.shards.is_some() => {
                let what = "a delayed retry would let later messages of its key overtake";
                return Err(error(ErrorKind::Unsupported, what).with_help("settle it as held"));
            }
            Outcome::Retry { after } => self.retry(slot, (!after.is_zero()).then(|| clock.now() + after)),
            Outcome::Release => self.give_back(slot, false),
            Outcome::Held { attempt } => {
                if let Some(entry) = self.entries.get_mut(slot) {
                    entry.attempt = attempt;
                    entry.held = true;
                }
            }
            other => {
                let what = format!("the outcome {other:?} is not known");
                return Err(error(ErrorKind::Unsupported, what));
            }
        }
        Ok(())
    }

    fn extend(&mut self, id: u64, token: &Token, now: Instant) -> Result<Instant> {
        let Some(lease) = self.form.lease else {
            let what = "deliveries have no lease here";
            return Err(
                error(ErrorKind::Unsupported, what).with_help("configure one, such as `lease = \"30s\"`")
            );
        };
        let slot = self
            .held_by(id, token)
            .ok_or_else(|| lease_lost("the delivery"))?;
        let end = now + lease;
        if let Some(Entry {
            standing: Standing::Out { expires, .. },
            ..
        }) = self.entries.get_mut(slot)
        {
            *expires = Some(end);
        }
        self.timer(
            end,
            Due::Entry {
                slot,
                number: token.as_number(),
            },
        );
        Ok(end)
    }

    /// The slot of that token, while that consumer has it.
    fn held_by(&self, id: u64, token: &Token) -> Option<usize> {
        let slot = usize::try_from(token.part()).ok()?;
        let entry = self
            .entries
            .get(slot)
            .filter(|entry| entry.number == token.as_number())?;
        matches!(entry.standing, Standing::Out { consumer, .. } if consumer == id).then_some(slot)
    }

    /// Takes it out of its consumer's hands.
    fn take_back(&mut self, slot: usize) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        let Standing::Out { consumer, .. } = entry.standing else {
            return;
        };
        entry.standing = Standing::Delayed;
        self.shards[entry.shard].out -= 1;
        self.out -= 1;
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.out.messages -= 1;
            consumer.out.bytes -= entry.size;
        }
    }

    /// Puts it back into its old place. A lost attempt counts, unless `Held` has counted it.
    pub(crate) fn give_back(&mut self, slot: usize, lost: bool) {
        self.take_back(slot);
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.attempt = entry.attempt.saturating_add(u32::from(lost && !entry.held));
        }
        self.make_ready(slot);
    }

    /// Puts it back into its old place, its attempt counted, at once or then.
    fn retry(&mut self, slot: usize, at: Option<Instant>) {
        self.take_back(slot);
        let number = self.next();
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.attempt = entry.attempt.saturating_add(1);
            entry.number = number;
        }
        match at {
            None => self.make_ready(slot),
            Some(at) => self.timer(at, Due::Entry { slot, number }),
        }
    }

    fn make_ready(&mut self, slot: usize) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        entry.standing = Standing::Ready;
        entry.held = false;
        let ready = &mut self.shards[entry.shard].ready;
        let at = ready.partition_point(|(place, _)| *place < entry.place);
        ready.insert(at, (entry.place, slot));
    }

    pub(crate) fn timer(&mut self, at: Instant, due: Due) {
        self.timers.push(Reverse(Timer { at, due }));
        // Leases that were settled in time leave their timers behind: swept once they are the greater part.
        if self.timers.len() > 2 * (self.entries.len() + self.shards.len()) + 64 {
            let mut timers = std::mem::take(&mut self.timers);
            timers.retain(|Reverse(timer)| self.is_pending(timer));
            self.timers = timers;
        }
    }

    fn is_pending(&self, timer: &Timer) -> bool {
        match timer.due {
            Due::Revoked(scope) => self.shards.iter().any(|shard| shard.revoked(scope).is_some()),
            Due::Entry { slot, number } => match self.entries.get(slot) {
                Some(entry) if entry.number == number => match entry.standing {
                    Standing::Ready => false,
                    Standing::Delayed => true,
                    Standing::Out { expires, .. } => expires == Some(timer.at),
                },
                _ => false,
            },
        }
    }

    fn expire(&mut self, now: Instant, after: &mut After) {
        while let Some(Reverse(timer)) = self.timers.peek().copied().filter(|timer| timer.0.at <= now) {
            self.timers.pop();
            if !self.is_pending(&timer) {
                continue;
            }
            match timer.due {
                Due::Revoked(scope) => self.lose(scope, now, after),
                Due::Entry { slot, .. } => match self.entries.get(slot).map(|entry| entry.standing) {
                    Some(Standing::Out { .. }) => self.give_back(slot, true),
                    _ => self.make_ready(slot),
                },
            }
        }
    }

    fn remove(&mut self, id: u64, now: Instant, after: &mut After) {
        self.wake(id, after);
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        if consumer.out.messages > 0 {
            for slot in self.entries.handed_out(|consumer, _| consumer == id) {
                self.give_back(slot, true);
            }
        }
        self.consumers.remove(&id);
        if self.form.temporary {
            self.vanish(after);
        }
        self.disown(id);
        self.rebalance(now, after);
    }

    fn cut(&mut self, link: Option<u64>, now: Instant, after: &mut After) {
        let cut = |consumer: &Consumer| link.is_none_or(|link| link == consumer.link);
        let ids: Vec<_> = self
            .consumers
            .iter()
            .filter(|(_, c)| cut(c))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.report_lost(id, after);
            self.remove(id, now, after);
        }
        // Senders look for themselves whose connection it was.
        self.wake_senders(after);
    }

    fn report_lost(&self, id: u64, after: &mut After) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        let owned = self
            .shards
            .iter()
            .filter_map(|shard| shard.owner)
            .filter(|owner| owner.consumer == id);
        let mut scopes: Vec<_> = owned.map(|owner| owner.scope).collect();
        if self.form.shards.is_none() {
            scopes.push(consumer.scope);
        }
        for scope in scopes {
            after.report(&consumer.events, Event::Lost { scope });
        }
    }

    fn vanish(&mut self, after: &mut After) {
        self.gone = true;
        self.entries = Entries::default();
        self.timers.clear();
        self.shards.iter_mut().for_each(|shard| shard.ready.clear());
        self.wake_senders(after);
    }

    fn wake_senders(&mut self, after: &mut After) {
        self.senders.drain(..).for_each(|(_, waker)| after.wake(waker));
    }

    /// One sender at a time: it takes what it needs, and what is left wakes the next.
    pub(crate) fn wake_sender(&mut self, after: &mut After) {
        if !self.senders.is_empty()
            && self.room(None) > 0
            && let Some((_, waker)) = self.senders.pop_front()
        {
            after.wake(waker);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

fn received(entry: &Entry, token: Token, scope: Scope, lease: Option<(Instant, Duration)>) -> Received {
    let mut received = match &entry.content {
        Content::Message(message) => Received::new(message.clone(), token),
        Content::Raw(raw) => {
            let what = error(ErrorKind::InvalidMessage, "the record is no message");
            Received::undecodable(raw.clone(), what, token)
        }
    };
    received.scope = scope;
    received.attempt = Some(entry.attempt);
    received.lease = lease.map(|(expires, by)| anybroker_contract::Lease::until(expires).extendable_by(by));
    received
}

fn lease_lost(what: &str) -> Error {
    error(
        ErrorKind::LeaseLost,
        format!("{what} belongs to this consumer no more"),
    )
}
