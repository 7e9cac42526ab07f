//! Services under test: in memory, in virtual time, with a word about every message.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anybroker::Result<()> {
//! use anybroker::{Body, Channel, Context, Failure, Service, testing};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! static ORDERS: Channel = Channel::point_to_point("orders");
//! static ORDER_EVENTS: Channel = Channel::publish_subscribe("order-events");
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Order { id: u64, dishes: u8 }
//! impl Body for Order { const TYPE: &'static str = "order"; }
//!
//! async fn create(order: Order, cx: Context) -> Result<(), Failure> {
//!     match (order.dishes, cx.attempt()) {
//!         (0, _) => return Err(Failure::reject("no dishes")),
//!         (9.., 1) => return Err(Failure::retry_after("the oven is full", Duration::from_secs(600))),
//!         _ => {}
//!     }
//!     cx.send(&ORDER_EVENTS, &order).await?;
//!     Ok(())
//! }
//!
//! let test = testing::start(Service::new("kitchen").handle(&ORDERS, create)).await?;
//! assert_eq!(test.send(&ORDERS, &Order { id: 1, dishes: 0 }).await?.reason(), Some("no dishes"));
//!
//! let fate = test.send(&ORDERS, &Order { id: 2, dishes: 9 }).await?;
//! assert!(fate.is_retried());
//! test.advance(Duration::from_secs(600));                        // ten minutes, at once
//! assert!(test.next(&fate).await?.is_acknowledged());
//! assert_eq!(test.sent::<Order>(&ORDER_EVENTS)?, [Order { id: 2, dishes: 9 }]);
//! # Ok(())
//! # }
//! ```

use crate::adapter::{Channel, Clock, ManualClock, Message, MessageId, SystemClock};
use crate::builder::Request;
use crate::memory::{Config, MemoryBroker};
use crate::service::observer::{Decision, Observer};
use crate::service::{Running, ServiceStatus};
use crate::{Body, Broker, Command, Error, ErrorKind, IntoMessage, Result, Service};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Starts the service on a memory broker of its own, where time stands still until [`Test::advance`].
///
/// Time that handlers take from elsewhere, such as `tokio::time::sleep`, is the system's.
///
/// # Errors
/// As [`Service::start`].
pub async fn start<S: Send + Sync + 'static>(service: Service<S>) -> Result<Test> {
    start_on(Config::default(), service).await
}

/// As [`start`], on a memory broker that refuses what another broker refuses: `kafka` or `rabbitmq`. See [`crate::memory`].
///
/// # Errors
/// [`ErrorKind::Config`] for the name of any other broker, and as [`Service::start`].
pub async fn start_like<S: Send + Sync + 'static>(broker: &str, service: Service<S>) -> Result<Test> {
    start_on(Config::default().like(broker)?, service).await
}

async fn start_on<S: Send + Sync + 'static>(config: Config, mut service: Service<S>) -> Result<Test> {
    let clock = ManualClock::at(SystemClock::new().wall());
    let memory = MemoryBroker::with_config(config, Arc::new(clock.clone()));
    let broker =
        Broker::builder().adapter("main", memory.adapter()).clock(Arc::new(clock.clone())).open().await?;
    let handled = service.operations().into_iter().map(|operation| operation.from.channel().clone());
    let handled = handled.collect();
    let seen = Arc::new(Seen::default());
    service.observer = Some(Arc::clone(&seen) as Arc<dyn Observer>);
    let running = service.start(&broker).await?;
    Ok(Test { broker, clock, running, handled, seen })
}

/// A service under test.
#[derive(Debug)]
pub struct Test {
    broker: Broker,
    clock: ManualClock,
    running: Running,
    handled: Vec<Channel>,
    seen: Arc<Seen>,
}

impl Test {
    /// Sends a message to the service, and says what has become of it when its first attempt is over.
    ///
    /// # Errors
    /// As [`Test::post`] and [`Test::next`].
    pub async fn send(&self, channel: &Channel, body: impl IntoMessage) -> Result<Fate> {
        let id = self.post(channel, body).await?;
        self.decided(&id).await
    }

    /// Sends a message to the service without waiting for it to be handled. [`Test::fate`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a channel that the service does not handle, and what sending gives.
    pub async fn post(&self, channel: &Channel, body: impl IntoMessage) -> Result<MessageId> {
        if !self.handled.contains(channel) {
            let what = format!("the service handles no messages of channel `{}`", channel.name());
            return Err(Error::new(ErrorKind::Config, what).with_help(
                "give it a handler for that channel, with the same requirements, or send by `test.broker()`",
            ));
        }
        let mut message = body.into_message()?;
        let id = message.id().cloned().unwrap_or_else(|| crate::id::new_id(self.clock.wall()));
        message.set_id(id.clone());
        self.broker.send(channel, message).await?;
        Ok(id)
    }

