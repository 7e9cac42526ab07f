use crate::after::After;
use crate::state::{Due, State};
use anybroker_contract::{Event, Scope};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a consumer may hold on to a shard that it is to give away.
const REVOKING: Duration = Duration::from_secs(10);

/// The messages of some keys, in order. A queue without order has one, which nobody owns.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Place and slot, in the order of places.
    pub(crate) ready: VecDeque<(u64, usize)>,
    /// How many are handed out and not settled.
    pub(crate) out: usize,
    pub(crate) owner: Option<Owner>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) consumer: u64,
    pub(crate) scope: Scope,
    revoking: bool,
}

impl Shard {
    /// The shard of that key: FNV-1a, the same in every process and release.
    pub(crate) fn of(key: &[u8], count: usize) -> usize {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The remainder is below `count`.
        usize::try_from(hash % count as u64).unwrap_or(0)
    }

    /// Whether that consumer may have more of it.
    pub(crate) fn flows_to(&self, consumer: u64) -> bool {
        self.owner.is_some_and(|owner| owner.consumer == consumer && !owner.revoking)
    }

    /// Who owns it under that scope and is asked to give it away.
    pub(crate) fn revoked(&self, scope: Scope) -> Option<Owner> {
        self.owner.filter(|owner| owner.revoking && owner.scope == scope)
    }
}

impl State {
    /// Spreads the shards evenly over the consumers that receive, moving as few as possible. What a consumer still works on is asked back, and moves
    /// when it says so or is out of time; nothing of it is handed out meanwhile.
    pub(crate) fn rebalance(&mut self, now: Instant, after: &mut After) {
        if self.form.shards.is_none() {
            return;
        }
        let flowing = |id| self.shards.iter().filter(|shard| shard.flows_to(id)).count();
        let receiving = self.consumers.iter().filter(|(_, consumer)| !consumer.stopped);
        let mut loads: Vec<_> = receiving.map(|(id, _)| (*id, flowing(*id))).collect();
        if loads.is_empty() {
            return;
        }
        // Who has the most keeps the odd one.
        loads.sort_by_key(|(_, load)| Reverse(*load));
        let stopped = |id| self.consumers.get(&id).is_some_and(|consumer| consumer.stopped);
        let kept =
            self.shards.iter().filter(|shard| shard.owner.is_some_and(|owner| stopped(owner.consumer)));
        let total = self.shards.len() - kept.count();
        let (each, odd) = (total / loads.len(), total % loads.len());
        let quota = |rank: usize| each + usize::from(rank < odd);

        for (rank, (id, load)) in loads.iter_mut().enumerate() {
            while *load > quota(rank) && self.revoke_one(*id, now, after) {
                *load -= 1;
            }
        }
        for index in 0..self.shards.len() {
            if self.shards[index].owner.is_some() {
                continue;
            }
            let needy = loads.iter_mut().enumerate().filter(|(rank, (_, load))| *load < quota(*rank));
            if let Some((_, (consumer, load))) = needy.min_by_key(|(_, (_, load))| *load) {
                *load += 1;
                let consumer = *consumer;
                let scope = Scope::new(self.next());
                self.shards[index].owner = Some(Owner { consumer, scope, revoking: false });
            }
        }
    }

    /// Takes a shard from that consumer: at once one that it does not work on, else one that it has to finish first.
    fn revoke_one(&mut self, id: u64, now: Instant, after: &mut After) -> bool {
        let owned = self.shards.iter_mut().filter(|shard| shard.flows_to(id));
        let Some(shard) = owned.min_by_key(|shard| shard.out) else {
            return false;
        };
        if shard.out == 0 {
            shard.owner = None;
        } else if let Some(owner) = &mut shard.owner {
            owner.revoking = true;
            let (scope, deadline) = (owner.scope, now + REVOKING);
            self.timer(deadline, Due::Revoked(scope));
            if let Some(consumer) = self.consumers.get(&id) {
                after.report(&consumer.events, Event::Revoking { scope, deadline });
            }
        }
        true
    }

    /// That consumer gives away what it was asked for.
    pub(crate) fn release(&mut self, id: u64, scope: Scope, now: Instant, after: &mut After) -> bool {
        let owners = self.shards.iter().filter_map(|shard| shard.revoked(scope));
        let revoked = owners.into_iter().any(|owner| owner.consumer == id);
        if revoked {
            self.free(scope, false, now, after);
        }
        revoked
    }

    /// The time to give it away is over.
    pub(crate) fn lose(&mut self, scope: Scope, now: Instant, after: &mut After) {
        let owner = self.shards.iter().find_map(|shard| shard.revoked(scope));
        if let Some(consumer) = owner.and_then(|owner| self.consumers.get(&owner.consumer)) {
            after.report(&consumer.events, Event::Lost { scope });
        }
        self.free(scope, true, now, after);
    }

    /// That consumer has left.
    pub(crate) fn disown(&mut self, id: u64) {
        for shard in &mut self.shards {
            if shard.owner.is_some_and(|owner| owner.consumer == id) {
                shard.owner = None;
            }
        }
    }

    fn free(&mut self, scope: Scope, counted: bool, now: Instant, after: &mut After) {
        for slot in self.entries.handed_out(|_, of| of == scope) {
            self.give_back(slot, counted);
        }
        for shard in &mut self.shards {
            if shard.revoked(scope).is_some() {
                shard.owner = None;
            }
        }
        self.rebalance(now, after);
    }
}
