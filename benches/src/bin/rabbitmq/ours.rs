//! Anybroker through its public API.

use crate::{BATCH, Job, MESSAGES, WINDOW};
use anybroker::channel::ChannelKind;
use anybroker::{Broker, Channel, Consumer, Message, Producer};
use anybroker_benches::{Sample, Stopwatch};
use bytes::Bytes;

/// Makes the durable quorum queue that all use, and what belongs to it.
pub(crate) async fn declare(url: &str, queue: &str) {
    let broker = Broker::connect(url).await.unwrap();
    broker.producer(&channel(queue)).await.unwrap();
    broker.close().await.unwrap();
}

fn channel(queue: &str) -> Channel {
    Channel::named(ChannelKind::PointToPoint, queue).durable()
}

/// Four batches of 64 at a time.
pub(crate) async fn send_batches(job: Job) -> Sample {
    let (broker, producer) = produce(&job).await;

    let stopwatch = Stopwatch::start();
    let tasks = (0..WINDOW / BATCH).map(|_| {
        let share = MESSAGES / BATCH / (WINDOW / BATCH);
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

/// 64 tasks, each of which sends one message at a time.
pub(crate) async fn send(job: Job) -> Sample {
    let (broker, producer) = produce(&job).await;

    let stopwatch = Stopwatch::start();
    let tasks =
        (0..BATCH).map(|_| tokio::spawn(send_some(producer.clone(), job.payload.clone(), MESSAGES / BATCH)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    broker.close().await.unwrap();
    sample
}

async fn send_some(producer: Producer, payload: Bytes, messages: usize) {
    for _ in 0..messages {
        producer.send(Message::new(payload.clone())).await.unwrap();
    }
}

async fn produce(job: &Job) -> (Broker, Producer) {
    let broker = Broker::connect(&job.url).await.unwrap();
    let producer = broker.producer(&channel(&job.queue)).await.unwrap();
    (broker, producer)
}

pub(crate) async fn receive_batches(job: Job) -> Sample {
    let (broker, mut consumer) = consume(&job).await;

    let stopwatch = Stopwatch::start();
    let mut received = 0;
    while received < MESSAGES {
        let batch = consumer.receive_batch(BATCH).await.unwrap().unwrap();
        received += batch.len();
        drop(batch.ack());
    }
    end(stopwatch, &broker, &consumer).await
}

pub(crate) async fn receive(job: Job) -> Sample {
    let (broker, mut consumer) = consume(&job).await;

    let stopwatch = Stopwatch::start();
    for _ in 0..MESSAGES {
        let delivery = consumer.receive().await.unwrap().unwrap();
        drop(delivery.ack());
    }
    end(stopwatch, &broker, &consumer).await
}

async fn consume(job: &Job) -> (Broker, Consumer) {
    let broker = Broker::connect(&job.url).await.unwrap();
    let consumer = broker.consumer(&channel(&job.queue)).prefetch(WINDOW).await.unwrap();
    (broker, consumer)
}

/// The broker has every acknowledgement.
async fn end(stopwatch: Stopwatch, broker: &Broker, consumer: &Consumer) -> Sample {
    consumer.flush().await.unwrap();
    let sample = stopwatch.stop(MESSAGES);
    broker.close().await.unwrap();
    sample
}