    /// What becomes of a message next: of one that was posted, or was sent under that id of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when nothing was decided for ten seconds of the system's time.
    pub async fn fate(&self, id: &MessageId) -> Result<Fate> {
        self.decided(id).await
    }

    /// What becomes of a message that was to come again, once time has advanced.
    ///
    /// # Errors
    /// As [`Test::fate`].
    pub async fn next(&self, fate: &Fate) -> Result<Fate> {
        self.decided(&fate.id).await
    }

    /// Moves time on: what was to be tried again by then is, what expires by then has expired.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// What handlers have sent to that channel by [`Context::send`](crate::Context::send), in order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when one of them is no `B`.
    pub fn sent<B: Body>(&self, channel: &Channel) -> Result<Vec<B>> {
        self.sent_messages(channel).iter().map(|message| B::decode(message.body())).collect()
    }

    /// The same as messages, with their headers.
    #[must_use]
    pub fn sent_messages(&self, channel: &Channel) -> Vec<Message> {
        self.seen.lock().sent.get(channel.name()).cloned().unwrap_or_default()
    }

    /// Asks the service, and waits for its reply.
    pub fn request<C: Command>(&self, channel: &Channel, ask: &C) -> Request<C::Reply> {
        self.broker.request(channel, ask)
    }

    /// Lets what handlers send next to that channel fail so many times, as if the broker had refused it.
    pub fn fail_sends(&self, channel: &Channel, kind: ErrorKind, times: usize) {
        self.seen.lock().refusals.entry(channel.name().to_owned()).or_default().extend(vec![kind; times]);
    }

    /// The broker: to send to other channels, to subscribe, to read dead letters.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How the service is doing, by channel.
    #[must_use]
    pub fn status(&self) -> Vec<ServiceStatus> {
        self.running.status()
    }

    #[expect(clippy::disallowed_methods, reason = "virtual time would never end what hangs")]
    async fn decided(&self, id: &MessageId) -> Result<Fate> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let decided = tokio::time::timeout(PATIENCE, self.seen.decided(id));
        decided.await.map_err(|_| {
            let what = format!("nothing was decided about message `{id}` in {PATIENCE:?}");
            Error::new(ErrorKind::Timeout, what).with_help(
                "a retry comes when `advance` has moved time; a handler that waits for virtual time is to be \
                 sent to by `post`, then `advance`, then `fate`",
            )
        })
    }
}

/// What has become of one attempt to handle a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    id: MessageId,
    attempt: u32,
    decision: Decision,
}

impl Fate {
    /// It was handled.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.decision == Decision::Acknowledged
    }

    /// It comes again.
    #[must_use]
    pub const fn is_retried(&self) -> bool {
        matches!(self.decision, Decision::Retried(..))
    }

    /// It lies in the dead letters.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        matches!(self.decision, Decision::Rejected(_))
    }

    /// It was an event that no handler takes, and is gone.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        self.decision == Decision::Ignored
    }

    /// It was handled before, and is gone.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.decision == Decision::Duplicate
    }

    /// Why it is tried again or was rejected.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match &self.decision {
            Decision::Retried(reason, _) | Decision::Rejected(reason) => Some(reason),
            _ => None,
        }
    }

    /// How long it waits before it comes again.
    #[must_use]
    pub const fn after(&self) -> Option<Duration> {
        match self.decision {
            Decision::Retried(_, after) => Some(after),
            _ => None,
        }
    }

    /// The number of the attempt, the first being 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The id of the message.
    #[must_use]
    pub const fn id(&self) -> &MessageId {
        &self.id
    }
}

/// What the service was seen to do.
#[derive(Debug, Default)]
struct Seen {
    all: Mutex<All>,
    more: Notify,
}

#[derive(Debug, Default)]
struct All {
    fates: HashMap<MessageId, VecDeque<Fate>>,
    sent: HashMap<String, Vec<Message>>,
    refusals: HashMap<String, VecDeque<ErrorKind>>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn decided(&self, id: &MessageId) -> Fate {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            if let Some(fate) = self.lock().fates.get_mut(id).and_then(VecDeque::pop_front) {
                return fate;
            }
            more.await;
        }
    }
}

impl Observer for Seen {
    fn decided(&self, message: &Message, attempt: u32, decision: Decision) {
        if let Some(id) = message.id() {
            let fate = Fate { id: id.clone(), attempt, decision };
            self.lock().fates.entry(id.clone()).or_default().push_back(fate);
            self.more.notify_waiters();
        }
    }

    fn refuses(&self, channel: &Channel) -> Option<Error> {
        let kind = self.lock().refusals.get_mut(channel.name())?.pop_front()?;
        Some(Error::new(kind, "the test has it fail"))
    }

    fn sent(&self, channel: &Channel, message: Message) {
        self.lock().sent.entry(channel.name().to_owned()).or_default().push(message);
    }
}
