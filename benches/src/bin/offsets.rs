//! What it costs to track the offsets of a log: nanoseconds for delivering, settling and asking for the position.
//!
//! ```text
//! cargo run --release -p anybroker-benches --bin offsets [-- [--rounds N] [--messages N] [--only NAME]]
//! ```
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has no result")]

#[path = "../../../adapters/offsets/examples/count/loads.rs"]
mod loads;

use anybroker_benches::{Case, Ranking, Stopwatch};
use loads::WINDOW;
use std::env;

fn main() {
    let rounds = option("--rounds").map_or(9, |rounds| rounds.parse().unwrap());
    let messages: usize = option("--messages").map_or(5_000_000, |messages| messages.parse().unwrap());
    let windows = messages.div_ceil(WINDOW);
    let only = option("--only");

    let mut cases = Vec::new();
    for (name, mut load) in loads::loads() {
        if only.as_ref().is_none_or(|only| only == name) {
            cases.push(Case::new(name, move || {
                let stopwatch = Stopwatch::start();
                load(windows);
                stopwatch.stop(windows * WINDOW)
            }));
        }
    }
    println!("| | speed | CPU | M msg/s | ns CPU |");
    println!("|---|---:|---:|---:|---:|");
    print!("{}", Ranking::measure(cases, rounds));
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
