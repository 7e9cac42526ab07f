//! The real servers, both versions.

use anybroker::Broker;
use std::future::Future;
use std::time::{Duration, Instant};

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// What `scripts/brokers` calls it.
    pub(crate) name: &'static str,
    pub(crate) url: String,
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on both versions, one after the other.
pub(crate) fn both<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (name, variable) in [("rabbitmq", "ANYBROKER_RABBITMQ_URL"), ("rabbitmq4", "ANYBROKER_RABBITMQ4_URL")]
    {
        let url = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} is not set: run `scripts/test`, or `scripts/brokers up` and `eval \"$(scripts/brokers env)\"` before")
        });
        runtime.block_on(test(Server { name, url }));
    }
}

impl Server {
    /// A broker with connections of its own.
    pub(crate) async fn open(&self) -> Broker {
        Broker::connect(&self.url).await.unwrap()
    }

    /// A name that no other run has used.
    pub(crate) fn unique(&self, what: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        format!("{what}-{:x}", now.as_nanos())
    }

    /// Waits until the condition holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "{}: waited in vain for {what}", self.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
