use crate::adapter::{Capabilities, Channel, DeadLetters, Subscription};
use crate::broker::Broker;
use crate::closing::Closed;
use crate::inlet::{ConsumerStatus, Inlet};
use crate::{Batch, Delivery, Result};
use futures_core::Stream;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::coop::consume_budget;

/// Receives from a channel, one delivery after another.
///
/// # Guarantees
/// A lost connection or lease ends nothing: the consumer opens its receiver again and goes on. Dropped, it leaves in order, as with
/// [`close`](Consumer::close); deliveries that are still out can be settled until the close deadline.
///
/// # Ordering
/// On a channel with order per key, one delivery of a key is out at a time; the next comes when it is settled. Other keys flow.
pub struct Consumer {
    inlet: Arc<Inlet>,
    // Keeps the broker open.
    _broker: Option<Broker>,
}

impl Consumer {
    pub(crate) const fn new(inlet: Arc<Inlet>, broker: Option<Broker>) -> Self {
        Self { inlet, _broker: broker }
    }

    pub(crate) const fn inlet(&self) -> &Arc<Inlet> {
        &self.inlet
    }

    /// The next delivery; `None` once the consumer is closed.
    ///
    /// # Errors
    /// None today: it is for what cannot heal. A lost connection is not an error: see [`Consumer::status`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Result<Option<Delivery>> {
        consume_budget().await;
        let parcel = poll_fn(|cx| self.inlet.poll_next(cx)).await;
        Ok(parcel.map(|parcel| Delivery::new(parcel, Arc::clone(&self.inlet))))
    }

    /// Acknowledges that at once, and waits for the next delivery.
    pub(crate) async fn receive_after(&mut self, handled: Option<Delivery>) -> Option<Delivery> {
        let mut handled = handled.and_then(Delivery::into_parcel);
        let parcel = poll_fn(|cx| self.inlet.poll_after(&mut handled, cx)).await;
        let delivery = parcel.map(|parcel| Delivery::new(parcel, Arc::clone(&self.inlet)));
        consume_budget().await;
        delivery
    }

    /// The next deliveries: at least one, as many as are there, and at most `max`; `None` once the consumer is closed.
    ///
    /// # Errors
    /// As [`Consumer::receive`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn receive_batch(&mut self, max: usize) -> Result<Option<Batch>> {
        consume_budget().await;
        let parcels = poll_fn(|cx| self.inlet.poll_batch(max, cx)).await;
        Ok(parcels.map(|parcels| Batch::new(parcels, Arc::clone(&self.inlet))))
    }

    /// Resolves when the broker has everything that was settled before.
    ///
    /// # Errors
    /// The first settlement since the last flush that failed.
    pub async fn flush(&self) -> Result<()> {
        self.inlet.flush().await
    }

    /// Leaves in order: hands out nothing more, gives deliveries that are out until the close deadline to be settled, and gives the rest back.
    /// Again gives the same answer.
    ///
    /// # Errors
    /// None today.
    pub async fn close(&self) -> Result<Closed> {
        Ok(Closed { given_back: self.inlet.close().await, unsent: 0 })
    }

    /// How it is doing, and what it holds.
    #[must_use]
    pub fn status(&self) -> ConsumerStatus {
        self.inlet.status()
    }

    /// What really holds on this channel.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.inlet.capabilities()
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let inlet = &self.inlet;
        inlet.poll_next(cx).map(|parcel| parcel.map(|parcel| Ok(Delivery::new(parcel, Arc::clone(inlet)))))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inlet.leave();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("channel", &self.inlet.channel()).finish_non_exhaustive()
    }
}

/// Where a consumer receives from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveFrom {
    /// A point-to-point channel.
    Channel(Channel),
    /// A subscription to a publish-subscribe channel.
    Subscription(Subscription),
    /// The dead letters of a channel or subscription.
    DeadLetters(DeadLetters),
}

impl ReceiveFrom {
    pub(crate) const fn channel(&self) -> &Channel {
        match self {
            Self::Channel(channel) => channel,
            Self::Subscription(subscription) => subscription.channel(),
            Self::DeadLetters(dead) => dead.channel(),
        }
    }
}

impl From<&Channel> for ReceiveFrom {
    fn from(channel: &Channel) -> Self {
        Self::Channel(channel.clone())
    }
}

impl From<Subscription> for ReceiveFrom {
    fn from(subscription: Subscription) -> Self {
        Self::Subscription(subscription)
    }
}

impl From<DeadLetters> for ReceiveFrom {
    fn from(dead_letters: DeadLetters) -> Self {
        Self::DeadLetters(dead_letters)
    }
}
