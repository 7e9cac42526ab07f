//! The publishers and subscribers of ruststream-lapin, without the application around them, which would add a codec and a dispatch loop.

use crate::{BATCH, Job, MESSAGES, WINDOW};
use anybroker_benches::{Sample, Stopwatch};
use bytes::Bytes;
use futures_util::StreamExt;
use ruststream::{
    BatchSubscriber, Broker, BytesMut, ConnectedBroker, IncomingMessage, OutgoingMessage, OwnedTransactions,
    Publisher, Subscriber, Transaction, nonzero,
};
use ruststream_lapin::{
    ConfirmsPublisher, ConnectedLapinBroker, LapinBroker, LapinPublish, LapinSubscriber, RabbitQuorumQueue,
};
use std::pin::pin;

/// Four transactions of 64 messages at a time: publishes in order, then awaits all confirms.
pub(crate) async fn send_batches(job: Job) -> Sample {
    let (broker, publisher) = produce(&job).await;

    let stopwatch = Stopwatch::start();
    let tasks = (0..WINDOW / BATCH).map(|_| {
        let share = MESSAGES / BATCH / (WINDOW / BATCH);
        tokio::spawn(send_some_batches(publisher.clone(), job.queue.clone(), job.payload.clone(), share))
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    broker.shutdown().await.unwrap();
    sample
}

async fn send_some_batches(publisher: ConfirmsPublisher, queue: String, payload: Bytes, batches: usize) {
    for _ in 0..batches {
        let mut transaction = publisher.transaction().await.unwrap();
        for _ in 0..BATCH {
            let message = OutgoingMessage::produced(&queue, BytesMut::from(&payload[..]));
            transaction.publish(message, None).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }
}

/// 64 tasks, each of which publishes one message at a time.
pub(crate) async fn send(job: Job) -> Sample {
    let (broker, publisher) = produce(&job).await;

    let stopwatch = Stopwatch::start();
    let tasks = (0..BATCH).map(|_| {
        let share = MESSAGES / BATCH;
        tokio::spawn(send_some(publisher.clone(), job.queue.clone(), job.payload.clone(), share))
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    broker.shutdown().await.unwrap();
    sample
}

async fn send_some(publisher: ConfirmsPublisher, queue: String, payload: Bytes, messages: usize) {
    for _ in 0..messages {
        publisher.publish(OutgoingMessage::new(&queue, &payload), None).await.unwrap();
    }
}

async fn produce(job: &Job) -> (ConnectedLapinBroker, ConfirmsPublisher) {
    let broker = LapinBroker::new(&*job.url).connect().await.unwrap();
    // Persistent unless told otherwise; each publish ends with its confirm.
    let publisher = broker.publisher(LapinPublish::default().confirms());
    (broker, publisher)
}

/// Batches are collected by the client; each message is acknowledged by itself.
pub(crate) async fn receive_batches(job: Job) -> Sample {
    let (broker, mut subscriber) = consume(&job).await;

    let stopwatch = Stopwatch::start();
    let mut received = 0;
    {
        let mut batches = pin!(subscriber.batches(nonzero!(64)));
        while received < MESSAGES {
            for message in batches.next().await.unwrap().unwrap() {
                message.ack().await.unwrap();
                received += 1;
            }
        }
    }
    let sample = stopwatch.stop(MESSAGES);
    drop(subscriber);
    broker.shutdown().await.unwrap();
    sample
}

pub(crate) async fn receive(job: Job) -> Sample {
    let (broker, mut subscriber) = consume(&job).await;

    let stopwatch = Stopwatch::start();
    {
        let mut messages = pin!(subscriber.stream());
        for _ in 0..MESSAGES {
            let message = messages.next().await.unwrap().unwrap();
            message.ack().await.unwrap();
        }
    }
    let sample = stopwatch.stop(MESSAGES);
    drop(subscriber);
    broker.shutdown().await.unwrap();
    sample
}

async fn consume(job: &Job) -> (ConnectedLapinBroker, LapinSubscriber) {
    let broker = LapinBroker::new(&*job.url).prefetch(nonzero!(256)).connect().await.unwrap();
    let subscriber = broker.subscribe(RabbitQuorumQueue::new(job.queue.clone())).await.unwrap();
    (broker, subscriber)
}
