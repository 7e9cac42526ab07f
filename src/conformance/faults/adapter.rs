use super::receiver::FaultyReceiver;
use super::sender::FaultySender;
use super::{Connected, Faults, disconnected};
use crate::adapter::{
    Adapter, Capabilities, Clock, Declare, Error, ErrorKind, Opened, Receiver, ReceiverOptions, Replies,
    Result, Sender, SenderOptions, Source, Target, Topology, async_trait,
};
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// One connection through the network.
#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn Adapter>,
    faults: Faults,
    line: u64,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Adapter>, faults: Faults, line: u64) -> Self {
        Self { inner, faults, line }
    }

    /// A connection, once the network lets one be made.
    async fn connected(&self) -> Result<Connected> {
        let connected = Connected::new(&self.faults, self.line);
        if !connected.passes().await {
            return Err(disconnected());
        }
        if self.faults.0.borrow().is_down {
            return Err(Error::new(ErrorKind::Unavailable, "the network is down"));
        }
        Ok(connected)
    }

    async fn connected_until(&self, deadline: Instant, clock: &Arc<dyn Clock>) -> Result<Connected> {
        tokio::select! {
            biased;
            connected = self.connected() => connected,
            () = clock.sleep_until(deadline) => Err(Error::new(ErrorKind::Timeout, "the broker did not answer in time")),
        }
    }
}

#[async_trait]
impl Adapter for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.faults.narrowed(self.inner.capabilities())
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        self.connected().await?;
        self.inner.declare(topology, mode).await
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        self.connected().await?;
        self.inner.delete(topology).await
    }

    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        let connected = self.connected_until(options.deadline, &options.clock).await?;
        let opened = self.inner.open_sender(to, options).await?;
        let capabilities = self.faults.narrowed(opened.capabilities);
        let sender = FaultySender::new(opened.handle, connected);
        Ok(Opened::new(Box::new(sender), capabilities))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let connected = self.connected_until(options.deadline, &options.clock).await?;
        let opened = self.inner.open_receiver(from, options).await?;
        let capabilities = self.faults.narrowed(opened.capabilities);
        let receiver = FaultyReceiver::new(opened.handle, connected, options);
        Ok(Opened::new(Arc::new(receiver), capabilities))
    }

    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies> {
        let connected = self.connected_until(options.deadline, &options.clock).await?;
        let replies = self.inner.open_replies(options).await?;
        let receiver = FaultyReceiver::new(replies.receiver, connected, options);
        Ok(Replies::new(replies.address, Arc::new(receiver)))
    }

    async fn health(&self) -> Result<()> {
        self.connected().await?;
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn native(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.inner.native()
    }
}
