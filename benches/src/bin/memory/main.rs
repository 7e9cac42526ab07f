//! The memory adapter through the public API, against in-process channels and omniqueue.
//!
//! ```text
//! cargo run --release -p anybroker-benches --bin memory [-- [--rounds N] [--workers N] [--group TITLE] [--only NAME]]
//! ```
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on has no result")]

mod ours;
mod peers;
mod transport;

use anybroker_benches::{Case, Ranking};
use bytes::Bytes;
use ours::Anybroker;
use peers::{AsyncChannel, Flume, Omniqueue, TokioBroadcast, TokioMpsc};
use std::env;
use tokio::runtime::{Builder, Runtime};
use transport::{BATCH, Job, Shape, run};

/// A multiple of the batch size for up to four producers.
const MESSAGES: usize = 3200 * BATCH;

fn main() {
    let rounds = option("--rounds").map_or(5, |rounds| rounds.parse().unwrap());
    let workers = option("--workers").map_or(2, |workers| workers.parse().unwrap());
    let group = option("--group").unwrap_or_default();
    let only = option("--only").unwrap_or_default();
    let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    println!("| | speed | CPU | M msg/s | ns CPU |");
    println!("|---|---:|---:|---:|---:|");
    for (shape, title) in [
        (Shape::Competing(1), "1 to 1"),
        (Shape::Competing(4), "4 to 4, competing"),
        (Shape::FanOut(4), "1 to each of 4"),
    ] {
        for batched in [false, true] {
            for size in [64, 1024] {
                let how = if batched { "batches of 64" } else { "one at a time" };
                let title = format!("{title}, {how}, {size} B");
                if !title.contains(&group) {
                    continue;
                }
                println!("| **{title}** | | | | |");
                let payload = Bytes::from(vec![7; size]);
                let job = Job { shape, batched, payload, messages: MESSAGES };
                print!("{}", Ranking::measure(cases(&runtime, &job, &only), rounds));
            }
        }
    }
}

/// The first is what the others are compared with: flume as it is used, one message at a time, because it has no batches.
fn cases<'a>(runtime: &'a Runtime, job: &'a Job, only: &str) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    let mut add = |name: &'static str, batched: bool, run: fn(&Runtime, &Job) -> _| {
        if name.contains(only) {
            let job = Job { batched, ..job.clone() };
            cases.push(Case::new(name, move || run(runtime, &job)));
        }
    };
    add("flume", false, run::<Flume>);
    if job.batched {
        add("flume, in bursts", true, run::<Flume>);
    }
    add("anybroker", job.batched, run::<Anybroker>);
    match job.shape {
        Shape::FanOut(_) => add("tokio broadcast", job.batched, run::<TokioBroadcast>),
        Shape::Competing(n) => {
            add("tokio mpsc", job.batched, run::<TokioMpsc>);
            add("async-channel", job.batched, run::<AsyncChannel>);
            if n == 1 {
                add("omniqueue", job.batched, run::<Omniqueue>);
            }
        }
    }
    cases
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
