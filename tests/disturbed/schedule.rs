//! The faults of one run, all of them drawn from its seed, and how each is made.

use super::Victim;
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::trials::Tried;
use crate::wait::{now, sleep};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Producers and consumers, each with connections of its own.
pub(crate) const PARTIES: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// SIGKILL to the server, which stays away for that long, and the time to start.
    Kill(Duration),
    /// Connections are reset.
    Cut,
    /// Connections are half open: for that long no byte passes and nothing ends.
    Stall(Duration),
    /// The server hears and does not answer, for that long; then connections are reset.
    Swallow(Duration),
    /// What ails servers of its kind, for that long.
    Ailment(Duration),
}

/// How many there are of each in every 25 faults, and how long those take that servers differ in, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) kills: usize,
    pub(crate) cuts: usize,
    pub(crate) stalls: usize,
    /// Longer than what ends a connection that gives no sign of life.
    pub(crate) long_stalls: (usize, Range<u64>),
    pub(crate) swallows: usize,
    pub(crate) ailments: (usize, Range<u64>),
}

/// All faults of a run, in their order, and for each the parties that it strikes, a bit each.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) faults: Vec<(Fault, u64)>,
    pauses: Rng,
}

impl Schedule {
    pub(crate) fn of(seed: u64, count: usize, mix: &Mix) -> Self {
        let mut rng = Rng::new(seed);
        let mut faults = Vec::new();
        while faults.len() < count {
            let mut round = Vec::new();
            round.extend((0..mix.kills).map(|_| Fault::Kill(rng.millis_below(500))));
            round.extend((0..mix.cuts).map(|_| Fault::Cut));
            round.extend((0..mix.stalls).map(|_| Fault::Stall(millis(&mut rng, &(100..800)))));
            let (stalls, long) = &mix.long_stalls;
            round.extend((0..*stalls).map(|_| Fault::Stall(millis(&mut rng, long))));
            round.extend((0..mix.swallows).map(|_| Fault::Swallow(millis(&mut rng, &(20..500)))));
            let (ailments, lasting) = &mix.ailments;
            round.extend((0..*ailments).map(|_| Fault::Ailment(millis(&mut rng, lasting))));
            while !round.is_empty() {
                let next = round.swap_remove(rng.below_usize(u32::try_from(round.len()).unwrap()));
                // Half of the parties, and never none.
                let one = 1 << rng.below(PARTIES as u64);
                faults.push((next, rng.below(1 << PARTIES) | one));
            }
        }
        faults.truncate(count);
        Self { faults, pauses: rng }
    }

    /// How many there are of each.
    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for (fault, _) in &self.faults {
            let kind = match fault {
                Fault::Kill(_) => "kill",
                Fault::Cut => "cut",
                Fault::Stall(_) => "stall",
                Fault::Swallow(_) => "swallow",
                Fault::Ailment(_) => "ailment",
            };
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// Makes one after another.
    pub(crate) async fn play(mut self, victim: &dyn Victim, proxies: &[Proxy; PARTIES]) -> Tried {
        let mut settled = now() + victim.settling();
        for (fault, strikes) in self.faults {
            sleep(Duration::from_millis(100) + self.pauses.millis_below(700)).await;
            let struck = || {
                let all = proxies.iter().enumerate();
                all.filter(move |(at, _)| strikes >> at & 1 == 1).map(|(_, proxy)| proxy)
            };
            match fault {
                Fault::Kill(away) => {
                    wait_until(settled).await;
                    settled = victim.kill_and_restart(away).await? + victim.settling();
                }
                Fault::Cut => struck().for_each(Proxy::cut),
                Fault::Stall(time) => {
                    struck().for_each(Proxy::stall);
                    sleep(time).await;
                    proxies.iter().for_each(Proxy::resume);
                }
                Fault::Swallow(time) => {
                    struck().for_each(Proxy::swallow_replies);
                    sleep(time).await;
                    struck().for_each(Proxy::cut);
                }
                Fault::Ailment(time) => victim.ail(time).await?,
            }
        }
        Ok(())
    }
}

async fn wait_until(time: Instant) {
    sleep(time.saturating_duration_since(now())).await;
}

fn millis(rng: &mut Rng, range: &Range<u64>) -> Duration {
    Duration::from_millis(range.start) + rng.millis_below(range.end - range.start)
}
