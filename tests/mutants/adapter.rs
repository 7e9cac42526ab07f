//! An adapter with one fault.

use crate::fault::Fault;
use crate::memory::PASSWORD;
use crate::receiver::{LateReceiver, MutantReceiver};
use crate::sender::MutantSender;
use anybroker::adapter::{
    Adapter, Address, Binding, Capabilities, Capability, Channel, Declare, Error, ErrorKind, Opened,
    Receiver, ReceiverOptions, Replies, Requirements, Result, Sender, SenderOptions, Source, Subscription,
    Target, Text, Topology, async_trait,
};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all connections of one mutant share.
#[derive(Default)]
pub(crate) struct Shared {
    heard: Mutex<HashMap<String, usize>>,
    declared: Mutex<HashSet<String>>,
    deleted: Mutex<HashSet<String>>,
    opened: AtomicUsize,
    latest_address: Mutex<Option<Text>>,
    pub(crate) leaked: Mutex<Vec<Arc<dyn Receiver>>>,
}

impl Shared {
    pub(crate) fn is_heard(&self, channel: &str) -> bool {
        lock(&self.heard).get(channel).is_some_and(|count| *count > 0)
    }

    pub(crate) fn unheard(&self, channel: &str) {
        if let Some(count) = lock(&self.heard).get_mut(channel) {
            *count = count.saturating_sub(1);
        }
    }
}

pub(crate) struct Mutant {
    inner: Arc<dyn Adapter>,
    fault: Fault,
    shared: Arc<Shared>,
    is_closed: AtomicBool,
}

impl std::fmt::Debug for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = if self.fault == Fault::PasswordInDebug { PASSWORD } else { "" };
        write!(f, "Mutant({:?}{secret})", self.inner)
    }
}

impl Mutant {
    pub(crate) fn new(inner: Arc<dyn Adapter>, fault: Fault, shared: Arc<Shared>) -> Self {
        Self { inner, fault, shared, is_closed: AtomicBool::new(false) }
    }

    fn binding(&self, binding: &Arc<Binding>) -> Arc<Binding> {
        let channel = &binding.channel;
        let without = |change: fn(&mut Requirements)| {
            let mut requires = channel.requirements();
            change(&mut requires);
            Arc::new(Binding::new(channel.clone().with_requirements(requires)))
        };
        match self.fault {
            Fault::ShortNames => {
                let name: String = channel.name().trim_start_matches('a').chars().take(21).collect();
                Arc::new(Binding::new(channel.clone()).at(Address::Name(name)))
            }
            Fault::Unordered => without(|requires| requires.order_per_key = false),
            Fault::Unbounded => without(|requires| requires.bounded = None),
            _ => Arc::clone(binding),
        }
    }

    fn target(&self, target: &Target) -> Target {
        match target {
            Target::Channel(binding) => Target::Channel(self.binding(binding)),
            other => other.clone(),
        }
    }

    fn subscription(&self, subscription: &Subscription) -> Subscription {
        let channel: &Channel = subscription.channel();
        match (self.fault, subscription.name()) {
            (Fault::OneSubscription, Some(_)) => channel.subscription("one").from(subscription.start()),
            (Fault::EphemeralLasts, None) => channel.subscription("ephemeral"),
            (Fault::StartsAt(start), Some(_)) => subscription.clone().from(start),
            _ => subscription.clone(),
        }
    }

    fn topology(&self, topology: &Topology) -> Topology {
        match topology {
            Topology::Channel(binding) => Topology::Channel(self.binding(binding)),
            Topology::Subscription(binding, _) if self.fault == Fault::SubscribesLate => {
                Topology::Channel(self.binding(binding))
            }
            Topology::Subscription(binding, subscription) => {
                Topology::Subscription(self.binding(binding), self.subscription(subscription))
            }
            other => other.clone(),
        }
    }

