use crate::after::After;
use crate::consumer::Consumer;
use crate::entries::{Content, Entries, Entry, Record, Standing};
use crate::error;
use crate::incoming::View;
use crate::queue::Form;
use crate::shards::Shard;
use anybroker_contract::{
    Clock, Error, ErrorKind, Event, Lease, Outcome, Received, Result, Room, Scope, Token,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

/// All of a queue: what happens to its messages. `shards.rs` goes on with ownership, `consumer.rs` with waiting.
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
    /// What senders were shown last; `None` when they are to be shown it anyway.
    pub(crate) shown: Option<View>,
    /// Empty; kept for the next exchange with senders.
    pub(crate) arrived: Vec<Content>,
    out: usize,
    spread: usize,
    counter: u64,
    pub(crate) gone: bool,
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

impl State {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            entries: Entries::default(),
            shards: (0..form.shards.unwrap_or(1)).map(|_| Shard::default()).collect(),
            consumers: BTreeMap::new(),
            waiting: VecDeque::new(),
            watch: None,
            timers: BinaryHeap::new(),
            shown: None,
            arrived: Vec::new(),
            out: 0,
            spread: 0,
            counter: 0,
            gone: false,
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn view(&self) -> View {
        let bound = self.form.bound.filter(|_| !self.gone);
        let room = bound.map_or(usize::MAX, |bound| bound.saturating_sub(self.entries.len() - self.out));
        View { room, awaited: !self.waiting.is_empty(), gone: self.gone }
    }

    #[inline]
    pub(crate) fn append(&mut self, content: Content) {
        let shard = match content.key() {
            _ if self.shards.len() == 1 => 0,
            Some(key) => Shard::of(key, self.shards.len()),
            None => {
                self.spread = self.spread.wrapping_add(1);
                self.spread % self.shards.len()
            }
        };
        let place = self.next();
        let slot = self.entries.insert(Entry {
            content,
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
    pub(crate) fn take(
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
            if messages > 0 && (messages >= room.messages || bytes + entry.content.size > room.bytes) {
                break;
            }
            shard.ready.pop_front();
            shard.out += 1;
            consumer.cursor = index;
            consumer.out.messages += 1;
            consumer.out.bytes += entry.content.size;
            self.out += 1;
            messages += 1;
            bytes += entry.content.size;
            let scope = shard.owner.map_or(consumer.scope, |owner| owner.scope);
            let expires = lease.map(|(expires, _)| expires);
            entry.number = number;
            entry.standing = Standing::Out { consumer: id, scope, expires };
            into.push(received(
                entry,
                Token::pair(slot as u64, number),
                scope,
                lease,
                self.form.counts_attempts,
            ));
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

    pub(crate) fn settle(
        &mut self,
        id: u64,
        token: &Token,
        outcome: Outcome,
        clock: &dyn Clock,
    ) -> Result<()> {
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
            Outcome::Retry { after } if after.is_zero() => self.retry(slot, None),
            Outcome::Retry { after } => match clock.now().checked_add(after) {
                Some(at) => self.retry(slot, Some(at)),
                None => return Err(error(ErrorKind::Unsupported, format!("{after:?} is beyond all time"))),
            },
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

    pub(crate) fn extend(&mut self, id: u64, token: &Token, now: Instant) -> Result<Instant> {
        let Some(lease) = self.form.lease else {
            let what = "deliveries have no lease here";
            return Err(
                error(ErrorKind::Unsupported, what).with_help("configure one, such as `lease = \"30s\"`")
            );
        };
        let slot = self.held_by(id, token).ok_or_else(|| lease_lost("the delivery"))?;
        let end = now + lease;
        if let Some(Entry { standing: Standing::Out { expires, .. }, .. }) = self.entries.get_mut(slot) {
            *expires = Some(end);
        }
        self.timer(end, Due::Entry { slot, number: token.as_number() });
        Ok(end)
    }

    /// The slot of that token, while that consumer has it.
    fn held_by(&self, id: u64, token: &Token) -> Option<usize> {
        let slot = usize::try_from(token.part()).ok()?;
        let entry = self.entries.get(slot).filter(|entry| entry.number == token.as_number())?;
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
            consumer.out.bytes -= entry.content.size;
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

    pub(crate) fn expire(&mut self, now: Instant, after: &mut After) {
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

    pub(crate) fn remove(&mut self, id: u64, now: Instant, after: &mut After) {
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
            self.vanish();
        }
        self.disown(id);
        self.rebalance(now, after);
    }

    pub(crate) fn cut(&mut self, link: Option<u64>, now: Instant, after: &mut After) {
        let cut = |consumer: &Consumer| link.is_none_or(|link| link == consumer.link);
        let ids: Vec<_> = self.consumers.iter().filter(|(_, c)| cut(c)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.report_lost(*id, after));
        ids.iter().for_each(|id| self.remove(*id, now, after));
    }

    fn report_lost(&self, id: u64, after: &mut After) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        let owned = self.shards.iter().filter_map(|shard| shard.owner).filter(|owner| owner.consumer == id);
        let mut scopes: Vec<_> = owned.map(|owner| owner.scope).collect();
        if self.form.shards.is_none() {
            scopes.push(consumer.scope);
        }
        for scope in scopes {
            after.report(&consumer.events, Event::Lost { scope });
        }
    }

    pub(crate) fn vanish(&mut self) {
        self.gone = true;
        self.entries = Entries::default();
        self.timers.clear();
        self.shards.iter_mut().for_each(|shard| shard.ready.clear());
    }
}

fn received(
    entry: &Entry,
    token: Token,
    scope: Scope,
    lease: Option<(Instant, Duration)>,
    counted: bool,
) -> Received {
    let mut received = match &entry.content.record {
        Record::Message(message) => Received::new(message.clone(), token),
        Record::Raw(raw) => {
            let what = error(ErrorKind::InvalidMessage, "the record is no message");
            Received::undecodable(raw.clone(), what, token)
        }
    };
    received.scope = scope;
    received.attempt = counted.then_some(entry.attempt);
    if let Some((expires, by)) = lease {
        received = received.with_lease(Lease::until(expires).extendable_by(by));
    }
    received
}

pub(crate) fn lease_lost(what: &str) -> Error {
    error(ErrorKind::LeaseLost, format!("{what} belongs to this consumer no more"))
}
