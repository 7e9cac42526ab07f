//! What one run does, all of it drawn from its seed.
//!
//! Seeds that once found a fault are kept in `main.rs`, so neither the order of the draws nor their bounds may change. New draws go to the end.

use crate::rng::Rng;
use anybroker::Channel;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// The channel requires order per key.
    pub(crate) ordered: bool,
    pub(crate) shards: usize,
    /// Deliveries have a short lease.
    pub(crate) lease: bool,
    /// The broker cuts connections, refuses them and blocks while messages are sent.
    pub(crate) chaos: bool,
    /// It loses confirms, too.
    pub(crate) loses_confirms: bool,
    /// Consumers reject some messages.
    pub(crate) rejects: bool,
    pub(crate) patience: Patience,
    /// Keys of one producer.
    pub(crate) keys: u64,
    /// Messages of one producer.
    pub(crate) messages: u64,
    pub(crate) producers: u64,
    pub(crate) prefetch: usize,
    /// The channel is bounded, and small.
    pub(crate) bounded: bool,
    /// Consumers leave and come back.
    pub(crate) churn: bool,
    /// Messages go to the dead letters after so many attempts that few do.
    pub(crate) limited: bool,
    pub(crate) shaky: Option<Shaky>,
}

/// How long a consumer waits for a message before it begins to wait anew.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Unlimited,
    AMoment,
    /// It polls a few times.
    AFewTurns,
}

/// How the adapter between the broker and the portable layer behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shaky {
    /// It sends, receives and settles without waiting where it can.
    pub(crate) at_once: bool,
    /// It takes small batches, and one message of a key at a time.
    pub(crate) one_per_key: bool,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        for _ in 0..5 {
            rng.next();
        }
        let ordered = rng.chance(70);
        let shards = 1 + rng.below_usize(8);
        let lease = rng.chance(25);
        let chaos = rng.chance(50);
        let rejects = rng.chance(40);
        let polls = rng.chance(50);
        let keys = 1 + rng.below(12);
        let messages = 50 + rng.below(300);
        let producers = 1 + rng.below(4);
        let prefetch = [1, 2, 8, 64, 256][rng.below_usize(5)];
        let bounded = rng.chance(20);
        let churn = rng.chance(60);
        let limited = rng.chance(20);
        let loses_confirms = rng.chance(40);
        let patience = match (rng.chance(50), polls) {
            (true, _) => Patience::Unlimited,
            (false, true) => Patience::AFewTurns,
            (false, false) => Patience::AMoment,
        };
        let is_shaky = rng.chance(60);
        let shaky = Shaky { at_once: rng.chance(50), one_per_key: rng.chance(40) };
        Self {
            seed,
            ordered,
            shards,
            lease,
            chaos,
            loses_confirms,
            rejects,
            patience,
            keys,
            messages,
            producers,
            prefetch,
            bounded,
            churn,
            limited,
            shaky: is_shaky.then_some(shaky),
        }
    }

    /// What the run itself draws from.
    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seed ^ 77)
    }

    pub(crate) fn channel(&self) -> Channel {
        let mut channel = Channel::point_to_point("orders");
        if self.ordered {
            channel = channel.order_per_key();
        }
        if self.bounded {
            channel = channel.bounded(20);
        }
        if self.limited {
            channel = channel.dead_letter_after(50);
        }
        channel
    }

    /// Whether the broker or a lease takes deliveries away from consumers that hold them.
    pub(crate) const fn takes_away(&self) -> bool {
        self.chaos || self.lease
    }
}
