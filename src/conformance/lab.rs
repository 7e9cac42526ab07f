use super::bare::BareLink;
use super::check::{Checked, Stop};
use super::{Fixture, Timing};
use crate::adapter::SystemClock;
use crate::adapter::{
    Adapter, Binding, Capabilities, Capability, Channel, ChannelKind, Clock, Declare, Message, MessageKey,
    Source, Subscription, Target, Topology,
};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where one check runs: the fixture, the time, and names that nobody else uses.
#[derive(Clone)]
pub(super) struct Lab(Arc<Inner>);

struct Inner {
    fixture: Arc<dyn Fixture>,
    clock: Arc<dyn Clock>,
    capabilities: Capabilities,
    run: u64,
    names: AtomicUsize,
}

impl Lab {
    pub(super) async fn new(fixture: Arc<dyn Fixture>) -> Checked<Self> {
        let capabilities = fixture.adapter().await?.capabilities();
        Ok(Self(Arc::new(Inner {
            fixture,
            clock: Arc::new(SystemClock::new()),
            capabilities,
            run: RandomState::new().build_hasher().finish(),
            names: AtomicUsize::new(0),
        })))
    }

    pub(super) fn fixture(&self) -> &dyn Fixture {
        &*self.0.fixture
    }

    pub(super) fn timing(&self) -> Timing {
        self.0.fixture.timing()
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    /// What the adapter declares before it is connected.
    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// What no name of another check or another run begins with.
    pub(super) fn names(&self) -> String {
        format!("cf-{:016x}-", self.0.run)
    }

    /// A name that no other check and no other run uses.
    pub(super) fn name(&self) -> String {
        let number = self.0.names.fetch_add(1, Ordering::Relaxed);
        format!("{}{number}", self.names())
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Checked<BareLink> {
        let adapter = self.within("a connection", self.0.fixture.adapter()).await??;
        Ok(self.link(adapter))
    }

    pub(super) fn link(&self, adapter: Arc<dyn Adapter>) -> BareLink {
        BareLink::new(self.clone(), adapter)
    }

    /// A point-to-point channel that does not exist yet.
    pub(super) fn point_to_point(&self) -> Channel {
        Channel::named(ChannelKind::PointToPoint, self.name())
    }

    /// A publish-subscribe channel that does not exist yet.
    pub(super) fn publish_subscribe(&self) -> Channel {
        Channel::named(ChannelKind::PublishSubscribe, self.name())
    }

    /// A new channel with those requirements, of the kind that the adapter has, and a way to read it.
    pub(super) fn route(&self, require: impl FnOnce(Channel) -> Channel) -> Route {
        if self.capabilities().has(Capability::PointToPoint) {
            return Route::channel(require(self.point_to_point()));
        }
        let channel = require(self.publish_subscribe());
        if self.capabilities().has(Capability::NamedSubscription) {
            Route::subscription(channel.subscription("reader"))
        } else {
            Route::subscription(channel.ephemeral())
        }
    }

    /// The future's output, or a failed check when it takes longer than the fixture's patience. Only then is a pending future dropped.
    pub(super) async fn within<F: IntoFuture>(&self, what: &str, future: F) -> Checked<F::Output> {
        self.within_time(self.timing().patience, what, future.into_future()).await
    }

    pub(super) async fn within_time<T>(
        &self,
        limit: Duration,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Checked<T> {
        let clock = self.clock();
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = clock.sleep_until(clock.now() + limit) => Err(Stop::Failed(format!("waited {limit:?} in vain for {what}"))),
        }
    }

    /// Waits until the condition holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Checked {
        self.within(what, async {
            while !holds() {
                self.pause(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    pub(super) async fn pause(&self, time: Duration) {
        let clock = self.clock();
        clock.sleep_until(clock.now() + time).await;
    }

    /// Lets pass the time in which a broker would bring what it should not.
    pub(super) async fn quiet(&self) {
        self.pause(self.timing().quiet).await;
    }
}

/// A channel and a way to read it.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) binding: Arc<Binding>,
    pub(super) subscription: Option<Subscription>,
}

impl Route {
    pub(super) fn channel(channel: Channel) -> Self {
        Self { binding: Arc::new(Binding::new(channel)), subscription: None }
    }

    pub(super) fn subscription(subscription: Subscription) -> Self {
        Self {
            binding: Arc::new(Binding::new(subscription.channel().clone())),
            subscription: Some(subscription),
        }
    }

    pub(super) fn topology(&self) -> Topology {
        let binding = Arc::clone(&self.binding);
        match &self.subscription {
            // An ephemeral one comes to be when its receiver opens.
            Some(subscription) if subscription.name().is_some() => {
                Topology::Subscription(binding, subscription.clone())
            }
            Some(_) | None => Topology::Channel(binding),
        }
    }

    pub(super) fn target(&self) -> Target {
        Target::Channel(Arc::clone(&self.binding))
    }

    pub(super) fn source(&self) -> Source {
        let binding = Arc::clone(&self.binding);
        match &self.subscription {
            Some(subscription) => Source::Subscription(binding, subscription.clone()),
            None => Source::Channel(binding),
        }
    }
}

/// `count` messages of one producer, spread over the keys in turn, with ids that can be read in a report: `p/a-0`, `p/b-0`, `p/a-1`, ….
pub(super) fn messages(producer: &str, keys: &[&str], count: usize) -> Vec<Message> {
    numbered(producer, keys, 0..count)
}

pub(super) fn numbered(producer: &str, keys: &[&str], range: std::ops::Range<usize>) -> Vec<Message> {
    range
        .map(|n| {
            let text = match keys {
                [] => format!("{producer}-{n}"),
                keys => format!("{producer}/{}-{}", keys[n % keys.len()], n / keys.len()),
            };
            let mut message = Message::new(text.clone()).with_id(text);
            message.set_key(keys.get(n % keys.len().max(1)).map(|key| MessageKey::from(*key)));
            message
        })
        .collect()
}

/// Declares as users do.
pub(super) const DECLARE: Declare = Declare::IfMissing;
