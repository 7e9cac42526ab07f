use crate::adapter::{
    Capabilities, Channel, ChannelKind, Clock, Receipt, SendOutcome, Source, Target, Text, Topology,
};
use crate::builder::{Builder, Options};
use crate::clock::later;
use crate::closing::{Closed, Closing, Named};
use crate::config::{Bindings, Bound, check_name};
use crate::consumer::ReceiveFrom;
use crate::inlet::Inlet;
use crate::link::{Link, undropped};
use crate::opening::{OpenConsumer, OpenProducer};
use crate::outlet::{Outlet, Sending, Slot, has_ended};
use crate::replies::Mailbox;
use crate::request::Request;
use crate::status::{Board, HandleStatus, State, Status};
use crate::{Body, Command, Config, Error, ErrorKind, IntoMessage, Message, Result};
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};

/// The application's end of all its message brokers. Cheap to clone; all clones are one.
///
/// When the last clone, producer and consumer is gone, everything is closed as by [`Broker::close`], in the background.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anybroker::Result<()> {
/// use anybroker::{Broker, Channel, Message};
///
/// static ORDERS: Channel = Channel::point_to_point("orders");
///
/// let broker = Broker::connect("memory://").await?;
/// let mut orders = broker.consumer(&ORDERS).await?;
/// broker.send(&ORDERS, Message::new("two dishes")).await?;
///
/// if let Some(delivery) = orders.receive().await? {
///     assert_eq!(delivery.message().body(), b"two dishes");
///     delivery.ack();
/// }
/// broker.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    bindings: Bindings,
    brokers: BTreeMap<String, Arc<Named>>,
    clock: Arc<dyn Clock>,
    options: Options,
    instance: Text,
    board: Board,
    outlets: Mutex<HashMap<String, Slot>>,
    inlets: Mutex<Vec<Weak<Inlet>>>,
    closed: AtomicBool,
    close: OnceCell<Closed>,
    /// Where to close what is dropped.
    runtime: Option<Handle>,
}

impl Broker {
    /// Connects every broker of the configuration.
    ///
    /// # Errors
    /// What is wrong with the configuration, by the path of its field, or with a connection, by the broker's name.
    pub async fn open(config: Config) -> Result<Self> {
        Self::builder().config(config).open().await
    }

