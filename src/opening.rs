use crate::adapter::{BoxFuture, Capability, Channel, Room, Source};
use crate::broker::Broker;
use crate::closing::Named;
use crate::config::Bound;
use crate::consumer::ReceiveFrom;
use crate::inlet::{Inlet, Settings};
use crate::link::{Link, undropped};
use crate::outlet::Outlet;
use crate::{Consumer, ErrorKind, Producer, Result};
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

/// A producer that is opened when this is awaited.
#[derive(Clone, Debug)]
#[must_use = "a producer is opened when this is awaited"]
pub struct OpenProducer {
    broker: Broker,
    channel: Channel,
    within: Duration,
    window: (usize, usize),
}

impl OpenProducer {
    pub(crate) fn new(broker: Broker, channel: Channel) -> Self {
        let within = broker.options().send_within;
        let window = broker.options().window();
        Self { broker, channel, within, window }
    }

    /// How long each send may take. The default is 30 s.
    pub const fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The most messages and bytes on their way at once. The default is 4096 messages and 64 MiB. The first producer of a channel decides.
    pub const fn window(mut self, messages: usize, bytes: usize) -> Self {
        self.window = (if messages == 0 { 1 } else { messages }, if bytes == 0 { 1 } else { bytes });
        self
    }

    /// Declares the channel as configured, opens a sender, and checks the requirements against what holds there.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when a requirement cannot be kept, by name, with what to do instead; [`ErrorKind::NotFound`] when the channel does not
    /// exist and is not to be declared; [`ErrorKind::Conflict`] when it exists otherwise; [`ErrorKind::Unauthorized`].
    async fn open(self) -> Result<Producer> {
        let outlet = self.broker.outlet(&self.channel, self.window).await?;
        Ok(Producer::new(outlet, self.within, self.broker))
    }
}

impl IntoFuture for OpenProducer {
    type Output = Result<Producer>;
    type IntoFuture = BoxFuture<'static, Result<Producer>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// A consumer that is opened when this is awaited.
#[derive(Clone, Debug)]
#[must_use = "a consumer is opened when this is awaited"]
pub struct OpenConsumer {
    broker: Broker,
    from: ReceiveFrom,
    prefetch: Room,
}

impl OpenConsumer {
    pub(crate) fn new(broker: Broker, from: ReceiveFrom) -> Self {
        Self { broker, from, prefetch: Room::new(256, 64 << 20) }
    }

    /// The most messages that may be unsettled: queued, in the application's hands and parked together. The default is 256; zero is taken as one.
    #[doc(alias = "qos")]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch.messages = messages.max(1);
        self
    }

    /// The most bytes that may be unsettled, though always one message. The default is 64 MiB.
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.prefetch.bytes = bytes.max(1);
        self
    }

    /// Declares what is configured, opens a receiver and the sender to its dead-letter channel, and checks the requirements.
    ///
    /// # Errors
    /// As [`OpenProducer`], and [`ErrorKind::Config`] for a publish-subscribe channel without a subscription.
    async fn open(self) -> Result<Consumer> {
        self.broker.check_open()?;
        let (named, link, bound, source) = self.broker.source(self.from.clone())?;
        let (name, replier) = named.parts();
        let what = format!("consumer of {}", link.binding.channel.name());
        let status = Arc::new(self.broker.board().handle(name, what));
        let declare = || {
            let (link, source) = (link.clone(), source.clone());
            undropped(async move { link.declare_source(&source).await })
        };
        self.broker.patiently(&status, declare).await?;
        let dead_letters = self.dead_letters(named, &link, &source, &bound).await?;
        let settings = Settings {
            prefetch: self.prefetch,
            backoff: self.broker.options().backoff,
            leave_within: self.broker.options().leave_within,
            foreign: bound.headers.into(),
        };
        let open = || {
            let (link, source, settings) = (link.clone(), source.clone(), settings.clone());
            Inlet::open(
                link,
                source,
                settings,
                dead_letters.clone(),
                Arc::clone(replier),
                Arc::clone(&status),
            )
        };
        let inlet = self.broker.patiently(&status, open).await?;
        let consumer = Consumer::new(Arc::clone(&inlet), Some(self.broker.clone()));
        self.broker.keep(&inlet)?;
        Ok(consumer)
    }

    /// The sender to the dead letters of the source, opened now so that a missing right shows now. None where there is no such channel and none is
    /// required: rejecting then says so.
    async fn dead_letters(
        &self,
        named: &Named,
        link: &Link,
        source: &Source,
        bound: &Bound,
    ) -> Result<Option<Arc<Outlet>>> {
        let subscription = match source {
            Source::Channel(_) => None,
            Source::Subscription(_, subscription) => match subscription.name() {
                Some(name) => Some(name.into()),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if !link.adapter.capabilities().has(Capability::DeadLetter) {
            return Ok(None);
        }
        let requires = link.binding.channel.requirements();
        let required = requires.dead_letter_after.is_some() || requires.expired_to_dead_letter;
        match self.broker.dead_letter_outlet(named, link, subscription, bound).await {
            Ok(outlet) => Ok(Some(outlet)),
            Err(e) if !required && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl IntoFuture for OpenConsumer {
    type Output = Result<Consumer>;
    type IntoFuture = BoxFuture<'static, Result<Consumer>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}
