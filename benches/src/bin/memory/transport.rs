//! One benchmark for every way of moving messages: who sends and receives how, and when it is over.

use anybroker_benches::{Sample, Stopwatch};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Messages that a queue holds before its senders wait, where there is such a bound.
pub(crate) const CAPACITY: usize = 1024;
/// Messages of a batch.
pub(crate) const BATCH: usize = 64;

/// Who sends and who receives.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// As many consumers as producers; each message reaches one of them.
    Competing(usize),
    /// One producer; each message reaches all of this many consumers.
    FanOut(usize),
}

/// The work of one run.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) shape: Shape,
    pub(crate) batched: bool,
    pub(crate) payload: Bytes,
    pub(crate) messages: usize,
}

/// A way of moving messages inside of one process.
pub(crate) trait Transport {
    type Producer: Producer;
    type Consumer: Consumer;

    fn open(shape: Shape) -> impl Future<Output = (Vec<Self::Producer>, Vec<Self::Consumer>)>;
}

pub(crate) trait Producer: Send + 'static {
    /// Waits until one message is sent.
    fn send(&mut self, payload: &Bytes) -> impl Future<Output = ()> + Send;
    /// Waits until a batch is sent.
    fn send_batch(&mut self, payload: &Bytes) -> impl Future<Output = ()> + Send;
}

pub(crate) trait Consumer: Send + 'static {
    /// Waits for one message and settles it, where there is something to settle.
    fn receive(&mut self) -> impl Future<Output = ()> + Send;
    /// Waits for at least one message, takes what else is there up to a batch, and settles each. Returns how many.
    fn receive_batch(&mut self) -> impl Future<Output = usize> + Send;
}

/// Does the job once. Opening and tearing down are not counted.
pub(crate) fn run<T: Transport>(runtime: &Runtime, job: &Job) -> Sample {
    runtime.block_on(async {
        let (producers, consumers) = T::open(job.shape).await;
        let deliveries = match job.shape {
            Shape::Competing(_) => job.messages,
            Shape::FanOut(consumers) => job.messages * consumers,
        };
        let share = job.messages / producers.len();
        let received: Arc<[Counter]> = consumers.iter().map(|_| Counter::default()).collect();

        let stopwatch = Stopwatch::start();
        let consuming: Vec<JoinHandle<()>> = consumers
            .into_iter()
            .enumerate()
            .map(|(n, consumer)| tokio::spawn(consume(consumer, job.batched, Arc::clone(&received), n)))
            .collect();
        let producing: Vec<_> = producers
            .into_iter()
            .map(|producer| tokio::spawn(produce(producer, job.batched, job.payload.clone(), share)))
            .collect();
        wait_for(&received, deliveries);
        let sample = stopwatch.stop(deliveries);

        for task in consuming {
            task.abort();
            let _ = task.await;
        }
        for task in producing {
            let _ = task.await;
        }
        sample
    })
}

/// A counter of one task alone. It fills a cache line, so that counting costs the others nothing.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

async fn produce<P: Producer>(mut producer: P, batched: bool, payload: Bytes, messages: usize) -> P {
    if batched {
        for _ in 0..messages / BATCH {
            producer.send_batch(&payload).await;
        }
    } else {
        for _ in 0..messages {
            producer.send(&payload).await;
        }
    }
    producer
}

async fn consume<C: Consumer>(mut consumer: C, batched: bool, received: Arc<[Counter]>, n: usize) {
    let mut count = 0;
    loop {
        count += if batched {
            consumer.receive_batch().await
        } else {
            consumer.receive().await;
            1
        };
        received[n].0.store(count, Ordering::Release);
    }
}

/// Looks at the counters now and then from a thread of its own: competing consumers cannot know which message is the last one, and a counter shared
/// by them would be what is measured.
#[expect(
    clippy::disallowed_methods,
    reason = "blocks the main thread, on which no task runs, by the machine's own time"
)]
fn wait_for(received: &[Counter], deliveries: usize) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while received.iter().map(|counter| counter.0.load(Ordering::Acquire)).sum::<usize>() < deliveries {
        assert!(Instant::now() < give_up, "a run takes a second: a task must have failed");
        std::thread::sleep(Duration::from_micros(300));
    }
}
