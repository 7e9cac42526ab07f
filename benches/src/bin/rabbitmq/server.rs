//! The server, its queues, and a look at them from beside.

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use std::env;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const URL: &str = "ANYBROKER_RABBITMQ4_URL";

/// A running RabbitMQ.
pub(crate) struct Server {
    pub(crate) url: Arc<str>,
    channel: Channel,
    queues: AtomicUsize,
}

impl Server {
    /// The one of which scripts/brokers says where it is.
    pub(crate) async fn from_environment() -> Self {
        let Ok(url) = env::var(URL) else {
            panic!(
                "{URL} is not set. Start a server and say where it is:\n    \
                 scripts/brokers up rabbitmq4; eval \"$(scripts/brokers env)\""
            );
        };
        let channel = connect(&url).await.create_channel().await.unwrap();
        Self { url: url.into(), channel, queues: AtomicUsize::new(0) }
    }

    /// A name that nobody has used.
    pub(crate) fn next_queue(&self) -> String {
        format!("bench-{}-{}", process::id(), self.queues.fetch_add(1, Ordering::Relaxed))
    }

    /// How many messages are ready for delivery.
    pub(crate) async fn count(&self, queue: &str) -> usize {
        count(&self.channel, queue).await
    }

    /// Deletes the queue and what an adapter of ours has made beside it.
    pub(crate) async fn delete(&self, queue: &str) {
        for queue in [queue, &format!("{queue}#dead-letters")] {
            self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        }
        self.channel.exchange_delete(queue.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

pub(crate) async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.unwrap()
}

/// How many messages of the queue are ready for delivery.
pub(crate) async fn count(channel: &Channel, queue: &str) -> usize {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
    queue.message_count() as usize
}
