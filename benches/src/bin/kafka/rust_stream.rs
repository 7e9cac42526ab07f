//! The publishers and subscribers of ruststream-rdkafka, without the application around them, which would add a codec and a dispatch loop.

use crate::{Job, MESSAGES, TASKS};
use anybroker_benches::{Sample, Stopwatch};
use futures_util::StreamExt;
use ruststream::{
    BatchSubscriber, Broker, ConnectedBroker, IncomingMessage, OutgoingMessage, Publisher, Subscriber,
    nonzero,
};
use ruststream_rdkafka::{
    Commit, ConnectedKafkaBroker, KafkaBroker, KafkaPublish, KafkaSubscriber, KafkaTopic, StartOffset,
};
use std::pin::pin;

/// Tasks that each publish one message at a time.
pub(crate) async fn send(job: Job) -> Sample {
    let broker = connect(&job).await;
    let publisher = broker.publisher(KafkaPublish::default());

    let stopwatch = Stopwatch::start();
    let tasks = (0..TASKS).map(|_| {
        let (publisher, job) = (publisher.clone(), job.clone());
        tokio::spawn(async move {
            for _ in 0..MESSAGES / TASKS {
                publisher.publish(OutgoingMessage::new(&job.topic, &job.payload), None).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    drop(publisher);
    broker.shutdown().await.unwrap();
    sample
}

pub(crate) async fn receive_batches(job: Job) -> Sample {
    let (broker, mut subscriber) = consume(&job).await;

    let (mut received, mut stopwatch) = (0, None);
    {
        let mut batches = pin!(subscriber.batches(nonzero!(64)));
        while received < MESSAGES {
            let batch = batches.next().await.unwrap().unwrap();
            stopwatch.get_or_insert_with(Stopwatch::start);
            for message in batch {
                message.ack().await.unwrap();
                received += 1;
            }
        }
    }
    let sample = stopwatch.unwrap().stop(MESSAGES);
    drop(subscriber);
    broker.shutdown().await.unwrap();
    sample
}

pub(crate) async fn receive(job: Job) -> Sample {
    let (broker, mut subscriber) = consume(&job).await;

    let mut stopwatch = None;
    {
        let mut messages = pin!(subscriber.stream());
        for _ in 0..MESSAGES {
            let message = messages.next().await.unwrap().unwrap();
            stopwatch.get_or_insert_with(Stopwatch::start);
            message.ack().await.unwrap();
        }
    }
    let sample = stopwatch.unwrap().stop(MESSAGES);
    drop(subscriber);
    broker.shutdown().await.unwrap();
    sample
}

async fn connect(job: &Job) -> ConnectedKafkaBroker {
    KafkaBroker::new([&*job.servers])
        .producer_config("enable.idempotence", "true")
        .producer_config("queue.buffering.max.messages", "0")
        .producer_config("linger.ms", "0")
        .connect()
        .await
        .unwrap()
}

async fn consume(job: &Job) -> (ConnectedKafkaBroker, KafkaSubscriber) {
    let broker = connect(job).await;
    let topic = KafkaTopic::new(&*job.topic)
        .group(&*job.topic)
        .start(StartOffset::Earliest)
        .commit(Commit::Tracked)
        .config("fetch.wait.max.ms", "100")
        .config("fetch.queue.backoff.ms", "10")
        .config("queued.min.messages", "10000")
        .config("queued.max.messages.kbytes", "16384");
    let subscriber = broker.subscribe_with(topic).await.unwrap();
    (broker, subscriber)
}
