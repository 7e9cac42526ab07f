//! A `Service` with one handler that does nothing, against the loop over a `Consumer` that does the same.
//!
//! ```text
//! cargo run --release -p anybroker-benches --bin service [-- [--url URL] [--messages N] [--rounds N] [--workers N] [--group TITLE]]
//! ```
//!
//! With the feature of a broker, `--url` may name one.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has no result")]

use anybroker::channel::ChannelKind;
use anybroker::message::Bytes;
use anybroker::{Body, Broker, Channel, Context, Failure, Result, Service};
use anybroker_benches::{Case, Options, Sample, Stopwatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

const BATCH: usize = 64;

/// Bytes as they are, so that no codec is measured.
struct Raw(Vec<u8>);

impl serde::Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

impl Body for Raw {
    const TYPE: &'static str = "raw";
    const CONTENT_TYPE: &'static str = "application/octet-stream";
    fn encode(&self) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(&self.0))
    }
    fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(Self(bytes.to_vec()))
    }
}

/// Counts what was handled.
#[derive(Clone)]
struct Goal(Arc<(AtomicUsize, Notify)>);

impl Goal {
    fn of(messages: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(messages), Notify::new())))
    }

    fn count(&self) {
        if self.0.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.1.notify_one();
        }
    }
}

async fn handle(_: Raw, cx: Context<Goal>) -> std::result::Result<(), Failure> {
    cx.state().count();
    Ok(())
}

/// One comparison.
struct Job {
    broker: Broker,
    /// Producers that send one message after another; none sends batches.
    senders: usize,
    messages: usize,
}

fn main() {
    let options = Options::read(7);
    let url = Options::text("--url").unwrap_or_else(|| "memory://".into());
    let messages = Options::text("--messages").map_or(200_000, |text| text.parse::<usize>().unwrap());
    // The same share for each of 16 tasks, and whole batches.
    let messages = messages.next_multiple_of(16 * BATCH);
    let runtime = Builder::new_multi_thread().worker_threads(options.workers).enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::connect(&url)).unwrap();
    println!("{}", Options::HEAD);
    for (senders, how) in [(1, "sent one by one"), (16, "sent by 16 tasks"), (0, "sent in batches of 64")] {
        let job = Arc::new(Job { broker: broker.clone(), senders, messages });
        let title = format!("1 KiB, {how}");
        print!("{}", options.compare(&title, || cases(&runtime, &job)));
    }
    runtime.block_on(broker.close()).unwrap();
}

fn cases<'a>(runtime: &'a Runtime, job: &Arc<Job>) -> Vec<Case<'a>> {
    let (plain, served) = (Arc::clone(job), Arc::clone(job));
    vec![
        Case::new("consumer loop", move || runtime.block_on(by_loop(&plain))),
        Case::new("service", move || runtime.block_on(by_service(&served))),
    ]
}

/// A channel of its own for every run.
fn channel() -> Channel {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    Channel::named(ChannelKind::PointToPoint, format!("service-{}-{run}", std::process::id()))
}

async fn by_loop(job: &Arc<Job>) -> Sample {
    let channel = channel();
    let goal = Goal::of(job.messages);
    let mut consumer = job.broker.consumer(&channel).await.unwrap();
    let task = tokio::spawn({
        let goal = goal.clone();
        async move {
            while let Some(delivery) = consumer.receive().await.unwrap() {
                match delivery.decode::<Raw>() {
                    Ok(_) => {
                        goal.count();
                        drop(delivery.ack());
                    }
                    Err(error) => drop(delivery.reject(error.to_string())),
                }
            }
        }
    });
    let sample = send(job, &channel, &goal).await;
    task.abort();
    let _ = task.await;
    job.broker.delete(&channel).await.unwrap();
    sample
}

async fn by_service(job: &Arc<Job>) -> Sample {
    let channel = channel();
    let goal = Goal::of(job.messages);
    let service = Service::new("bench").with_state(goal.clone()).handle(&channel, handle);
    let running = service.start(&job.broker).await.unwrap();
    let sample = send(job, &channel, &goal).await;
    running.stop().await.unwrap();
    job.broker.delete(&channel).await.unwrap();
    sample
}

/// Sends all, and waits until all were handled.
async fn send(job: &Arc<Job>, channel: &Channel, goal: &Goal) -> Sample {
    let producer = job.broker.producer(channel).await.unwrap();
    let body = Arc::new(Raw(vec![7; 1024]));
    let stopwatch = Stopwatch::start();
    let mut tasks = Vec::new();
    for _ in 0..job.senders {
        let (producer, body, count) = (producer.clone(), Arc::clone(&body), job.messages / job.senders);
        tasks.push(tokio::spawn(async move {
            for _ in 0..count {
                producer.send(&*body).await.unwrap();
            }
        }));
    }
    if job.senders == 0 {
        for _ in 0..job.messages / BATCH {
            for result in producer.send_all([&*body; BATCH]).await {
                result.unwrap();
            }
        }
    }
    goal.0.1.notified().await;
    let sample = stopwatch.stop(job.messages);
    for task in tasks {
        task.await.unwrap();
    }
    sample
}
