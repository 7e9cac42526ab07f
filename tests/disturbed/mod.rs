//! Nothing accepted is lost and no key gets out of order, while a server is killed, connections fail and consumers come and go.
//!
//! - `FAULTS=500` makes that many faults instead of 50.
//! - `FAULTS_SEED=7` replays the faults of a seed, which every run prints. It fixes them, not how the parties interleave with them.
//!
//! A test binary elsewhere includes this file by its path, beside `tests/proxy`, `tests/stress/rng.rs`, `tests/stress/wait.rs` and `tests/trials`.

mod parties;
mod schedule;

pub(crate) use parties::Run;
pub(crate) use schedule::{Mix, PARTIES};

use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::trials::Tried;
use crate::wait::{now, sleep};
use anybroker::adapter::async_trait;
use libtest_mimic::Failed;
use parties::{QUEUE, SEND_DEADLINE, consume, produce};
use schedule::Schedule;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A server, and what is done to it.
#[async_trait]
pub(crate) trait Victim: Send + Sync {
    /// What becomes of it, and how often.
    fn mix(&self) -> Mix;

    /// How long it is left alone after a start before it is killed.
    fn settling(&self) -> Duration;

    /// SIGKILL, and after that time a start. Gives when it was there again.
    async fn kill_and_restart(&self, after: Duration) -> Result<Instant, Failed>;

    /// What ails servers of its kind, for that long.
    async fn ail(&self, lasting: Duration) -> Tried;

    /// What is wrong with the server's own account when all has been received: nothing may be left.
    async fn left(&self, run: &Run) -> Result<Vec<String>, Failed>;
}

/// From the end of the last fault until all has arrived.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has four producers and four competing consumers at work on the channel of the run, each by the URL that belongs to its proxy, while all is disturbed that can be.
pub(crate) async fn nothing_lost(
    name: &str,
    victim: &dyn Victim,
    run: &Arc<Run>,
    proxies: &[Proxy; PARTIES],
    url: impl Fn(&Proxy) -> String,
) -> Tried {
    let seed = variable("FAULTS_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
    let count = variable("FAULTS").unwrap_or(50);
    let schedule = Schedule::of(seed, usize::try_from(count)?, &victim.mix());
    let kinds = schedule.kinds();
    eprintln!("{name}: FAULTS_SEED={seed} FAULTS={count}");

    let began = now();
    let mut rng = Rng::new(seed ^ 77);
    let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
    for (number, proxy) in proxies.iter().enumerate() {
        let url = url(proxy);
        match number % 2 {
            0 => drop(producers.spawn(produce(Arc::clone(run), url, format!("p{number}"), rng.fork()))),
            _ => drop(consumers.spawn(consume(Arc::clone(run), url, format!("c{number}"), rng.fork()))),
        }
    }
    schedule.play(victim, proxies).await?;
    run.sent.store(true, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended?;
    }
    let patient = now() + PATIENCE;
    while !run.history.is_complete(&[QUEUE]) && now() < patient {
        sleep(Duration::from_millis(250)).await;
    }
    // A little longer, for what is out and not acknowledged.
    let left = victim.left(run).await?;
    run.over.store(true, Ordering::Relaxed);
    while let Some(ended) = consumers.join_next().await {
        ended?;
    }
    let took = began.elapsed().as_secs_f64();
    eprintln!("{name}: {took:.0} s, faults {kinds:?}, {}", run.figures());

    let mut wrong = run.faults.lock().unwrap().clone();
    wrong.extend(run.history.nothing_lost(&[QUEUE]).err());
    wrong.extend(run.history.nothing_made_up().err());
    wrong.extend(run.accepted.order_per_key().err());
    wrong.extend(left);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("FAULTS_SEED={seed}:\n    {}", wrong.join("\n    ")).into()),
    }
}

impl Run {
    fn figures(&self) -> String {
        let arrivals = self.history.arrivals();
        let distinct = self.history.distinct(QUEUE);
        let retries = self.retries.load(Ordering::Relaxed);
        format!(
            "sends {:?}, longest {:.1} s of {SEND_DEADLINE:?}\n    \
             arrivals {arrivals}, messages {distinct}, retries {retries}, duplicates {}, consumers {}, opened within {:.1} s; order with failed sends too: {:?}",
            self.results.lock().unwrap(),
            self.longest_send.lock().unwrap().as_secs_f64(),
            (arrivals - distinct).saturating_sub(retries),
            self.lives.load(Ordering::Relaxed),
            self.longest_opening.lock().unwrap().as_secs_f64(),
            self.history.order_per_key().err(),
        )
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name}={text} is not a number");
    number
}
