//! Lapin used directly, and well: publishes go out in groups, confirms are awaited behind them, and acknowledgements are for many at once.

use crate::server::connect;
use crate::{BATCH, Job, MESSAGES, WINDOW};
use anybroker_benches::{Sample, Stopwatch};
use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, PublisherConfirm};
use std::collections::VecDeque;

/// What a message has beside its payload.
#[derive(Clone, Copy)]
pub(crate) enum Fields {
    None,
    /// What Anybroker gives to every message, of the same sizes.
    IdAndTime,
}

impl Fields {
    fn properties(self) -> BasicProperties {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        match self {
            Self::None => persistent,
            Self::IdAndTime => {
                let mut headers = FieldTable::default();
                let time = AMQPValue::LongString("2026-11-26T00:00:00.000Z".into());
                headers.insert("cloudEvents:time".into(), time);
                persistent
                    .with_message_id("01934f5e-7c3a-7000-8000-0123456789ab".into())
                    .with_timestamp(1_795_651_200)
                    .with_headers(headers)
            }
        }
    }
}

/// Groups of 64, four of them unconfirmed.
pub(crate) async fn send(job: Job, fields: Fields) -> Sample {
    let connection = connect(&job.url).await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();

    let stopwatch = Stopwatch::start();
    let mut unconfirmed = VecDeque::new();
    for _ in 0..MESSAGES / BATCH {
        unconfirmed.push_back(publish(&channel, &job, fields).await);
        if unconfirmed.len() == WINDOW / BATCH {
            confirmed(unconfirmed.pop_front()).await;
        }
    }
    while !unconfirmed.is_empty() {
        confirmed(unconfirmed.pop_front()).await;
    }
    let sample = stopwatch.stop(MESSAGES);
    connection.close(200, "done".into()).await.unwrap();
    sample
}

async fn publish(channel: &Channel, job: &Job, fields: Fields) -> Vec<lapin::Result<PublisherConfirm>> {
    // Mandatory, as a message that no queue takes would otherwise be confirmed like any other.
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let publishing = (0..BATCH).map(|_| {
        channel.basic_publish(
            "".into(),
            job.queue.as_str().into(),
            options,
            &job.payload,
            fields.properties(),
        )
    });
    join_all(publishing).await
}

async fn confirmed(group: Option<Vec<lapin::Result<PublisherConfirm>>>) {
    for confirm in group.into_iter().flatten() {
        assert_eq!(confirm.unwrap().await.unwrap(), Confirmation::Ack(None));
    }
}

/// 64 tasks share the channel; each awaits the confirm of its message before it sends another, so that 64 are unconfirmed at most.
pub(crate) async fn send_each(job: Job, fields: Fields) -> Sample {
    let connection = connect(&job.url).await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();

    let stopwatch = Stopwatch::start();
    let tasks = (0..BATCH).map(|_| tokio::spawn(send_some(channel.clone(), job.clone(), fields)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let sample = stopwatch.stop(MESSAGES);
    connection.close(200, "done".into()).await.unwrap();
    sample
}

async fn send_some(channel: Channel, job: Job, fields: Fields) {
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    for _ in 0..MESSAGES / BATCH {
        let (queue, properties) = (job.queue.as_str().into(), fields.properties());
        let confirm =
            channel.basic_publish("".into(), queue, options, &job.payload, properties).await.unwrap();
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
    }
}

/// Acknowledges the last of every 64 together with those before it.
pub(crate) async fn receive_batches(job: Job) -> Sample {
    let (connection, channel, mut consumer) = consume(&job).await;
    let multiple = BasicAckOptions { multiple: true };

    let stopwatch = Stopwatch::start();
    for _ in 0..MESSAGES / BATCH {
        let mut last = 0;
        for _ in 0..BATCH {
            last = consumer.next().await.unwrap().unwrap().delivery_tag;
        }
        channel.basic_ack(last, multiple).await.unwrap();
    }
    end(stopwatch, &connection, &channel).await
}

pub(crate) async fn receive(job: Job) -> Sample {
    let (connection, channel, mut consumer) = consume(&job).await;

    let stopwatch = Stopwatch::start();
    for _ in 0..MESSAGES {
        let delivery = consumer.next().await.unwrap().unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    end(stopwatch, &connection, &channel).await
}

async fn consume(job: &Job) -> (Connection, Channel, Consumer) {
    let connection = connect(&job.url).await;
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(WINDOW as u16, BasicQosOptions::default()).await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer =
        channel.basic_consume(job.queue.as_str().into(), "".into(), options, arguments).await.unwrap();
    (connection, channel, consumer)
}

/// The broker works through a channel in order: once it answers, it has every acknowledgement.
async fn end(stopwatch: Stopwatch, connection: &Connection, channel: &Channel) -> Sample {
    channel.basic_qos(WINDOW as u16, BasicQosOptions::default()).await.unwrap();
    let sample = stopwatch.stop(MESSAGES);
    connection.close(200, "done".into()).await.unwrap();
    sample
}