    /// Connects one broker, named `main`, by its URL.
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(Config::url(url)?).await
    }

    /// Connects nothing yet, for services that start before their brokers: opening producers and consumers then waits for them.
    ///
    /// # Errors
    /// What is wrong with the configuration, by the path of its field.
    #[doc(alias = "connect_lazy")]
    pub fn open_lazy(config: Config) -> Result<Self> {
        Self::builder().config(config).open_lazy()
    }

    /// Opens a broker with other than the default options.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A producer for the channel: `broker.producer(&ORDERS).await?`.
    #[doc(alias = "publisher")]
    pub fn producer(&self, channel: &Channel) -> OpenProducer {
        OpenProducer::new(self.clone(), channel.clone())
    }

    /// A consumer of a point-to-point channel, a subscription or dead letters: `broker.consumer(&ORDERS).await?`.
    #[doc(alias = "subscriber")]
    pub fn consumer(&self, from: impl Into<ReceiveFrom>) -> OpenConsumer {
        OpenConsumer::new(self.clone(), from.into())
    }

    /// Sends one message and waits for the broker's word. The channel's producer is opened at the first use and kept.
    ///
    /// # Errors
    /// As opening a producer, and as [`Producer::send`](crate::Producer::send).
    #[doc(alias = "publish")]
    pub async fn send(&self, channel: &Channel, body: impl IntoMessage) -> Result<Receipt> {
        let message = body.into_message()?;
        let outlet = match self.opened(channel) {
            Ok(Some(outlet)) => Ok(outlet),
            Ok(None) => {
                let deadline = later(self.0.clock.now(), self.0.options.send_within);
                tokio::select! {
                    opened = self.outlet(channel, self.0.options.window()) => opened,
                    () = self.0.clock.sleep_until(deadline) => {
                        let what = "the channel could not be opened before the deadline";
                        Err(Error::new(ErrorKind::Timeout, what))
                    }
                }
            }
            Err(closed) => Err(closed),
        };
        let outlet = match outlet {
            Ok(outlet) => outlet,
            Err(error) => {
                let error = error.with_operation("send").with_channel(channel.name());
                return Err(error.with_outcome(SendOutcome::NotSent).with_message(message));
            }
        };
        match outlet.send(message, self.0.options.send_within) {
            Sending::Done(result) => result,
            Sending::Waiting(answers) => answers.one().await.map_err(|e| outlet.link().explain(e, "send")),
        }
    }

    /// Sends a command and waits for its reply: `broker.request(&PRICING, &ask).deadline(d).await?`.
    pub fn request<C: Command>(&self, channel: &Channel, ask: &C) -> Request<C::Reply> {
        self.request_message(channel, ask.into_message())
    }

    /// How every broker is doing, now and at every change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.board.watch()
    }

    /// Replies that came when nobody waited for them any more. They reach nobody.
    #[must_use]
    pub fn late_replies(&self) -> u64 {
        self.0.brokers.values().map(|named| named.mailbox.late()).sum()
    }

    /// Asks every broker for a sign of life.
    ///
    /// # Errors
    /// What is wrong with the first that gives none.
    pub async fn health(&self) -> Result<()> {
        self.check_open()?;
        for named in self.0.brokers.values() {
            let adapter = Arc::clone(&named.adapter);
            undropped(async move { adapter.health().await }).await.map_err(|e| {
                e.at(format_args!("broker `{}`", named.name)).with_adapter(named.adapter.name())
            })?;
        }
        Ok(())
    }

    /// What really holds on a channel, with what this library emulates. Opens the channel.
    ///
    /// # Errors
    /// As opening a producer.
    pub async fn capabilities(&self, channel: &Channel) -> Result<Capabilities> {
        Ok(self.producer(channel).await?.capabilities().clone())
    }

    /// Deletes a channel, a subscription or a dead-letter channel with its messages. What is not there is a success.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn delete(&self, what: impl Into<ReceiveFrom>) -> Result<()> {
        self.check_open()?;
        let (named, link, topology) = match what.into() {
            ReceiveFrom::Channel(channel) => {
                let (named, link, _) = self.link(&channel)?;
                (named, link.clone(), Topology::Channel(link.binding))
            }
            other => {
                let (named, link, _, source) = self.source(other)?;
                let topology = match source {
                    Source::Subscription(binding, subscription) => {
                        Topology::Subscription(binding, subscription)
                    }
                    Source::DeadLetter(binding, name) => Topology::DeadLetter(binding, name),
                    _ => Topology::Channel(Arc::clone(&link.binding)),
                };
                (named, link, topology)
            }
        };
        let adapter = Arc::clone(&named.adapter);
        undropped(async move { adapter.delete(&topology).await }).await.map_err(|e| link.explain(e, "delete"))
    }

    /// The client library's own connection of that broker, for what this library does not cover.
    #[must_use]
    pub fn native<T: Any>(&self, name: &str) -> Option<&T> {
        self.0.brokers.get(name)?.adapter.native()?.downcast_ref()
    }

    /// Closes everything in order: consumers leave, producers send what waits, connections close; each until the close deadline. Again gives the
    /// same answer, and so does a second call while the first runs.
    ///
    /// # Errors
    /// None today: what could not be done is counted.
    pub async fn close(&self) -> Result<Closed> {
        self.0.closed.store(true, Ordering::Release);
        // On a task of its own, so that a caller that stops waiting does not leave half of it open.
        let inner = Arc::clone(&self.0);
        undropped(async move { Ok(*inner.close.get_or_init(|| inner.closing().run()).await) }).await
    }
}

impl Broker {
    pub(crate) fn assemble(builder: Builder) -> Result<Self> {
        let Builder { config, adapters: given, clock, options } = builder;
        let names: Vec<_> = given.iter().map(|(name, adapter)| (name.as_str(), adapter.name())).collect();
        let resolved = config.resolve(&names, &clock)?;
        let mut adapters = resolved.adapters()?;
        adapters.extend(given);
        let board = Board::new(adapters.iter().map(|(name, _)| name.as_str()));
        let instance: Text = match &options.instance {
            Some(name) => name.as_str().into(),
            None => crate::id::new_id(clock.wall()).to_text(),
        };
        let brokers = adapters.into_iter().map(|(name, adapter)| {
            let named = Named::new(&name, adapter, &instance, &clock, &options, &board);
            (name, Arc::new(named))
        });
        Ok(Self(Arc::new(Inner {
            brokers: brokers.collect(),
            bindings: resolved.bindings,
            clock,
            options,
            instance,
            board,
            outlets: Mutex::default(),
            inlets: Mutex::default(),
            closed: AtomicBool::new(false),
            close: OnceCell::new(),
            runtime: Handle::try_current().ok(),
        })))
    }

