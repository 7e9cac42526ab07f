//! An adapter around another: it hesitates, says "later", refuses parts of batches, and watches how it is used.

use crate::history::History;
use crate::plan::{Plan, Shaky};
use crate::receiver::ShakyReceiver;
use crate::rng::Rng;
use crate::rules::Pending;
use crate::sender::ShakySender;
use crate::wait::turns;
use anybroker::Result;
use anybroker::adapter::{
    Adapter, Capabilities, Declare, InFlightPerKey, Opened, Receiver, ReceiverOptions, Replies, Sender,
    SenderOptions, Source, Target, Topology, async_trait,
};
use std::any::Any;
use std::sync::{Arc, Mutex};

/// The largest batch where batches are small.
pub(crate) const SMALL_BATCH: usize = 10;

#[derive(Debug)]
pub(crate) struct ShakyAdapter {
    inner: Arc<dyn Adapter>,
    context: Context,
    rng: Mutex<Rng>,
}

/// What an adapter and its handles share.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) plan: Plan,
    pub(crate) shaky: Shaky,
    pub(crate) history: History,
}

impl Context {
    pub(crate) fn pending(&self, what: &'static str) -> Pending {
        Pending::new(self.history.clone(), what)
    }

    pub(crate) fn broken(&self, rule: &str) {
        crate::rules::broken(&self.history, rule);
    }
}

impl ShakyAdapter {
    pub(crate) fn new(inner: Arc<dyn Adapter>, context: Context, rng: Rng) -> Self {
        Self { inner, context, rng: Mutex::new(rng) }
    }

    fn limit(&self, mut capabilities: Capabilities) -> Capabilities {
        if self.context.shaky.one_per_key {
            capabilities.in_flight_per_key = InFlightPerKey::One;
            capabilities.max_batch_messages = Some(SMALL_BATCH);
        }
        capabilities
    }

    fn fork(&self) -> Rng {
        self.rng.lock().unwrap().fork()
    }
}

#[async_trait]
impl Adapter for ShakyAdapter {
    fn name(&self) -> &'static str {
        "shaky"
    }

    fn capabilities(&self) -> Capabilities {
        self.limit(self.inner.capabilities())
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        let pending = self.context.pending("declare");
        let declared = self.inner.declare(topology, mode).await;
        pending.ended();
        declared
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        self.inner.delete(topology).await
    }

    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        let pending = self.context.pending("open_sender");
        let mut rng = self.fork();
        turns(rng.below(4)).await;
        let opened = self.inner.open_sender(to, options).await;
        pending.ended();
        let Opened { handle, capabilities, .. } = opened?;
        let sender = ShakySender::new(handle, self.context.clone(), rng);
        Ok(Opened::new(Box::new(sender), self.limit(capabilities)))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let pending = self.context.pending("open_receiver");
        let mut rng = self.fork();
        turns(rng.below(4)).await;
        let opened = self.inner.open_receiver(from, options).await;
        pending.ended();
        let Opened { handle, capabilities, .. } = opened?;
        let receiver = ShakyReceiver::new(handle, self.context.clone(), rng);
        Ok(Opened::new(Arc::new(receiver), self.limit(capabilities)))
    }

    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies> {
        self.inner.open_replies(options).await
    }

    async fn health(&self) -> Result<()> {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        let pending = self.context.pending("the close of an adapter");
        let closed = self.inner.close().await;
        pending.ended();
        closed
    }

    fn native(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.inner.native()
    }
}
