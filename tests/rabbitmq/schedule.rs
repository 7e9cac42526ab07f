//! The faults of one run, all of them drawn from its seed, and how each is made.

use crate::Tried;
use crate::brokers::SETTLING;
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::server::Server;
use crate::wait::{now, sleep};
use std::time::{Duration, Instant};

/// Seconds between two signs of life; after two missed ones a client ends the connection.
pub(crate) const HEARTBEAT: u64 = 1;

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
    /// The server is short of memory, for that long, and reads nothing from those who publish.
    Alarm(Duration),
}

/// All faults of a run, in their order, and for each the parties that it strikes, a bit each.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) faults: Vec<(Fault, u64)>,
    pauses: Rng,
}

impl Schedule {
    /// Of every 25, 4 are kills.
    pub(crate) fn of(seed: u64, count: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut faults = Vec::new();
        while faults.len() < count {
            let longer_than_the_heartbeat = 2500 * HEARTBEAT;
            let mut round = Vec::new();
            round.extend((0..4).map(|_| Fault::Kill(rng.millis_below(500))));
            round.extend((0..7).map(|_| Fault::Cut));
            round.extend((0..6).map(|_| Fault::Stall(millis(&mut rng, 100..800))));
            round.extend((0..2).map(|_| {
                let range = longer_than_the_heartbeat..2 * longer_than_the_heartbeat;
                Fault::Stall(millis(&mut rng, range))
            }));
            round.extend((0..5).map(|_| Fault::Swallow(millis(&mut rng, 20..500))));
            round.extend((0..1).map(|_| Fault::Alarm(millis(&mut rng, 300..1500))));
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

    /// Makes one after another.
    pub(crate) async fn play(mut self, server: &Server, proxies: &[Proxy; PARTIES]) -> Tried {
        let mut settled = now() + SETTLING;
        for (fault, strikes) in self.faults {
            sleep(Duration::from_millis(100) + self.pauses.millis_below(700)).await;
            let struck = || {
                let all = proxies.iter().enumerate();
                all.filter(move |(at, _)| strikes >> at & 1 == 1).map(|(_, proxy)| proxy)
            };
            match fault {
                Fault::Kill(away) => {
                    wait_until(settled).await;
                    settled = server.kill_and_restart(away).await? + SETTLING;
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
                Fault::Alarm(time) => server.memory_alarm(time).await?,
            }
        }
        Ok(())
    }
}

async fn wait_until(time: Instant) {
    sleep(time.saturating_duration_since(now())).await;
}

fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(range.start) + rng.millis_below(range.end - range.start)
}