    pub(crate) fn request_message<R: Body>(&self, channel: &Channel, message: Result<Message>) -> Request<R> {
        Request::new(self.clone(), channel.clone(), message, self.0.options.send_within)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    pub(crate) fn mailbox(&self, channel: &Channel) -> Result<Arc<Mailbox>> {
        let bound = self.0.bindings.bind(channel)?;
        Ok(Arc::clone(&self.named(&bound)?.mailbox))
    }

    /// The channel's outlet, if it is open.
    fn opened(&self, channel: &Channel) -> Result<Option<Arc<Outlet>>> {
        self.check_open()?;
        let slot = self.outlets().get(channel.name()).cloned();
        let outlet = slot.and_then(|slot| slot.get().cloned());
        Ok(outlet.filter(|outlet| outlet.serves(channel) && !outlet.has_ended()))
    }

    /// The channel's outlet, opened if it is not: one for all producers.
    pub(crate) async fn outlet(&self, channel: &Channel, window: (usize, usize)) -> Result<Arc<Outlet>> {
        self.check_open()?;
        let (named, link, bound) = self.link(channel)?;
        let outlet =
            self.outlet_to(named, &link, Target::Channel(Arc::clone(&link.binding)), &bound, window).await?;
        if outlet.link().binding.channel != link.binding.channel {
            let name = channel.name();
            let what = format!("channel `{name}` is open already with another kind or other requirements");
            return Err(Error::new(ErrorKind::Conflict, what)
                .with_help("declare a channel once, as a static, and use that everywhere"));
        }
        outlet.remember(channel);
        Ok(outlet)
    }

    /// The outlet to a dead-letter channel, opened if it is not.
    pub(crate) async fn dead_letter_outlet(
        &self,
        named: &Named,
        link: &Link,
        subscription: Option<Text>,
        bound: &Bound,
    ) -> Result<Arc<Outlet>> {
        let target = Target::DeadLetter(Arc::clone(&link.binding), subscription);
        self.outlet_to(named, link, target, bound, self.0.options.window()).await
    }

    async fn outlet_to(
        &self,
        named: &Named,
        link: &Link,
        target: Target,
        bound: &Bound,
        window: (usize, usize),
    ) -> Result<Arc<Outlet>> {
        let channel = link.binding.channel.name();
        let what = match &target {
            Target::DeadLetter(_, Some(subscription)) => format!("{channel}/{subscription} dead letters"),
            Target::DeadLetter(_, None) => format!("{channel} dead letters"),
            _ => channel.to_owned(),
        };
        let slot = {
            let mut outlets = self.outlets();
            let slot = outlets.entry(what.clone()).or_default();
            // While the broker is open only a panic of the adapter, or the end of a runtime, ends an outlet.
            if has_ended(slot) {
                *slot = Slot::default();
            }
            Arc::clone(slot)
        };
        let settings = self.0.options.outlet(window, bound.headers.clone().into());
        let outlet = slot
            .get_or_try_init(|| async {
                let status = Arc::new(self.0.board.handle(&named.name, format!("producer of {what}")));
                let open =
                    || Outlet::open(link.clone(), target.clone(), settings.clone(), Arc::clone(&status));
                self.patiently(&status, open).await
            })
            .await?;
        if let Err(closed) = self.check_open() {
            // Closing has passed it by.
            outlet.begin_close(self.0.clock.now());
            return Err(closed);
        }
        Ok(Arc::clone(outlet))
    }

    pub(crate) fn keep(&self, inlet: &Arc<Inlet>) -> Result<()> {
        let mut inlets = self.0.inlets.lock().unwrap_or_else(PoisonError::into_inner);
        inlets.retain(|inlet| inlet.strong_count() > 0);
        inlets.push(Arc::downgrade(inlet));
        self.check_open()
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the broker is closed"));
        }
        Ok(())
    }

    /// The connection that the channel is bound to.
    pub(crate) fn link(&self, channel: &Channel) -> Result<(&Named, Link, Bound)> {
        let bound = self.0.bindings.bind(channel)?;
        let named = self.named(&bound)?;
        let link = Link {
            adapter: Arc::clone(&named.adapter),
            binding: Arc::new(bound.binding.clone()),
            declare: bound.declare,
            clock: Arc::clone(&self.0.clock),
            open_within: self.0.options.open_within,
            instance: self.0.instance.clone(),
        };
        Ok((named, link, bound))
    }

