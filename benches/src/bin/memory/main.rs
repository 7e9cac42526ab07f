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

use anybroker_benches::{Case, Options};
use bytes::Bytes;
use ours::Anybroker;
use peers::{AsyncChannel, Flume, Omniqueue, TokioBroadcast, TokioMpsc};
use tokio::runtime::{Builder, Runtime};
use transport::{BATCH, Job, Shape, run};

/// A multiple of the batch size for up to four producers.
const MESSAGES: usize = 3200 * BATCH;

fn main() {
    let options = Options::read(5);
    let runtime = Builder::new_multi_thread().worker_threads(options.workers).enable_all().build().unwrap();
    println!("{}", Options::HEAD);
    for (shape, title) in [
        (Shape::Competing(1), "1 to 1"),
        (Shape::Competing(4), "4 to 4, competing"),
        (Shape::FanOut(4), "1 to each of 4"),
    ] {
        for batched in [false, true] {
            for size in [64, 1024] {
                let how = if batched { "batches of 64" } else { "one at a time" };
                let title = format!("{title}, {how}, {size} B");
                let job = Job { shape, batched, payload: Bytes::from(vec![7; size]), messages: MESSAGES };
                print!("{}", options.compare(&title, || cases(&runtime, &job)));
            }
        }
    }
}

/// The first is what the others are compared with: flume as it is used, one message at a time, because it has no batches.
fn cases<'a>(runtime: &'a Runtime, job: &'a Job) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    let mut add = |name: &'static str, batched: bool, run: fn(&Runtime, &Job) -> _| {
        let job = Job { batched, ..job.clone() };
        cases.push(Case::new(name, move || run(runtime, &job)));
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
