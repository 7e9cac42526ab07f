use crate::adapter::MemoryAdapter;
use crate::broker::Broker;
use crate::config::Config;
use crate::entries::{Content, Record};
use anybroker_contract::{Adapter, Bytes, Clock, Message, Result};
use std::fmt;
use std::sync::Arc;

/// A memory broker in the hand of a test: gives adapters, and fails as brokers do. Clones are the same broker.
///
/// This is also what [`Adapter::native`] gives.
#[derive(Clone)]
pub struct MemoryBroker(pub(crate) Arc<Broker>);

impl MemoryBroker {
    /// A private broker in that time.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_config(Config::default(), clock)
    }

    /// A private broker of that configuration, in that time.
    #[must_use]
    pub fn with_config(config: Config, clock: Arc<dyn Clock>) -> Self {
        Self(Broker::new(String::new(), config, clock))
    }

    /// One more connection to the broker.
    ///
    /// An adapter that is dropped without close is a client that has crashed: its handles die, and what it has not settled comes again.
    #[must_use]
    pub fn adapter(&self) -> Arc<dyn Adapter> {
        Arc::new(MemoryAdapter::new(self.clone()))
    }

    /// One more connection, and what kills its client: its handles die without a word to the broker, and the adapter is closed for good.
    pub fn mortal_adapter(&self) -> (Arc<dyn Adapter>, impl FnOnce() + Send + use<>) {
        let adapter = Arc::new(MemoryAdapter::new(self.clone()));
        let doomed = Arc::clone(&adapter);
        (adapter, move || doomed.end())
    }

    /// Cuts all connections. Handles die as disconnected, unsettled deliveries come again in their old places, ephemeral subscriptions and return
    /// addresses are gone. The next call to an adapter connects anew.
    pub fn disconnect(&self) {
        self.0.cut(None);
    }

    /// As a restart of a broker that stores messages: connections are cut, contents kept.
    pub fn restart(&self) {
        self.disconnect();
    }

    /// Takes nothing from now on: senders are told the reason, and wait.
    pub fn block(&self, reason: impl Into<String>) {
        self.0.gate.set_blocked(Some(reason.into()));
    }

    /// Takes messages again.
    pub fn unblock(&self) {
        self.0.gate.set_blocked(None);
    }

    /// Whether `declare`, `open_*` and `health` are refused as unavailable. Open handles go on.
    pub fn refuse_connections(&self, refuse: bool) {
        self.0.refuse(refuse);
    }

    /// Loses the answers to the next `batches` batches: each is stored, then all connections are cut and its outcome is unknown.
    pub fn lose_next_confirms(&self, batches: usize) {
        self.0.gate.lose(batches);
    }

    /// Puts a message into the channel of that native name as a foreign client would: as it is, whatever the bound.
    ///
    /// # Errors
    /// [`anybroker_contract::ErrorKind::NotFound`] when there is no such channel.
    pub fn publish(&self, channel: &str, message: Message) -> Result<()> {
        self.0
            .channel_named(channel)?
            .push(Content { size: message.size(), record: Record::Message(message) });
        Ok(())
    }

    /// Puts bytes into the channel of that native name that are no message.
    ///
    /// # Errors
    /// [`anybroker_contract::ErrorKind::NotFound`] when there is no such channel.
    pub fn publish_undecodable(&self, channel: &str, raw: impl Into<Bytes>) -> Result<()> {
        let raw = raw.into();
        self.0.channel_named(channel)?.push(Content { size: raw.len(), record: Record::Raw(raw) });
        Ok(())
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("name", &self.0.name).finish_non_exhaustive()
    }
}