    /// Where a consumer receives from, checked against the kind of the channel.
    pub(crate) fn source(&self, from: ReceiveFrom) -> Result<(&Named, Link, Bound, Source)> {
        let wrong = |what: String, help: String| Err(Error::new(ErrorKind::Config, what).with_help(help));
        let (channel, name) = match &from {
            ReceiveFrom::Channel(channel) => (channel, None),
            ReceiveFrom::Subscription(subscription) => (subscription.channel(), subscription.name()),
            ReceiveFrom::DeadLetters(dead) => (dead.channel(), dead.subscription()),
        };
        let published = channel.kind() == ChannelKind::PublishSubscribe;
        let portable = channel.name();
        match &from {
            ReceiveFrom::Subscription(_) if !published => {
                return wrong(
                    format!("channel `{portable}` is point-to-point and has no subscriptions"),
                    "give the channel itself to `consumer`: all its consumers share the messages".into(),
                );
            }
            ReceiveFrom::Channel(_) if published => {
                return wrong(
                    format!("channel `{portable}` is publish-subscribe, and a consumer of it needs a subscription"),
                    "use `channel.subscription(\"name\")` for one that lasts and is shared by its consumers, or \
                     `channel.ephemeral()` for one that ends with its consumer"
                        .into(),
                );
            }
            ReceiveFrom::DeadLetters(_) if published && name.is_none() => {
                return wrong(
                    format!(
                        "channel `{portable}` is publish-subscribe: its subscriptions have dead letters, not the channel"
                    ),
                    "use `channel.subscription(\"name\").dead_letters()`".into(),
                );
            }
            _ => {}
        }
        if let Some(name) = name {
            check_name("subscription", name)?;
        }
        let name = name.map(Text::from);
        let (named, link, bound) = self.link(channel)?;
        let binding = Arc::clone(&link.binding);
        let source = match from {
            ReceiveFrom::Channel(_) => Source::Channel(binding),
            ReceiveFrom::Subscription(subscription) => Source::Subscription(binding, subscription),
            ReceiveFrom::DeadLetters(_) => Source::DeadLetter(binding, name),
        };
        Ok((named, link, bound, source))
    }

    /// Opens once, or until it works where the application asked for patience.
    pub(crate) async fn patiently<T, F>(&self, status: &HandleStatus, open: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut backoff = self.0.options.backoff;
        loop {
            // An adapter that keeps no deadline goes on by itself, and what it opens is closed.
            let overdue = later(self.0.clock.now(), self.0.options.open_within.saturating_add(OVERDUE));
            let opened = tokio::select! {
                opened = open() => opened,
                () = self.0.clock.sleep_until(overdue) => {
                    Err(Error::new(ErrorKind::Timeout, "the adapter has not answered long after its deadline"))
                }
            };
            match opened {
                Err(error) if self.0.options.patient && error.is_retryable() => {
                    self.check_open()?;
                    status.set(State::Reconnecting, Some(error.to_string()));
                    self.0.clock.sleep_until(later(self.0.clock.now(), backoff.next_wait())).await;
                }
                other => {
                    status.set(State::Connected, None);
                    return other;
                }
            }
        }
    }

    fn named(&self, bound: &Bound) -> Result<&Named> {
        self.0
            .brokers
            .get(&bound.broker)
            .map(Arc::as_ref)
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("there is no broker `{}`", bound.broker)))
    }

    fn outlets(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.0.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much later than its deadline an opening is given up, whatever the adapter does.
const OVERDUE: Duration = Duration::from_secs(30);

impl Inner {
    /// Everything that is open, to be closed in order.
    fn closing(&self) -> Closing {
        let mut inlets = self.inlets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        Closing {
            inlets: inlets.drain(..).filter_map(|inlet| inlet.upgrade()).collect(),
            outlets: outlets.drain().filter_map(|(_, slot)| slot.get().cloned()).collect(),
            brokers: self.brokers.values().cloned().collect(),
            board: self.board.clone(),
            clock: Arc::clone(&self.clock),
            leave_within: self.options.leave_within,
            open_within: self.options.open_within,
        }
    }
}

impl Drop for Inner {
    /// Nobody can use it any more: what it had open is closed as by [`Broker::close`], as long as there is a runtime to do it on.
    fn drop(&mut self) {
        if !*self.closed.get_mut()
            && let Some(runtime) = self.runtime.take().or_else(|| Handle::try_current().ok())
        {
            runtime.spawn(self.closing().run());
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adapters = self.0.brokers.iter().map(|(name, named)| (name, named.adapter.name()));
        f.debug_map().entries(adapters).finish()
    }
}
