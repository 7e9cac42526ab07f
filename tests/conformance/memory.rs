//! The memory adapter, behind a network that fails on command.

use anybroker::adapter::{Adapter, Binding, BoxFuture, Bytes, Connection, Message, Result, SenderOptions, SystemClock};
use anybroker::adapter::{Events, Target, async_trait};
use anybroker::conformance::{Faults, Fixture, Hook};
use std::sync::Arc;
use std::time::Duration;

/// One memory broker of its own, and connections to it.
pub struct Memory {
    broker: String,
    faults: Faults,
}

impl Memory {
    pub fn new(broker: impl Into<String>) -> Self {
        Self { broker: broker.into(), faults: Faults::new() }
    }

    fn open(&self, query: &[(&str, String)]) -> Result<Arc<dyn Adapter>> {
        let mut connection = Connection::new("memory", Arc::new(SystemClock::new()));
        connection.path = self.broker.clone();
        connection.query = query.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        anybroker::memory::open(&connection)
    }
}

#[async_trait]
impl Fixture for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        Ok(self.faults.over(self.open(&[])?))
    }

    fn url(&self) -> Option<String> {
        Some(format!("memory://{}", self.broker))
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Restart, Hook::Cut, Hook::Stall, Hook::Kill, Hook::Lease, Hook::Foreign]
    }

    async fn restart(&self) -> Result<()> {
        self.faults.down();
        self.faults.up();
        Ok(())
    }

    async fn cut(&self) -> Result<()> {
        self.faults.cut();
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
        Ok(self.faults.over_mortal(self.open(&[])?))
    }

    async fn leased(&self, lease: Duration) -> Result<Arc<dyn Adapter>> {
        self.open(&[("lease", format!("{}ms", lease.as_millis()))])
    }

    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        let adapter = self.open(&[])?;
        let clock = Arc::new(SystemClock::new());
        let deadline = anybroker::adapter::Clock::now(&*clock) + Duration::from_secs(10);
        let options = SenderOptions::new(deadline, clock, Events::ignored());
        let mut sender = adapter.open_sender(&Target::Channel(Arc::new(to.clone())), &options).await?.handle;
        sender.send_batch(&[Message::new(payload)]).await?.await.into_results(1).remove(0)?;
        adapter.close().await
    }
}
