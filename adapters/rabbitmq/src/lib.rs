//! The RabbitMQ adapter of Anybroker, over AMQP 0-9-1.

mod adapter;
mod balance;
mod config;
mod declare;
mod error;
mod ledger;
mod link;
mod names;
mod receiver;
mod sender;
mod server;
mod shard;
mod wire;

pub use lapin;
pub use wire::NativeHeaders;

use anybroker_contract::{Adapter, Connection, Result};
use link::{Links, Purpose};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

const NAME: &str = "rabbitmq";

/// Makes an adapter for the broker that the URL names.
///
/// # Errors
/// [`anybroker_contract::ErrorKind::Config`] for what the URL, the credentials, TLS or the settings get wrong.
pub fn open(connection: &Connection) -> Result<Arc<dyn Adapter>> {
    Ok(Arc::new(adapter::RabbitAdapter::new(connection)?))
}

/// Lapin's own connection, for what the contract does not cover. Outside of semantic versioning.
#[derive(Clone)]
pub struct Native(Arc<Links>);

impl Native {
    /// A new channel on the connection that the adapter's receivers use, opened until the deadline.
    ///
    /// # Errors
    /// What connecting gives.
    pub async fn channel(&self, deadline: Instant) -> Result<lapin::Channel> {
        self.0.get(Purpose::Receive, deadline).await?.channel(deadline).await
    }
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Native")
    }
}
