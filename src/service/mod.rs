//! Services: handlers for the messages of channels, and what happens to those that fail.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anybroker::Result<()> {
//! use anybroker::{Body, Broker, Channel, Context, Failure, Service};
//! use serde::{Deserialize, Serialize};
//!
//! static ORDERS: Channel = Channel::point_to_point("orders");
//! static ORDER_EVENTS: Channel = Channel::publish_subscribe("order-events");
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { id: u64, dishes: u8 }
//! impl Body for Order { const TYPE: &'static str = "order"; }
//!
//! async fn create(order: Order, cx: Context) -> Result<(), Failure> {
//!     if order.dishes == 0 {
//!         return Err(Failure::reject("no dishes"));
//!     }
//!     cx.send(&ORDER_EVENTS, &order).await?;
//!     Ok(())
//! }
//!
//! let broker = Broker::connect("memory://").await?;
//! # let mut events = broker.consumer(ORDER_EVENTS.subscription("delivery")).await?;
//! broker.send(&ORDERS, &Order { id: 42, dishes: 2 }).await?;
//! let until = async {
//!     // … such as tokio::signal::ctrl_c() …
//! #   events.receive().await.map(drop)
//! };
//! Service::new("kitchen").handle(&ORDERS, create).run(&broker, until).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What a handler gives decides over its message:
//!
//! | the handler | the message |
//! |---|---|
//! | gives `Ok` | is acknowledged; a reply is sent before |
//! | gives an error by `?`, panics, or takes longer than [`Policy::timeout`] | comes again after a wait that doubles; after [`Policy::attempts`] it goes to the dead letters |
//! | gives [`Failure::reject`] | goes to the dead letters, now, with the reason |
//!
//! What has no handler goes to the dead letters on a point-to-point channel; on a subscription, where others may want it, it is acknowledged and counted.
//! What cannot be decoded goes to the dead letters. A channel with one handler decodes messages without a type by that.
//!
//! # Ordering
//! On a channel with order per key, messages of one key are handled one after another, through retries; other keys go on meanwhile. What comes behind a
//! message that goes to the dead letters is [`Followers`]' to say.

mod context;
mod desk;
mod dispatch;
mod duplicates;
mod failure;
mod handler;
mod layer;
pub(crate) mod observer;
mod policy;
mod rate_limit;
mod registration;
mod running;
mod seat;
mod spans;

pub use context::Context;
pub use duplicates::{Claim, DuplicateStore, Handling, MemoryDuplicates};
pub use failure::Failure;
pub use handler::{Answers, Handler, Handles};
pub use layer::{BoxError, Layered, Outgoing};
pub use policy::{Followers, Policy};
pub use rate_limit::{RateLimit, RateLimited};
pub use registration::Operation;
pub use running::{Running, ServiceStatus};

use crate::adapter::Receipt;
use crate::builder::ReceiveFrom;
use crate::config::check_name;
use crate::{Broker, Error, ErrorKind, Message, Result};
use desk::{Desk, Shared};
use layer::Sending;
use observer::Observer;
use registration::{Plan, Plans};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use tower_layer::Layer;

/// Handlers for the messages of channels, under one name.
///
/// `S` is the state that its handlers share, by [`Context::state`].
#[must_use = "a service does something when it is run"]
pub struct Service<S = ()> {
    name: String,
    state: S,
    plans: Plans<S>,
    policy: Policy,
    layers: Option<layer::Handling<S>>,
    send_layers: Option<Sending>,
    /// Who is told what becomes of messages.
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// The first mistake, reported when the service is checked: a registration is no place to fail.
    mistake: Option<Error>,
}

impl Service {
    /// A service without handlers. Its name is that of its subscriptions, so all its instances share them; it stays the same over restarts.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: (),
            plans: Plans::default(),
            policy: Policy::new(),
            layers: None,
            send_layers: None,
            observer: None,
            mistake: None,
        }
    }

    /// The service with a state that its handlers share: `async fn(B, Context<S>)`. Comes before its handlers.
    pub fn with_state<S>(self, state: S) -> Service<S> {
        let late =
            || Error::new(ErrorKind::Config, "the service is given a state after its handlers or layers");
        let mistake = self.mistake.or_else(|| {
            (!self.plans.is_empty() || self.layers.is_some())
                .then(|| late().with_help("call `with_state` right after `new`"))
        });
        Service {
            name: self.name,
            state,
            plans: Plans::default(),
            policy: self.policy,
            layers: None,
            send_layers: self.send_layers,
            observer: self.observer,
            mistake,
        }
    }
}

