//! Rdkafka used directly: at its best, with one completion for a batch and a consumer polled on a thread; and as people use it, with its futures.
//! Settings that decide speed are the adapter's.

use crate::{BATCH, BATCHES, Job, MESSAGES, TASKS};
use anybroker_benches::{Sample, Stopwatch};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, FutureProducer, FutureRecord, Producer, ProducerContext, ThreadedProducer,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a message has beside its payload.
#[derive(Clone, Copy)]
pub(crate) enum Fields {
    None,
    /// What Anybroker gives to every message, of the same sizes.
    IdAndTime,
}

impl Fields {
    fn headers(self) -> Option<OwnedHeaders> {
        match self {
            Self::None => None,
            Self::IdAndTime => Some(
                OwnedHeaders::new_with_capacity(1)
                    .insert(Header { key: "ce_id", value: Some("01934f5e-7c3a-7000-8000-0123456789ab") }),
            ),
        }
    }
}

/// A batch that is on its way; when its last message is confirmed, another may go.
struct Batch {
    missing: AtomicUsize,
    permit: std::sync::Mutex<Option<OwnedSemaphorePermit>>,
}

#[derive(Clone)]
struct Completions;

impl ClientContext for Completions {}

impl ProducerContext for Completions {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, report: &DeliveryResult<'_>, batch: Arc<Batch>) {
        report.as_ref().map_err(|(error, _)| error.clone()).unwrap();
        if batch.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            batch.permit.lock().unwrap().take();
        }
    }
}

fn producing(job: &Job) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &*job.servers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "262144")
        .set("linger.ms", "0");
    config
}

pub(crate) async fn send_batches(job: Job, fields: Fields) -> Sample {
    let config = producing(&job);
    let producer: ThreadedProducer<Completions> =
        ThreadedProducer::from_config_and_context(&config, Completions).unwrap();
    let window = Arc::new(Semaphore::new(BATCHES));

    let stopwatch = Stopwatch::start();
    for _ in 0..MESSAGES / BATCH {
        let permit = Arc::clone(&window).acquire_owned().await.unwrap();
        let batch =
            Arc::new(Batch { missing: AtomicUsize::new(BATCH), permit: std::sync::Mutex::new(Some(permit)) });
        for _ in 0..BATCH {
            let mut record = BaseRecord::<(), [u8], _>::with_opaque_to(&job.topic, Arc::clone(&batch))
                .payload(&job.payload);
            record.headers = fields.headers();
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    drop(window.acquire_many(u32::try_from(BATCHES).unwrap()).await.unwrap());
    let sample = stopwatch.stop(MESSAGES);
    producer.flush(Duration::from_secs(10)).unwrap();
    sample
}

/// Tasks that each await the delivery of their message before they send another.
pub(crate) async fn send(job: Job, fields: Fields) -> Sample {
    let producer: FutureProducer = producing(&job).create().unwrap();

    let stopwatch = Stopwatch::start();
    let tasks = (0..TASKS).map(|_| {
        let (producer, job) = (producer.clone(), job.clone());
        tokio::spawn(async move {
            for _ in 0..MESSAGES / TASKS {
                let mut record = FutureRecord::<(), [u8]>::to(&job.topic).payload(&job.payload);
                record.headers = fields.headers();
                producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error).unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    stopwatch.stop(MESSAGES)
}

/// Positions are stored for each message, and committed every second.
fn consuming(job: &Job) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &*job.servers)
        .set("group.id", &job.topic)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "16384");
    config
}

pub(crate) async fn receive_on_a_thread(job: Job) -> Sample {
    let consumer: BaseConsumer = consuming(&job).create().unwrap();
    consumer.subscribe(&[&job.topic]).unwrap();
    let polling = tokio::task::spawn_blocking(move || {
        let mut stopwatch = None;
        for _ in 0..MESSAGES {
            let message = loop {
                if let Some(received) = consumer.poll(Duration::from_millis(100)) {
                    break received.unwrap();
                }
            };
            stopwatch.get_or_insert_with(Stopwatch::start);
            consumer.store_offset_from_message(&message).unwrap();
        }
        stopwatch.unwrap().stop(MESSAGES)
    });
    polling.await.unwrap()
}

pub(crate) async fn receive(job: Job) -> Sample {
    let consumer: StreamConsumer = consuming(&job).create().unwrap();
    consumer.subscribe(&[&job.topic]).unwrap();
    let mut stopwatch = None;
    for _ in 0..MESSAGES {
        let message = consumer.recv().await.unwrap();
        stopwatch.get_or_insert_with(Stopwatch::start);
        consumer.store_offset_from_message(&message).unwrap();
    }
    stopwatch.unwrap().stop(MESSAGES)
}
