//! Random applications over a random broker, and the promises that must hold whatever they do: nothing is lost, keys stay in order, everything ends,
//! and the portable layer keeps to the contract.
//!
//! - `STRESS_SECONDS=300` looks for faults for that long, instead of a few seconds.
//! - `STRESS_SEED=31` replays one seed; with `STRESS_SECONDS` it runs all from that one on.
//!
//! A seed fixes the plan, not how threads interleave: a fault may need some replays to show again.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test, in functions that tests share"
)]

mod adapter;
mod consumer;
mod history;
mod plan;
mod producer;
mod receiver;
mod rng;
mod rules;
mod run;
mod sender;
mod wait;

use plan::Plan;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeFrom;
use std::str::FromStr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Each has found a fault at some time.
const ONCE_FAILED: [u64; 15] = [9, 12, 31, 36, 57, 168, 194, 200, 210, 259, 265, 290, 337, 342, 380];

/// Runs at once: much of a run is waiting.
const LANES: usize = 2;

/// What has panicked, and the name of its thread: tasks of the library that panic tell nobody else.
static PANICS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

#[test]
fn promises_hold_under_stress() {
    note_panics();
    let seeds = Mutex::new(Seeds::from_environment());
    let runs = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else { break };
                    let is_good = try_seed(seed);
                    runs.lock().unwrap().push((seed, is_good));
                }
            });
        }
    });
    let runs = runs.into_inner().unwrap();
    let failed: Vec<u64> = runs.iter().filter(|(_, is_good)| !is_good).map(|(seed, _)| *seed).collect();
    eprintln!("{} runs, {} failed", runs.len(), failed.len());
    assert!(failed.is_empty(), "replay with STRESS_SEED=n what is above: {failed:?}");
}

fn try_seed(seed: u64) -> bool {
    let plan = Plan::of(seed);
    let began = wait::now();
    let faults = run::run(plan, panics_of);
    if !faults.is_empty() {
        eprintln!("seed {seed} failed after {:?}: {plan:?}\n    {}", began.elapsed(), faults.join("\n    "));
    }
    faults.is_empty()
}

/// The seeds to run: some in any case, then others until time is over.
struct Seeds {
    first: VecDeque<u64>,
    then: RangeFrom<u64>,
    until: Instant,
}

impl Seeds {
    fn from_environment() -> Self {
        let (seed, seconds) = (variable("STRESS_SEED"), variable("STRESS_SECONDS"));
        let default_seconds = if seed.is_some() { 0 } else { 8 };
        let start = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
        let first = match seed {
            Some(seed) => VecDeque::from([seed]),
            None => ONCE_FAILED.into(),
        };
        let then = start + u64::from(seed.is_some())..;
        eprintln!("seeds {first:?}, then from {} on", then.start);
        Self { first, then, until: wait::now() + Duration::from_secs(seconds.unwrap_or(default_seconds)) }
    }

    fn next(&mut self) -> Option<u64> {
        let in_any_case = self.first.pop_front();
        if in_any_case.is_some() || wait::now() >= self.until { in_any_case } else { self.then.next() }
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name}={text} is not a number");
    number
}

/// From here on, threads that are named after a seed note their panics, and do not print them.
fn note_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        match thread.name().filter(|name| name.starts_with("seed ")) {
            Some(name) => PANICS.lock().unwrap().push((name.to_owned(), panic.to_string())),
            None => print(panic),
        }
    }));
}

fn panics_of(thread: &str) -> Vec<String> {
    let mut panics = PANICS.lock().unwrap();
    let (its, others) = panics.drain(..).partition(|(name, _)| name == thread);
    *panics = others;
    let its: Vec<(String, String)> = its;
    its.into_iter().map(|(_, panic)| panic).collect()
}
