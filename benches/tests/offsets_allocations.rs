//! Gate on heap allocations of the trackers of offsets. One test on the main thread, because the counter counts the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anybroker_offsets::{Positions, Tracker};
use libtest_mimic::{Arguments, Trial};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WINDOW: usize = 1000;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Then it is run here.
    arguments.test_threads = Some(1);
    let trial = Trial::test("a_tracker_that_is_warm_allocates_nothing", || {
        a_tracker_that_is_warm_allocates_nothing();
        Ok(())
    });
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn a_tracker_that_is_warm_allocates_nothing() {
    for step in [1, 3, 1_000_000_000] {
        let mut tracker = Tracker::new(0);
        let mut shard = Positions::new(0);
        let mut offsets = (0..).step_by(step);
        for round in 0..100 {
            let counting = Region::new(ALLOCATOR);
            let (mut window, mut numbers) = ([0; WINDOW], [0; WINDOW]);
            for (index, offset) in offsets.by_ref().take(WINDOW).enumerate() {
                tracker.deliver(offset).unwrap();
                window[index] = offset;
                numbers[index] = shard.deliver(offset);
            }
            // Coprime to the size of the window, so that each is met once and none in its order.
            for index in (0..WINDOW).map(|index| index * 617 % WINDOW) {
                tracker.settle(window[index]).unwrap();
                shard.settle(numbers[index]).unwrap();
            }
            let counted = counting.change();
            assert_eq!(tracker.span() + shard.span(), 0);
            // A window may lie across one more word than the first.
            assert!(
                round < 2 || counted.allocations + counted.reallocations == 0,
                "round {round}: {counted:?}"
            );
        }
    }
}
