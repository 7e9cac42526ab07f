//! Sends to a topic of Kafka, or receives from it, through sea-streamer: one run, which benches/src/bin/kafka measures beside its others.
//!
//! ```text
//! sea_streamer send|receive SERVERS TOPIC MESSAGES SIZE TASKS
//! ```
//!
//! It prints the nanoseconds that passed, and those of processor time of all threads.

use cpu_time::ProcessTime;
use sea_streamer_kafka::{
    AutoOffsetReset, KafkaConnectOptions, KafkaConsumerOptions, KafkaProducerOptions, KafkaStreamer,
};
use sea_streamer_types::{
    Consumer, ConsumerGroup, ConsumerMode, ConsumerOptions, Producer, StreamKey, Streamer, StreamerUri,
};
use std::error::Error;
use std::time::Instant;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

struct Job {
    servers: StreamerUri,
    topic: StreamKey,
    messages: usize,
    size: usize,
    tasks: usize,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Done<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, servers, topic, messages, size, tasks] = arguments.as_slice() else {
        return Err("usage: sea_streamer send|receive SERVERS TOPIC MESSAGES SIZE TASKS".into());
    };
    let job = Job {
        servers: format!("kafka://{servers}").parse()?,
        topic: StreamKey::new(topic)?,
        messages: messages.parse()?,
        size: size.parse()?,
        tasks: tasks.parse()?,
    };
    match what.as_str() {
        "send" => send(job).await,
        "receive" => receive(job).await,
        _ => Err("send or receive?".into()),
    }
}

/// Tasks that each await the receipt of their message before they send another.
async fn send(job: Job) -> Done<()> {
    let streamer = KafkaStreamer::connect(job.servers, KafkaConnectOptions::default()).await?;
    let mut options = KafkaProducerOptions::default();
    for (name, value) in [("enable.idempotence", "true"), ("acks", "all"), ("linger.ms", "0")] {
        options.add_custom_option(name, value);
    }
    let producer = streamer.create_producer(job.topic, options).await?;

    let stopwatch = Stopwatch::start();
    let tasks = (0..job.tasks).map(|_| {
        let (producer, payload) = (producer.clone(), vec![7; job.size]);
        tokio::spawn(async move {
            for _ in 0..job.messages / job.tasks {
                producer.send(payload.as_slice())?.await?;
            }
            Done::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    stopwatch.stop();
    producer.end().await?;
    Ok(())
}

/// Measured from the first message on; each position is stored, and committed every second.
async fn receive(job: Job) -> Done<()> {
    let streamer = KafkaStreamer::connect(job.servers, KafkaConnectOptions::default()).await?;
    let mut options = KafkaConsumerOptions::new(ConsumerMode::LoadBalanced);
    options.set_consumer_group(ConsumerGroup::new(job.topic.name()))?;
    options.set_auto_offset_reset(AutoOffsetReset::Earliest).set_enable_auto_commit(true);
    options.set_auto_commit_interval(std::time::Duration::from_secs(1)).set_enable_auto_offset_store(false);
    let mut consumer = streamer.create_consumer(&[job.topic], options).await?;

    let mut stopwatch = None;
    for _ in 0..job.messages {
        let (stream, shard, sequence) = {
            let message = consumer.next().await?;
            use sea_streamer_types::Message as _;
            (message.stream_key(), message.shard_id(), message.sequence())
        };
        stopwatch.get_or_insert_with(Stopwatch::start);
        consumer.store_offset(&stream, &shard, &sequence)?;
    }
    if let Some(stopwatch) = stopwatch {
        stopwatch.stop();
    }
    Ok(())
}

struct Stopwatch {
    started: Instant,
    cpu: ProcessTime,
}

impl Stopwatch {
    fn start() -> Self {
        Self { started: Instant::now(), cpu: ProcessTime::now() }
    }

    fn stop(self) {
        println!("{} {}", self.started.elapsed().as_nanos(), self.cpu.elapsed().as_nanos());
    }
}
