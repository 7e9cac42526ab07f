use crate::adapter::{
    Adapter, Binding, Capabilities, Clock, Declare, Events, Opened, Receiver, ReceiverOptions, Room, Sender,
    SenderOptions, Source, Target, Text, Topology,
};
use crate::clock::later;
use crate::{Error, ErrorKind, Result, effective};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// One channel on one connection, and how its handles are opened: the first time and after every loss.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) binding: Arc<Binding>,
    pub(crate) declare: Declare,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) open_within: Duration,
    pub(crate) instance: Text,
}

impl Link {
    /// Declares what the target needs, opens a sender, and checks what really holds there.
    pub(crate) async fn sender(&self, to: &Target, events: Events) -> Result<Opened<Box<dyn Sender>>> {
        let topology = match to {
            Target::Channel(binding) => Some(Topology::Channel(Arc::clone(binding))),
            Target::DeadLetter(binding, name) => {
                Some(Topology::DeadLetter(Arc::clone(binding), name.clone()))
            }
            _ => None,
        };
        self.prepare(topology).await?;
        let options =
            SenderOptions::new(later(self.clock.now(), self.open_within), Arc::clone(&self.clock), events);
        let opened =
            self.adapter.open_sender(to, &options).await.map_err(|e| self.explain(e, "open sender"))?;
        match to {
            Target::Channel(_) => self.checked(opened, |_| Ok(())),
            _ => Ok(opened),
        }
    }

    /// Declares what the source needs.
    pub(crate) async fn declare_source(&self, from: &Source) -> Result<()> {
        let topology = match from {
            Source::Channel(binding) => Topology::Channel(Arc::clone(binding)),
            Source::Subscription(binding, subscription) => {
                // Before anything is declared: a form that the adapter never has must leave nothing behind.
                let most = self.adapter.capabilities();
                effective::check_subscription(self.adapter.name(), binding, subscription, &most)?;
                Topology::Subscription(Arc::clone(binding), subscription.clone())
            }
            Source::DeadLetter(binding, name) => Topology::DeadLetter(Arc::clone(binding), name.clone()),
            _ => {
                return Err(Error::new(ErrorKind::Unsupported, "this source is not known here"));
            }
        };
        self.prepare(Some(topology)).await
    }

    /// Declares what the source needs, opens a receiver, and checks what really holds there.
    pub(crate) async fn receiver(
        &self,
        from: &Source,
        prefetch: Room,
        events: Events,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        self.declare_source(from).await?;
        let options = ReceiverOptions::new(
            prefetch,
            self.instance.clone(),
            later(self.clock.now(), self.open_within),
            Arc::clone(&self.clock),
            events,
        );
        let opened =
            self.adapter.open_receiver(from, &options).await.map_err(|e| self.explain(e, "open receiver"))?;
        match from {
            Source::Subscription(binding, subscription) => self.checked(opened, |has| {
                effective::check_subscription(self.adapter.name(), binding, subscription, has)
            }),
            Source::Channel(_) => self.checked(opened, |_| Ok(())),
            _ => Ok(opened),
        }
    }

    /// Adds to an error which adapter and channel it is about.
    pub(crate) fn explain(&self, error: Error, operation: &'static str) -> Error {
        error
            .with_operation(operation)
            .with_adapter(self.adapter.name())
            .with_channel(self.binding.channel.name())
    }

    async fn prepare(&self, topology: Option<Topology>) -> Result<()> {
        let most = effective::with_emulation(self.adapter.capabilities());
        effective::check(self.adapter.name(), &self.binding, &most)?;
        match topology {
            Some(topology) if self.declare != Declare::Never => {
                self.adapter.declare(&topology, self.declare).await.map_err(|e| self.explain(e, "declare"))
            }
            _ => Ok(()),
        }
    }

    fn checked<H>(
        &self,
        mut opened: Opened<H>,
        also: impl FnOnce(&Capabilities) -> Result<()>,
    ) -> Result<Opened<H>> {
        opened.capabilities = effective::with_emulation(opened.capabilities);
        effective::check(self.adapter.name(), &self.binding, &opened.capabilities)?;
        also(&opened.capabilities)?;
        Ok(opened)
    }
}

/// Opens a receiver on a task of its own. One that nobody waits for any more is closed: dropped, it would be a crash to the broker.
pub(crate) async fn undropped_receiver(
    opening: impl Future<Output = Result<Opened<Arc<dyn Receiver>>>> + Send + 'static,
) -> Result<Opened<Arc<dyn Receiver>>> {
    let (give, opened) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(Ok(unwanted)) = give.send(opening.await) {
            // Nobody is left to be told.
            let _ = unwanted.handle.close().await;
        }
    });
    opened
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Other, "the adapter has panicked while opening")))
}

/// Runs an adapter's future on a task of its own, so that a caller that goes away never drops it while it is pending.
pub(crate) async fn undropped<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(future).await {
        Ok(result) => result,
        Err(failed) => {
            Err(Error::new(ErrorKind::Other, "the adapter's task ended before its time").with_source(failed))
        }
    }
}
