//! The RabbitMQ backend of omniqueue, which brings lapin 2 with it. It knows no confirms: a send has ended once its bytes are written.

use crate::server::{connect, count};
use crate::{BATCH, Job, MESSAGES, WINDOW};
use anybroker_benches::{Sample, Stopwatch};
use bytes::Bytes;
use omniqueue::backends::rabbitmq::{
    BasicConsumeOptions, BasicProperties, BasicPublishOptions, ConnectionProperties, FieldTable,
    RabbitMqConsumer, RabbitMqProducer,
};
use omniqueue::backends::{RabbitMqBackend, RabbitMqConfig};
use std::sync::Arc;
use std::time::Duration;

/// 64 tasks share the producer. Ends when the queue has all messages, which is asked by a connection beside.
pub(crate) async fn send(job: Job) -> Sample {
    let producer = RabbitMqBackend::builder(config(&job)).build_producer().await.unwrap();
    let producer = Arc::new(producer);
    let beside = connect(&job.url).await;
    let looking = beside.create_channel().await.unwrap();

    let stopwatch = Stopwatch::start();
    let tasks = (0..BATCH)
        .map(|_| tokio::spawn(send_some(Arc::clone(&producer), job.payload.clone(), MESSAGES / BATCH)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    while count(&looking, &job.queue).await < MESSAGES {
        pause().await;
    }
    let sample = stopwatch.stop(MESSAGES);
    beside.close(200, "done".into()).await.unwrap();
    sample
}

async fn send_some(producer: Arc<RabbitMqProducer>, payload: Bytes, messages: usize) {
    for _ in 0..messages {
        producer.send_raw(&payload).await.unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark runs in the machine's own time")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Takes what is there, up to 64; each message is acknowledged by itself.
pub(crate) async fn receive_batches(job: Job) -> Sample {
    let mut consumer = consume(&job).await;

    let stopwatch = Stopwatch::start();
    let mut received = 0;
    while received < MESSAGES {
        let deliveries = consumer.receive_all(BATCH, Duration::from_secs(30)).await.unwrap();
        received += deliveries.len();
        for delivery in deliveries {
            delivery.ack().await.unwrap();
        }
    }
    stopwatch.stop(MESSAGES)
}

pub(crate) async fn receive(job: Job) -> Sample {
    let mut consumer = consume(&job).await;

    let stopwatch = Stopwatch::start();
    for _ in 0..MESSAGES {
        let delivery = consumer.receive().await.unwrap();
        delivery.ack().await.unwrap();
    }
    stopwatch.stop(MESSAGES)
}

async fn consume(job: &Job) -> RabbitMqConsumer {
    RabbitMqBackend::builder(config(job)).build_consumer().await.unwrap()
}

fn config(job: &Job) -> RabbitMqConfig {
    RabbitMqConfig {
        uri: job.url.to_string(),
        connection_properties: ConnectionProperties::default(),
        publish_exchange: String::new(),
        publish_routing_key: job.queue.clone(),
        publish_options: BasicPublishOptions::default(),
        publish_properties: BasicProperties::default().with_delivery_mode(2),
        consume_queue: job.queue.clone(),
        consumer_tag: String::new(),
        consume_options: BasicConsumeOptions::default(),
        consume_arguments: FieldTable::default(),
        consume_prefetch_count: Some(WINDOW as u16),
        requeue_on_nack: true,
    }
}
