use crate::after::After;
use crate::state::State;
use anybroker_contract::{Events, Room, Scope};
use std::cmp::Reverse;
use std::task::Waker;
use std::time::Instant;

/// One of the competing consumers of a queue.
pub(crate) struct Consumer {
    pub(crate) link: u64,
    /// Of all its deliveries, where the queue has no shards to own.
    pub(crate) scope: Scope,
    pub(crate) prefetch: Room,
    pub(crate) events: Events,
    /// What it has and has not settled.
    pub(crate) out: Room,
    pub(crate) stopped: bool,
    /// The shard from which it takes next.
    pub(crate) cursor: usize,
    /// There while it waits.
    waker: Option<Waker>,
}

/// What a consumer's poll came to.
#[derive(Debug)]
pub(crate) enum Take {
    Taken,
    Stopped,
    /// It is not, or no more, a consumer of this queue.
    Absent,
    /// Nothing now; at that time it has to look again.
    Wait(Option<Instant>),
}

impl Consumer {
    pub(crate) fn new(link: u64, scope: Scope, prefetch: Room, events: Events) -> Self {
        Self { link, scope, prefetch, events, out: Room::new(0, 0), stopped: false, cursor: 0, waker: None }
    }

    fn fits(&self, size: usize) -> bool {
        self.out.messages == 0
            || (self.out.messages < self.prefetch.messages && self.out.bytes + size <= self.prefetch.bytes)
    }
}

impl State {
    /// The shard and slot of what that consumer can have next.
    pub(crate) fn next_for(&self, id: u64) -> Option<(usize, usize)> {
        let consumer = self.consumers.get(&id)?;
        let count = self.shards.len();
        (consumer.cursor..consumer.cursor + count).map(|index| index % count).find_map(|index| {
            let shard = &self.shards[index];
            let (_, slot) = shard.ready.front()?;
            if self.form.shards.is_some() && !shard.flows_to(id) {
                return None;
            }
            let fits = self.entries.get(*slot).is_some_and(|entry| consumer.fits(entry.content.size));
            fits.then_some((index, *slot))
        })
    }

    /// That consumer waits from now on. The time is given to one of those waiting only: there is one alarm, not one for each.
    pub(crate) fn wait(&mut self, id: u64, waker: &Waker) -> Option<Instant> {
        let consumer = self.consumers.get_mut(&id)?;
        match &mut consumer.waker {
            Some(known) => known.clone_from(waker),
            none => {
                *none = Some(waker.clone());
                self.waiting.push_back(id);
            }
        }
        if self.watch.is_some_and(|(watch, _)| watch != id) {
            return None;
        }
        let next = self.timers.peek().map(|Reverse(timer)| timer.at);
        self.watch = next.map(|at| (id, at));
        next
    }

    /// That consumer does not wait any more.
    pub(crate) fn unwait(&mut self, id: u64) -> Option<Waker> {
        let waker = self.consumers.get_mut(&id)?.waker.take()?;
        self.waiting.retain(|waiting| *waiting != id);
        if self.watch.is_some_and(|(watch, _)| watch == id) {
            self.watch = None;
        }
        Some(waker)
    }

    pub(crate) fn wake(&mut self, id: u64, after: &mut After) {
        if let Some(waker) = self.unwait(id) {
            after.wake(waker);
        }
    }

    /// Wakes those who have something to do now, and nobody else. Ends every change.
    pub(crate) fn notify(&mut self, after: &mut After) {
        if self.waiting.is_empty() {
            return;
        }
        let mut at = 0;
        let idle = self.shards.iter().all(|shard| shard.ready.is_empty());
        while let Some(id) = self.waiting.get(at).copied().filter(|_| !idle) {
            if self.next_for(id).is_none() {
                at += 1;
                continue;
            }
            self.wake(id, after);
            if self.form.shards.is_none() {
                // Whatever it leaves wakes the next one.
                break;
            }
        }
        if let Some(Reverse(next)) = self.timers.peek()
            && self.watch.is_none_or(|(_, until)| next.at < until)
        {
            // The last to have come is the last to be woken for a message, so it will keep the watch longest.
            let watch = self.watch.map(|(id, _)| id).or_else(|| self.waiting.back().copied());
            if let Some(id) = watch {
                self.wake(id, after);
            }
        }
    }
}