    /// The source to open in place of this one, after what the fault does before.
    async fn source(&self, source: &Source) -> Result<Source> {
        Ok(match source {
            Source::Channel(binding) => Source::Channel(self.binding(binding)),
            Source::Subscription(binding, subscription) => {
                let mut subscription = self.subscription(subscription);
                if let (Fault::PrivateSubscriptions, Some(name)) = (self.fault, subscription.name()) {
                    let number = self.shared.opened.fetch_add(1, Ordering::Relaxed);
                    let name = format!("{name}-{number}");
                    subscription = subscription.channel().subscription(name).from(subscription.start());
                }
                let made = matches!(
                    self.fault,
                    Fault::PrivateSubscriptions | Fault::EphemeralLasts | Fault::NamedVanishes
                );
                let topology = Topology::Subscription(self.binding(binding), subscription.clone());
                if made && subscription.name().is_some() {
                    self.inner.declare(&topology, Declare::IfMissing).await?;
                }
                Source::Subscription(self.binding(binding), subscription)
            }
            other => other.clone(),
        })
    }

    /// The error, with the password in it where the fault says so.
    fn told(&self, error: Error) -> Error {
        match self.fault {
            Fault::PasswordInErrors => {
                Error::new(error.kind(), format!("{error}, by the password {PASSWORD}"))
            }
            _ => error,
        }
    }

