//! Gates on heap allocations per message on a real RabbitMQ: the cases of the benchmark, counted instead of timed. They count beside lapin used
//! directly for the same messages, whose own part is several times ours. One test, because the counter counts the whole process.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "the counts are worth seeing beside the limits")]

#[path = "../src/bin/rabbitmq/bare.rs"]
mod bare;
#[path = "../src/bin/rabbitmq/ours.rs"]
mod ours;
#[path = "../src/bin/rabbitmq/server.rs"]
mod server;

use anybroker_benches::Sample;
use bare::Fields;
use bytes::Bytes;
use server::Server;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// So many that connecting, which is counted too, weighs little.
const MESSAGES: usize = 40 * WINDOW;
const BATCH: usize = 64;
const WINDOW: usize = 256;

/// For a message sent in a batch, beside what lapin needs for the same.
const MOST_BATCHED: f64 = 5.0;
/// For a message sent alone, beside what lapin needs for the same.
const MOST_ALONE: f64 = 10.0;
/// For a message received and acknowledged, beside what lapin needs when it acknowledges many at once.
const MOST_RECEIVED: f64 = 2.5;

/// The work of one run.
#[derive(Clone)]
struct Job {
    url: Arc<str>,
    queue: String,
    payload: Bytes,
}

#[tokio::test]
async fn a_message_costs_few_allocations_beside_the_clients() {
    let at = Counter(Server::from_environment().await);
    // What opening the first connection leaves behind.
    at.sends("warming up", ours::send_batches).await;

    at.sends("lapin", |job| bare::send(job, Fields::None)).await;
    let lapin = at.sends("lapin, with id and time", |job| bare::send(job, Fields::IdAndTime)).await;
    let batched = at.sends("anybroker, send_all of 64", ours::send_batches).await - lapin;
    let lapin = at.sends("lapin, 64 tasks", |job| bare::send_each(job, Fields::IdAndTime)).await;
    let alone = at.sends("anybroker, 64 times send", ours::send).await - lapin;

    at.receives("lapin, each acked", bare::receive).await;
    let lapin = at.receives("lapin, 64 acked at once", bare::receive_batches).await;
    let in_batches = at.receives("anybroker, receive_batch of 64", ours::receive_batches).await - lapin;
    let one_by_one = at.receives("anybroker, receive", ours::receive).await - lapin;

    for (what, more, most) in [
        ("sent in a batch", batched, MOST_BATCHED),
        ("sent alone", alone, MOST_ALONE),
        ("received in a batch", in_batches, MOST_RECEIVED),
        ("received alone", one_by_one, MOST_RECEIVED),
    ] {
        assert!(more <= most, "{more:.2} beside lapin's for a message {what}, {most} allowed");
    }
}

struct Counter(Server);

impl Counter {
    async fn sends<F>(&self, name: &str, send: impl FnOnce(Job) -> F) -> f64
    where
        F: Future<Output = Sample> + Send + 'static,
    {
        let job = self.job().await;
        let counted = count(&format!("send: {name}"), send(job.clone())).await;
        assert_eq!(self.0.count(&job.queue).await, MESSAGES, "messages sent by {name}");
        self.0.delete(&job.queue).await;
        counted
    }

    /// The messages have id and time, whoever receives them.
    async fn receives<F>(&self, name: &str, receive: impl FnOnce(Job) -> F) -> f64
    where
        F: Future<Output = Sample> + Send + 'static,
    {
        let job = self.job().await;
        bare::send(job.clone(), Fields::IdAndTime).await;
        let counted = count(&format!("receive: {name}"), receive(job.clone())).await;
        self.0.delete(&job.queue).await;
        counted
    }

    async fn job(&self) -> Job {
        let (url, queue) = (Arc::clone(&self.0.url), self.0.next_queue());
        ours::declare(&url, &queue).await;
        Job { url, queue, payload: Bytes::from_static(&[7; 100]) }
    }
}

/// Allocations per message.
async fn count(name: &str, run: impl Future<Output = Sample> + Send + 'static) -> f64 {
    let counting = Region::new(ALLOCATOR);
    tokio::spawn(run).await.unwrap();
    let change = counting.change();
    let counted = (change.allocations + change.reallocations) as f64 / MESSAGES as f64;
    println!("{counted:5.1} allocations per message, {name}");
    counted
}
