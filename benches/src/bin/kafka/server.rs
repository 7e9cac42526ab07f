//! The server, and a look at its topics from beside.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::env;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const URL: &str = "ANYBROKER_KAFKA_URL";

/// A running Kafka.
pub(crate) struct Server {
    pub(crate) servers: Arc<str>,
    consumer: BaseConsumer,
    topics: AtomicUsize,
}

impl Server {
    /// The one of which scripts/brokers says where it is.
    pub(crate) fn from_environment() -> Self {
        let Ok(url) = env::var(URL) else {
            panic!(
                "{URL} is not set. Start a server and say where it is:\n    \
                 scripts/brokers up kafka; eval \"$(scripts/brokers env)\""
            );
        };
        let servers = url.trim_start_matches("kafka://");
        let consumer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
        Self { servers: servers.into(), consumer, topics: AtomicUsize::new(0) }
    }

    /// A name that nobody has used.
    pub(crate) fn next_topic(&self) -> String {
        format!("bench-{}-{}", process::id(), self.topics.fetch_add(1, Ordering::Relaxed))
    }

    /// How many messages are there.
    pub(crate) fn count(&self, topic: &str) -> usize {
        const PATIENCE: Duration = Duration::from_secs(10);
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let count = metadata.topics()[0].partitions().iter().map(|partition| {
            let (begin, end) = self.consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
            usize::try_from(end - begin).unwrap()
        });
        count.sum()
    }
}
