//! The RabbitMQ adapter through the public API, against lapin used directly, ruststream and omniqueue, on a real server.
//!
//! ```text
//! scripts/brokers up rabbitmq4; eval "$(scripts/brokers env)"
//! cargo run --release -p anybroker-benches --features rabbitmq --bin rabbitmq [-- [--rounds N] [--workers N] [--group TITLE] [--only NAME]]
//! ```
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on has no result")]

mod bare;
mod omni;
mod ours;
mod rust_stream;
mod server;

use anybroker_benches::{Case, Options, Sample};
use bare::Fields;
use bytes::Bytes;
use server::Server;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

/// Messages of a run, a multiple of the batch size.
const MESSAGES: usize = 320 * BATCH;
/// Messages of a batch.
const BATCH: usize = 64;
/// Messages on their way: unconfirmed, or unacknowledged.
const WINDOW: usize = 256;

/// The work of one run.
#[derive(Clone)]
struct Job {
    url: Arc<str>,
    /// A durable quorum queue of that name, which the run alone uses.
    queue: String,
    payload: Bytes,
}

fn main() {
    let options = Options::read(7);
    let runtime = Builder::new_multi_thread().worker_threads(options.workers).enable_all().build().unwrap();
    let server = runtime.block_on(Server::from_environment());
    println!("{}", Options::HEAD);
    for size in [100, 1024] {
        let at = Bench { runtime: &runtime, server: &server, payload: Bytes::from(vec![7; size]) };
        print!("{}", options.compare(&format!("send, {size} B"), || senders(&at)));
        print!("{}", options.compare(&format!("receive, {size} B"), || receivers(&at)));
    }
}

/// The first is what the others are compared with.
fn senders<'a>(at: &'a Bench<'a>) -> Vec<Case<'a>> {
    vec![
        at.sends("lapin", |job| bare::send(job, Fields::None)),
        at.sends("lapin, with id and time", |job| bare::send(job, Fields::IdAndTime)),
        at.sends("lapin, 64 tasks, with id and time", |job| bare::send_each(job, Fields::IdAndTime)),
        at.sends("anybroker, send_all of 64", ours::send_batches),
        at.sends("anybroker, 64 times send", ours::send),
        at.sends("ruststream, transactions of 64", rust_stream::send_batches),
        at.sends("ruststream, 64 times publish", rust_stream::send),
        at.sends("omniqueue, 64 times send_raw, unconfirmed", omni::send),
    ]
}

/// The first is what the others are compared with.
fn receivers<'a>(at: &'a Bench<'a>) -> Vec<Case<'a>> {
    vec![
        at.receives("lapin, 64 acked at once", Fields::None, bare::receive_batches),
        at.receives("lapin, each acked", Fields::None, bare::receive),
        at.receives("lapin, 64 acked at once, with id and time", Fields::IdAndTime, bare::receive_batches),
        at.receives("anybroker, receive_batch of 64", Fields::IdAndTime, ours::receive_batches),
        at.receives("anybroker, receive", Fields::IdAndTime, ours::receive),
        at.receives("ruststream, batches of 64", Fields::None, rust_stream::receive_batches),
        at.receives("ruststream, stream", Fields::None, rust_stream::receive),
        at.receives("omniqueue, receive_all of 64", Fields::None, omni::receive_batches),
        at.receives("omniqueue, receive", Fields::None, omni::receive),
    ]
}

/// Where runs take place.
struct Bench<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    payload: Bytes,
}

impl<'a> Bench<'a> {
    /// Sends all to a queue of its own. Fails if not all of it is there in the end.
    fn sends<F>(&'a self, name: &'static str, send: fn(Job) -> F) -> Case<'a>
    where
        F: Future<Output = Sample> + Send + 'static,
    {
        Case::new(name, move || {
            self.runtime.block_on(async {
                let job = self.job().await;
                let sample = tokio::spawn(send(job.clone())).await.unwrap();
                assert_eq!(self.server.count(&job.queue).await, MESSAGES, "messages sent by {name}");
                self.server.delete(&job.queue).await;
                sample
            })
        })
    }

    /// Receives and acknowledges all of a queue of its own. Fails if more is left in the end than is on its way at a time.
    fn receives<F>(&'a self, name: &'static str, fields: Fields, receive: fn(Job) -> F) -> Case<'a>
    where
        F: Future<Output = Sample> + Send + 'static,
    {
        Case::new(name, move || {
            self.runtime.block_on(async {
                let job = self.job().await;
                bare::send(job.clone(), fields).await;
                let sample = tokio::spawn(receive(job.clone())).await.unwrap();
                // Acknowledgements that are under way when their connection closes may be lost, and no more than that.
                let left = self.server.count(&job.queue).await;
                assert!(left <= WINDOW, "{left} messages were left by {name}");
                self.server.delete(&job.queue).await;
                sample
            })
        })
    }

    /// The queue is the same for everybody, arguments included: as Anybroker declares it.
    async fn job(&self) -> Job {
        let url = Arc::clone(&self.server.url);
        let queue = self.server.next_queue();
        ours::declare(&url, &queue).await;
        Job { url, queue, payload: self.payload.clone() }
    }
}
