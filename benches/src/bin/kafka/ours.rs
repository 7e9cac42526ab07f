//! Anybroker through its public API.

use crate::{BATCH, BATCHES, Job, MESSAGES, TASKS};
use anybroker::channel::ChannelKind;
use anybroker::{Broker, Channel, Consumer, Message, Producer};
use anybroker_benches::{Sample, Stopwatch};
use bytes::Bytes;

/// Makes the topic that all use.
pub(crate) async fn declare(job: &Job) {
    let broker = open(job).await;
    broker.producer(&channel(job)).await.unwrap();
    broker.close().await.unwrap();
}

/// Deletes what was made.
pub(crate) async fn delete(job: &Job) {
    let broker = open(job).await;
    let channel = channel(job);
    broker.delete(channel.dead_letters()).await.unwrap();
    broker.delete(&channel).await.unwrap();
    broker.close().await.unwrap();
}

fn channel(job: &Job) -> Channel {
    Channel::named(ChannelKind::PointToPoint, &*job.topic).durable()
}

async fn open(job: &Job) -> Broker {
    Broker::connect(&format!("kafka://{}", job.servers)).await.unwrap()
}

pub(crate) async fn send_batches(job: Job) -> Sample {
    let (broker, producer) = produce(&job).await;

    let stopwatch = Stopwatch::start();
    let tasks = (0..BATCHES).map(|_| {
        let share = MESSAGES / BATCH / BATCHES;
        tokio::spawn(send_some_batches(producer.clone(), job.payload.clone(), share))
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    broker.close().await.unwrap();
    sample
}

async fn send_some_batches(producer: Producer, payload: Bytes, batches: usize) {
    for _ in 0..batches {
        let batch = (0..BATCH).map(|_| Message::new(payload.clone()));
        for result in producer.send_all(batch).await {
            result.unwrap();
        }
    }
}

/// Tasks that each send one message at a time.
pub(crate) async fn send(job: Job) -> Sample {
    let (broker, producer) = produce(&job).await;

    let stopwatch = Stopwatch::start();
    let tasks = (0..TASKS).map(|_| {
        let (producer, payload) = (producer.clone(), job.payload.clone());
        tokio::spawn(async move {
            for _ in 0..MESSAGES / TASKS {
                producer.send(Message::new(payload.clone())).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    broker.close().await.unwrap();
    sample
}

async fn produce(job: &Job) -> (Broker, Producer) {
    let broker = open(job).await;
    let producer = broker.producer(&channel(job)).await.unwrap();
    (broker, producer)
}

pub(crate) async fn receive_batches(job: Job) -> Sample {
    let (broker, mut consumer) = consume(&job).await;

    let (mut received, mut stopwatch) = (0, None);
    while received < MESSAGES {
        let batch = consumer.receive_batch(BATCH).await.unwrap().unwrap();
        stopwatch.get_or_insert_with(Stopwatch::start);
        received += batch.len();
        drop(batch.ack());
    }
    let sample = stopwatch.unwrap().stop(MESSAGES);
    broker.close().await.unwrap();
    sample
}

pub(crate) async fn receive(job: Job) -> Sample {
    let (broker, mut consumer) = consume(&job).await;

    let mut stopwatch = None;
    for _ in 0..MESSAGES {
        let delivery = consumer.receive().await.unwrap().unwrap();
        stopwatch.get_or_insert_with(Stopwatch::start);
        drop(delivery.ack());
    }
    let sample = stopwatch.unwrap().stop(MESSAGES);
    broker.close().await.unwrap();
    sample
}

async fn consume(job: &Job) -> (Broker, Consumer) {
    let broker = open(job).await;
    let consumer = broker.consumer(&channel(job)).prefetch(1024).await.unwrap();
    (broker, consumer)
}
