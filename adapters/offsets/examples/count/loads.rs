//! What a tracker is put through, for counting instructions here and measuring time in the benchmarks.

use anybroker_offsets::{Positions, Tracker};
use std::hint::black_box;

/// So many are delivered before they are settled, and then the position is asked for.
pub(crate) const WINDOW: usize = 1000;

/// A load: its name, and what does so many windows of it.
pub(crate) type Load = (&'static str, Box<dyn FnMut(usize)>);

/// All of them.
pub(crate) fn loads() -> Vec<Load> {
    let mut loads: Vec<Load> = Vec::new();
    for (name, order, gap) in [
        ("in order", in_order(), dense as fn(usize) -> i64),
        ("reversed", (0..WINDOW).rev().collect(), dense),
        ("shuffled", shuffled(), dense),
        ("in order, markers", in_order(), markers),
        ("shuffled, markers", shuffled(), markers),
        ("shuffled, few left", shuffled(), |_| 99),
        ("shuffled, large gaps", shuffled(), |_| 1_000_000_000),
    ] {
        let steps: Vec<i64> = (0..WINDOW).map(|index| 1 + gap(index)).collect();
        loads.push((name, Box::new(move |windows| windowed(&order, &steps, windows))));
    }
    loads.push(("one at a time", Box::new(one_at_a_time)));
    loads.push(("behind a blocking one", Box::new(blocked)));
    for (name, order) in [("positions, in order", in_order()), ("positions, shuffled", shuffled())] {
        loads.push((name, Box::new(move |windows| positions(&order, windows))));
    }
    loads
}

/// Windows of deliveries, each then settled in that order.
fn windowed(order: &[usize], steps: &[i64], windows: usize) {
    let mut tracker = Tracker::new(0);
    let mut offsets = vec![0; steps.len()];
    let mut next = 0;
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
}

/// Each is settled before the next is delivered, and the position is asked for each time.
fn one_at_a_time(windows: usize) {
    let mut tracker = Tracker::new(0);
    for offset in 0..i64::try_from(windows * WINDOW).unwrap() {
        tracker.deliver(black_box(offset)).unwrap();
        tracker.settle(black_box(offset)).unwrap();
        black_box(tracker.position());
    }
}

/// The first is never settled, and all others are, a window behind.
fn blocked(windows: usize) {
    let mut tracker = Tracker::new(-1);
    let window = i64::try_from(WINDOW).unwrap();
    tracker.deliver(-1).unwrap();
    for offset in 0..i64::try_from(windows * WINDOW).unwrap() {
        tracker.deliver(black_box(offset)).unwrap();
        if offset >= window {
            tracker.settle(black_box(offset - window)).unwrap();
        }
        black_box(tracker.position());
    }
}

/// As `windowed`, with positions of 32 bytes.
fn positions(order: &[usize], windows: usize) {
    let mut shard = Positions::new([0_u64; 4]);
    let mut numbers = vec![0; WINDOW];
    for window in 0..windows {
        for number in &mut numbers {
            *number = shard.deliver([window as u64; 4]);
        }
        for index in order {
            shard.settle(numbers[*index]).unwrap();
        }
        black_box(shard.position());
    }
}

fn in_order() -> Vec<usize> {
    (0..WINDOW).collect()
}

/// The same order in each run.
fn shuffled() -> Vec<usize> {
    let mut order = in_order();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..WINDOW).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(last, usize::try_from(random % (last as u64 + 1)).unwrap());
    }
    order
}

fn dense(_index: usize) -> i64 {
    0
}

/// Transactions of ten records.
fn markers(index: usize) -> i64 {
    i64::from(index % 10 == 9)
}
