//! What it costs to track the offsets of a log: nanoseconds for delivering, settling and asking for the position.
//!
//! ```text
//! cargo run --release -p anybroker-benches --bin offsets [-- [--rounds N] [--messages N] [--only NAME]]
//! ```
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has no result")]

use anybroker_benches::{Case, Ranking, Sample, Stopwatch};
use anybroker_offsets::{Positions, Tracker};
use std::env;
use std::hint::black_box;

/// So many are delivered before they are settled, and then the position is asked for.
const WINDOW: usize = 1000;

fn main() {
    let rounds = option("--rounds").map_or(9, |rounds| rounds.parse().unwrap());
    let messages: usize = option("--messages").map_or(5_000_000, |messages| messages.parse().unwrap());
    let windows = messages.div_ceil(WINDOW);
    let only = option("--only");

    let in_order: Vec<usize> = (0..WINDOW).collect();
    let reversed: Vec<usize> = (0..WINDOW).rev().collect();
    let shuffled = shuffled();

    let mut cases = Vec::new();
    let mut add = |name: &'static str, run: Box<dyn FnMut() -> Sample>| {
        if only.as_ref().is_none_or(|only| only == name) {
            cases.push(Case::new(name, run));
        }
    };
    for (name, order, gap) in [
        ("in order", &in_order, dense as fn(usize) -> i64),
        ("reversed", &reversed, dense),
        ("shuffled", &shuffled, dense),
        ("in order, markers", &in_order, markers),
        ("shuffled, markers", &shuffled, markers),
        ("shuffled, few left", &shuffled, |_| 99),
        ("shuffled, large gaps", &shuffled, |_| 1_000_000_000),
    ] {
        let (order, steps) = (order.clone(), (0..WINDOW).map(|index| 1 + gap(index)).collect::<Vec<_>>());
        add(name, Box::new(move || windowed(&order, &steps, windows)));
    }
    add("one at a time", Box::new(move || one_at_a_time(windows)));
    add("behind a blocking one", Box::new(move || blocked(windows)));
    let (order, other) = (in_order, shuffled);
    add("positions, in order", Box::new(move || positions(&order, windows)));
    add("positions, shuffled", Box::new(move || positions(&other, windows)));

    println!("| | speed | CPU | M msg/s | ns CPU |");
    println!("|---|---:|---:|---:|---:|");
    print!("{}", Ranking::measure(cases, rounds));
}

/// Windows of deliveries, each then settled in that order.
fn windowed(order: &[usize], steps: &[i64], windows: usize) -> Sample {
    let mut tracker = Tracker::new(0);
    let mut offsets = vec![0; steps.len()];
    let mut next = 0;
    let stopwatch = Stopwatch::start();
    for _ in 0..windows {
        for (offset, step) in offsets.iter_mut().zip(steps) {
            *offset = next;
            tracker.deliver(next).unwrap();
            next += step;
        }
        for index in order {
            tracker.settle(offsets[*index]).unwrap();
        }
        black_box(tracker.position());
    }
    stopwatch.stop(windows * WINDOW)
}

/// Each is settled before the next is delivered, and the position is asked for each time.
fn one_at_a_time(windows: usize) -> Sample {
    let mut tracker = Tracker::new(0);
    let stopwatch = Stopwatch::start();
    for offset in 0..i64::try_from(windows * WINDOW).unwrap() {
        tracker.deliver(black_box(offset)).unwrap();
        tracker.settle(black_box(offset)).unwrap();
        black_box(tracker.position());
    }
    stopwatch.stop(windows * WINDOW)
}

/// The first is never settled, and all others are, a window behind.
fn blocked(windows: usize) -> Sample {
    let mut tracker = Tracker::new(-1);
    let window = i64::try_from(WINDOW).unwrap();
    let stopwatch = Stopwatch::start();
    tracker.deliver(-1).unwrap();
    for offset in 0..i64::try_from(windows * WINDOW).unwrap() {
        tracker.deliver(black_box(offset)).unwrap();
        if offset >= window {
            tracker.settle(black_box(offset - window)).unwrap();
        }
        black_box(tracker.position());
    }
    stopwatch.stop(windows * WINDOW)
}

/// As `windowed`, with positions of 32 bytes.
fn positions(order: &[usize], windows: usize) -> Sample {
    let mut shard = Positions::new([0_u64; 4]);
    let mut numbers = vec![0; WINDOW];
    let stopwatch = Stopwatch::start();
    for window in 0..windows {
        for number in &mut numbers {
            *number = shard.deliver([window as u64; 4]);
        }
        for index in order {
            shard.settle(numbers[*index]).unwrap();
        }
        black_box(shard.position());
    }
    stopwatch.stop(windows * WINDOW)
}

fn dense(_index: usize) -> i64 {
    0
}

/// Transactions of ten records.
fn markers(index: usize) -> i64 {
    i64::from(index % 10 == 9)
}

/// The same order in each run.
fn shuffled() -> Vec<usize> {
    let mut order: Vec<usize> = (0..WINDOW).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..WINDOW).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(last, usize::try_from(random % (last as u64 + 1)).unwrap());
    }
    order
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