impl<S: Send + Sync + 'static> Service<S> {
    /// Has messages of one type handled: `.handle(&ORDERS, create)`.
    ///
    /// Of a publish-subscribe channel, the service has the subscription that bears its name. Several handlers of one channel are told apart by the type
    /// of their messages.
    pub fn handle<Shape>(mut self, from: impl Into<ReceiveFrom>, handler: impl Handler<S, Shape>) -> Self {
        let plan = self.plans.of(from.into(), &self.name);
        let added = plan.add(handler.endpoint());
        self.note(added)
    }

    /// Has messages handled that no other handler of the channel takes: those without a type, and of other types.
    pub fn fallback<F, Fut>(mut self, from: impl Into<ReceiveFrom>, handler: F) -> Self
    where
        F: Fn(Message, Context<S>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let plan = self.plans.of(from.into(), &self.name);
        let added = plan.add_fallback(handler::untyped(handler));
        self.note(added)
    }

    /// How messages are handled, unless a channel has a policy of its own.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How the messages of this channel or subscription are handled.
    pub fn policy_for(mut self, from: impl Into<ReceiveFrom>, policy: Policy) -> Self {
        self.plans.of(from.into(), &self.name).policy = Some(policy);
        self
    }

    /// Puts a layer around all handlers, and around the layers that are there already.
    ///
    /// It is around the handler alone: what a message becomes is decided outside of it. A [`Failure`] goes through a layer as its error; any other error of
    /// a layer has the message tried again.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<layer::Handling<S>>,
        L::Service:
            tower_service::Service<Context<S>, Response = Option<Message>> + Clone + Send + Sync + 'static,
        <L::Service as tower_service::Service<Context<S>>>::Error: Into<BoxError>,
        <L::Service as tower_service::Service<Context<S>>>::Future: Send + 'static,
    {
        let inner = self.layers.unwrap_or_else(|| {
            Layered::of(|context: Context<S>| {
                let handling = context.handle();
                Box::pin(async move { handling.await.map_err(Into::into) })
            })
        });
        self.layers = Some(Layered::new(layer.layer(inner)));
        self
    }

    /// Puts a layer around [`Context::send`], and around the layers that are there already.
    pub fn send_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Sending>,
        L::Service: tower_service::Service<Outgoing, Response = Receipt> + Clone + Send + Sync + 'static,
        <L::Service as tower_service::Service<Outgoing>>::Error: Into<BoxError>,
        <L::Service as tower_service::Service<Outgoing>>::Future: Send + 'static,
    {
        let inner = self.send_layers.unwrap_or_else(|| {
            Layered::of(|outgoing: Outgoing| {
                Box::pin(async move { outgoing.send().await.map_err(Into::into) })
            })
        });
        self.send_layers = Some(Layered::new(layer.layer(inner)));
        self
    }

    /// What it handles, as it was registered: a row for every handler.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.plans.iter().flat_map(Plan::operations).collect()
    }

    /// Finds mistakes in the registration, without a broker. Starting does the same.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: two handlers for one type, a reply to an event, a channel with two kinds or requirements, a policy without a handler, a name
    /// that not every broker can carry.
    pub fn check(&self) -> Result<()> {
        check_name("service", &self.name)?;
        if let Some(mistake) = &self.mistake {
            return Err(mistake.duplicate());
        }
        self.plans.check().map_err(|error| error.at(format_args!("service `{}`", self.name)))
    }

    /// Opens its consumers and begins to handle, in the background.
    ///
    /// # Errors
    /// As [`Service::check`]; as opening consumers, before anything is handled; and [`ErrorKind::Config`] where messages that cannot be handled would have
    /// nowhere to go.
    pub async fn start(self, broker: &Broker) -> Result<Running> {
        self.check()?;
        let shared = Arc::new(Shared {
            state: self.state,
            broker: broker.clone(),
            clock: broker.clock(),
            layers: self.layers,
            send_layers: self.send_layers,
            observer: self.observer,
        });
        let mut opened = Vec::new();
        for plan in self.plans {
            let policy = plan.policy.as_ref().unwrap_or(&self.policy).clone();
            let prefetch = policy.concurrency.max(PREFETCH);
            let consumer = broker.consumer(plan.from.clone()).prefetch(prefetch).await?;
            let desk = Desk::new(Arc::clone(&shared), plan, policy, &consumer)?;
            opened.push((Arc::new(desk), consumer));
        }
        Ok(Running::begin(self.name, opened))
    }

    /// Handles messages until `until` resolves, or the broker is closed; then drains: hands out nothing more, gives what runs until the close deadline of
    /// the broker, acknowledges what is handled by then and gives the rest back.
    ///
    /// # Errors
    /// As [`Service::start`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves as at the end, in the background.
    pub async fn run(self, broker: &Broker, until: impl Future) -> Result<()> {
        let mut until = pin!(until);
        let started = tokio::select! {
            started = self.start(broker) => started?,
            _ = &mut until => return Ok(()),
        };
        started.until(until).await
    }

    fn note(mut self, done: Result<()>) -> Self {
        self.mistake = self.mistake.or(done.err());
        self
    }
}

/// So many messages are on hand at least, handled or waiting.
const PREFETCH: usize = 256;

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("plans", &self.plans)
            .finish_non_exhaustive()
    }
}
