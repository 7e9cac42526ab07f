//! The memory adapter, behind a network that fails on command.

use anybroker::adapter::{
    Adapter, Binding, BoxFuture, Bytes, Clock, Message, Result, SystemClock, async_trait,
};
use anybroker::conformance::{Faults, Fixture, Hook};
use anybroker::memory::{Config, MemoryBroker};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The password of the fixture's URL, as it is meant.
pub(crate) const PASSWORD: &str = "conf0rmance/passw0rd";

/// A memory broker of its own, and connections to it.
pub(crate) struct Memory {
    name: &'static str,
    broker: MemoryBroker,
    /// The broker whose deliveries are leased.
    leased: OnceLock<MemoryBroker>,
    faults: Faults,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self::with("memory", Config::default())
    }

    pub(crate) fn with(name: &'static str, mut config: Config) -> Self {
        config.max_message = 1 << 20;
        Self {
            name,
            broker: MemoryBroker::with_config(config, clock()),
            leased: OnceLock::new(),
            faults: Faults::new(),
        }
    }
}

#[async_trait]
impl Fixture for Memory {
    fn name(&self) -> &str {
        self.name
    }

    async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        Ok(self.faults.over(self.broker.adapter()))
    }

    fn url(&self) -> Option<String> {
        Some(format!("memory://suite:{}@suite", PASSWORD.replace('/', "%2F")))
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Restart, Hook::Cut, Hook::Stall, Hook::Kill, Hook::Lease, Hook::Foreign, Hook::Undecodable]
    }

    async fn restart(&self) -> Result<()> {
        self.broker.refuse_connections(true);
        self.broker.restart();
        self.broker.refuse_connections(false);
        Ok(())
    }

    async fn cut(&self) -> Result<()> {
        // The next batch is stored and its answer lost, as when a cut comes between the two; without traffic the cut comes alone.
        self.broker.lose_next_confirms(1);
        let clock = clock();
        clock.sleep_until(clock.now() + Duration::from_millis(5)).await;
        self.broker.lose_next_confirms(0);
        self.broker.disconnect();
        Ok(())
    }

    async fn stall(&self) -> Result<()> {
        self.faults.stall();
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        self.faults.resume();
        Ok(())
    }

    async fn mortal(&self) -> Result<(Arc<dyn Adapter>, BoxFuture<'static, ()>)> {
        Ok(self.faults.over_mortal(self.broker.adapter()))
    }

    async fn leased(&self, lease: Duration) -> Result<Arc<dyn Adapter>> {
        let with_lease = || {
            let mut config = Config::default();
            config.lease = Some(lease);
            MemoryBroker::with_config(config, clock())
        };
        Ok(self.leased.get_or_init(with_lease).adapter())
    }

    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        self.broker.publish(to.native_name(), Message::new(payload))
    }

    async fn send_undecodable(&self, to: &Binding) -> Result<Bytes> {
        let raw = Bytes::from_static(b"\xff no message of ours \xfe");
        self.broker.publish_undecodable(to.native_name(), raw.clone())?;
        Ok(raw)
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}