    /// Makes what is missing, where the fault says so.
    async fn make(&self, topology: Topology) -> Result<()> {
        match self.fault {
            Fault::OpensMissing => self.inner.declare(&topology, Declare::IfMissing).await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Adapter for Mutant {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = self.inner.capabilities();
        match self.fault {
            Fault::DeclaresInPart => capabilities.without(Capability::PublishSubscribe, "lacks", "none"),
            _ => capabilities,
        }
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        let topology = self.topology(topology);
        let name = format!("{topology:?}");
        match (self.fault, mode) {
            (Fault::DeclareEmpties, Declare::IfMissing) => self.inner.delete(&topology).await?,
            (Fault::DeclareOnce, Declare::IfMissing) if !lock(&self.shared.declared).insert(name) => {
                return Err(Error::new(ErrorKind::Conflict, "it is there"));
            }
            (Fault::VerifyMakes, Declare::Verify) => {
                return self.inner.declare(&topology, Declare::IfMissing).await;
            }
            _ => {}
        }
        match self.inner.declare(&topology, mode).await {
            Err(error) if self.fault == Fault::NeverConflicts && error.kind() == ErrorKind::Conflict => {
                Ok(())
            }
            declared => declared,
        }
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        let topology = self.topology(topology);
        let name = format!("{topology:?}");
        match self.fault {
            Fault::DeleteIsNoOp => Ok(()),
            Fault::DeleteOnce if !lock(&self.shared.deleted).insert(name) => {
                Err(Error::new(ErrorKind::NotFound, "it is not there"))
            }
            _ => self.inner.delete(&topology).await,
        }
    }

    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        let mut target = self.target(to);
        let mut channel = String::new();
        match (&target, self.fault) {
            (Target::Channel(binding), _) => {
                channel = binding.channel.name().to_owned();
                self.make(Topology::Channel(Arc::clone(binding))).await?;
            }
            (Target::Reply(_), Fault::MixesReplies) => {
                let latest = lock(&self.shared.latest_address).clone();
                target = latest.map_or(target, Target::Reply);
            }
            _ => {}
        }
        let opened = match (self.inner.open_sender(&target, options).await, self.fault, &target) {
            (Err(_), Fault::HangsOnGoneAddress, Target::Reply(_)) => std::future::pending().await,
            (Err(_), Fault::AnswersAnybody, Target::Reply(_)) => {
                let Some(address) = lock(&self.shared.latest_address).clone() else {
                    // Nobody has an address yet: the reply goes nowhere.
                    return Ok(Opened::new(Box::new(Nowhere), self.inner.capabilities()));
                };
                self.inner.open_sender(&Target::Reply(address), options).await?
            }
            (opened, ..) => opened.map_err(|error| self.told(error))?,
        };
        let mut capabilities = opened.capabilities;
        match self.fault {
            Fault::Overclaims => capabilities = capabilities.native(&Capability::ALL),
            Fault::Unordered => capabilities = capabilities.native(&[Capability::OrderPerKey]),
            Fault::Unbounded => capabilities = capabilities.native(&[Capability::Bounded]),
            _ => {}
        }
        let sender = MutantSender::new(opened.handle, self.fault, Arc::clone(&self.shared), channel);
        Ok(Opened::new(Box::new(sender), capabilities))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let source = self.source(from).await?;
        let (channel, target, vanishes) = match &source {
            Source::Channel(binding) => {
                self.make(Topology::Channel(Arc::clone(binding))).await?;
                (binding.channel.name().to_owned(), Some(Target::Channel(Arc::clone(binding))), None)
            }
            Source::Subscription(binding, subscription) => {
                let topology = Topology::Subscription(Arc::clone(binding), subscription.clone());
                self.make(topology.clone()).await?;
                let vanishes = self.fault == Fault::NamedVanishes && subscription.name().is_some();
                (binding.channel.name().to_owned(), None, vanishes.then_some(topology))
            }
            _ => (String::new(), None, None),
        };
        let mut options = options.clone();
        if matches!(self.fault, Fault::Hoards | Fault::Overfills) {
            options.prefetch.messages = 1000;
        }
        let mut opened = match (&source, self.fault) {
            (Source::Subscription(binding, subscription), Fault::SubscribesLate) => {
                let topology = Topology::Subscription(Arc::clone(binding), subscription.clone());
                let late = LateReceiver::new(Arc::clone(&self.inner), topology, source.clone(), options);
                Opened::new(Arc::new(late) as Arc<dyn Receiver>, self.inner.capabilities())
            }
            _ => self.inner.open_receiver(&source, &options).await.map_err(|error| self.told(error))?,
        };
        *lock(&self.shared.heard).entry(channel.clone()).or_insert(0) += 1;
        if self.fault == Fault::Unordered {
            opened.capabilities = opened.capabilities.native(&[Capability::OrderPerKey]);
        }
        let receiver = self.receiver(opened.handle, channel, target, vanishes);
        Ok(Opened::new(Arc::new(receiver), opened.capabilities))
    }

    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies> {
        let replies = self.inner.open_replies(options).await?;
        *lock(&self.shared.latest_address) = Some(replies.address.clone());
        let receiver = self.receiver(replies.receiver, String::new(), None, None);
        Ok(Replies::new(replies.address, Arc::new(receiver)))
    }

    async fn health(&self) -> Result<()> {
        if self.fault == Fault::PasswordInLog {
            tracing::info!(password = PASSWORD, "asked for a sign of life");
        }
        match self.fault {
            Fault::AlwaysHealthy => Ok(()),
            Fault::NeverHealthy => Err(Error::new(ErrorKind::Unavailable, "unwell")),
            _ => self.inner.health().await,
        }
    }

    async fn close(&self) -> Result<()> {
        match self.fault {
            Fault::CloseIsNoOp => Ok(()),
            Fault::CloseHangs => std::future::pending().await,
            Fault::CloseOnce if self.is_closed.swap(true, Ordering::Relaxed) => {
                Err(Error::new(ErrorKind::Closed, "closed already"))
            }
            _ => self.inner.close().await,
        }
    }
}

impl Mutant {
    fn receiver(
        &self,
        inner: Arc<dyn Receiver>,
        channel: String,
        target: Option<Target>,
        vanishes: Option<Topology>,
    ) -> MutantReceiver {
        MutantReceiver {
            inner,
            adapter: Arc::clone(&self.inner),
            fault: self.fault,
            shared: Arc::clone(&self.shared),
            channel,
            target,
            vanishes,
            outstanding: Mutex::default(),
            held: Mutex::default(),
        }
    }
}

/// Accepts everything and sends it nowhere.
struct Nowhere;

#[async_trait]
impl Sender for Nowhere {
    fn measure(&self, message: &anybroker::adapter::Message) -> Result<usize> {
        Ok(message.size())
    }

    async fn send_batch(&mut self, _: &[anybroker::adapter::Message]) -> Result<anybroker::adapter::Confirm> {
        Ok(anybroker::adapter::Confirm::accepted(anybroker::adapter::Receipt::default()))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
