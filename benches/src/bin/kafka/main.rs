//! The Kafka adapter through the public API, against rdkafka used at its best and as people use it, and against peers, on a real server.
//!
//! ```text
//! scripts/brokers up kafka; eval "$(scripts/brokers env)"
//! cargo run --release -p anybroker-benches --features kafka --bin kafka [-- [--rounds N] [--workers N] [--group TITLE] [--only NAME] [--watermill FILE] [--sea-streamer FILE]]
//! ```
//!
//! Two peers are programs of their own, and take part where they are built and named:
//!
//! ```text
//! (cd benches/watermill && go build -o ../../target/watermill .)
//! cargo build --release --manifest-path benches/sea_streamer/Cargo.toml --target-dir target
//! cargo run … -- --watermill target/watermill --sea-streamer target/release/sea_streamer
//! ```
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on has no result")]

mod bare;
mod ours;
mod program;
mod rust_stream;
mod server;

use anybroker_benches::{Case, Options, Sample};
use bare::Fields;
use bytes::Bytes;
use server::Server;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Messages of a run, a multiple of the batch size and of the tasks.
const MESSAGES: usize = 1600 * BATCH;
/// Messages of a batch.
const BATCH: usize = 64;
/// Batches on their way.
const BATCHES: usize = 64;
/// Tasks that send one message after another.
const TASKS: usize = 1024;

/// The work of one run.
#[derive(Clone)]
struct Job {
    /// `host:port`.
    servers: Arc<str>,
    /// A topic of that name, which the run alone uses.
    topic: String,
    payload: Bytes,
}

fn main() {
    let options = Options::read(5);
    let runtime = Builder::new_multi_thread().worker_threads(options.workers).enable_all().build().unwrap();
    let server = Server::from_environment();
    println!("{}", Options::HEAD);
    for size in [100, 1024] {
        let at = Bench { runtime: &runtime, server: &server, payload: Bytes::from(vec![7; size]) };
        print!("{}", options.compare(&format!("send, {size} B"), || senders(&at)));
        print!("{}", options.compare(&format!("receive, {size} B"), || receivers(&at)));
    }
}

/// The first is what the others are compared with.
fn senders<'a>(at: &'a Bench<'a>) -> Vec<Case<'a>> {
    let mut cases = vec![
        at.sends("rdkafka, batches of 64", |job| bare::send_batches(job, Fields::None)),
        at.sends("rdkafka, batches of 64, with id and time", |job| {
            bare::send_batches(job, Fields::IdAndTime)
        }),
        at.sends("FutureProducer, 1024 tasks", |job| bare::send(job, Fields::None)),
        at.sends("FutureProducer, 1024 tasks, with id and time", |job| bare::send(job, Fields::IdAndTime)),
        at.sends("anybroker, send_all of 64", ours::send_batches),
        at.sends("anybroker, 1024 times send", ours::send),
        at.sends("ruststream, 1024 times publish", rust_stream::send),
    ];
    for (option, name) in [
        ("--sea-streamer", "sea-streamer, 1024 times send"),
        ("--watermill", "watermill, 1024 times Publish"),
    ] {
        cases.extend(
            program::given(option)
                .map(|program| at.sends(name, move |job| program::run(Arc::clone(&program), "send", job))),
        );
    }
    cases
}

/// The first is what the others are compared with.
fn receivers<'a>(at: &'a Bench<'a>) -> Vec<Case<'a>> {
    let mut cases = vec![
        at.receives("BaseConsumer on a thread", Fields::None, bare::receive_on_a_thread),
        at.receives(
            "BaseConsumer on a thread, with id and time",
            Fields::IdAndTime,
            bare::receive_on_a_thread,
        ),
        at.receives("StreamConsumer", Fields::None, bare::receive),
        at.receives("StreamConsumer, with id and time", Fields::IdAndTime, bare::receive),
        at.receives("anybroker, receive_batch of 64", Fields::IdAndTime, ours::receive_batches),
        at.receives("anybroker, receive", Fields::IdAndTime, ours::receive),
        at.receives("ruststream, batches of 64", Fields::None, rust_stream::receive_batches),
        at.receives("ruststream, stream", Fields::None, rust_stream::receive),
    ];
    for (option, name) in [("--sea-streamer", "sea-streamer, next"), ("--watermill", "watermill, Subscribe")]
    {
        cases.extend(program::given(option).map(|program| {
            let receive = move |job| program::run(Arc::clone(&program), "receive", job);
            at.receives(name, Fields::None, receive)
        }));
    }
    cases
}

/// Where runs take place.
struct Bench<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    payload: Bytes,
}

impl<'a> Bench<'a> {
    /// Sends all to a topic of its own. Fails if not all of it is there in the end.
    fn sends<F>(&'a self, name: &'static str, send: impl Fn(Job) -> F + 'a) -> Case<'a>
    where
        F: Future<Output = Sample> + Send + 'static,
    {
        Case::new(name, move || {
            self.runtime.block_on(async {
                let job = self.job().await;
                let sample = tokio::spawn(send(job.clone())).await.unwrap();
                assert_eq!(self.server.count(&job.topic), MESSAGES, "messages sent by {name}");
                ours::delete(&job).await;
                sample
            })
        })
    }

    /// Receives and acknowledges all of a topic of its own. Measured from the first message on: joining a group takes as long for everybody.
    fn receives<F>(&'a self, name: &'static str, fields: Fields, receive: impl Fn(Job) -> F + 'a) -> Case<'a>
    where
        F: Future<Output = Sample> + Send + 'static,
    {
        Case::new(name, move || {
            self.runtime.block_on(async {
                let job = self.job().await;
                bare::send_batches(job.clone(), fields).await;
                let sample = tokio::spawn(receive(job.clone())).await.unwrap();
                ours::delete(&job).await;
                sample
            })
        })
    }

    /// The topic is the same for everybody: as Anybroker declares it.
    async fn job(&self) -> Job {
        let job = Job {
            servers: Arc::clone(&self.server.servers),
            topic: self.server.next_topic(),
            payload: self.payload.clone(),
        };
        ours::declare(&job).await;
        job
    }
}
