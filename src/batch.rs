use crate::adapter::Message;
use crate::inlet::{Inlet, Parcel};
use crate::{Delivery, Settlement};
use std::fmt;
use std::sync::Arc;

/// Several deliveries that came together, to be settled together or one by one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anybroker::Result<()> {
/// # use anybroker::{Broker, Channel, Message};
/// # static ORDERS: Channel = Channel::point_to_point("orders");
/// # let broker = Broker::connect("memory://").await?;
/// # let mut orders = broker.consumer(&ORDERS).await?;
/// # broker.send(&ORDERS, Message::new("two dishes")).await?;
/// if let Some(batch) = orders.receive_batch(100).await? {
///     let bytes: usize = batch.messages().map(|message| message.body().len()).sum();
///     assert_eq!(bytes, 10);
///     batch.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "deliveries that are dropped unsettled come again"]
pub struct Batch {
    parcels: Vec<Parcel>,
    inlet: Arc<Inlet>,
}

#[expect(clippy::must_use_candidate, reason = "a settlement takes effect without being awaited")]
impl Batch {
    pub(crate) const fn new(parcels: Vec<Parcel>, inlet: Arc<Inlet>) -> Self {
        Self { parcels, inlet }
    }

    /// How many deliveries there are, at least one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// The messages, in their order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.parcels.iter().map(|parcel| &parcel.message)
    }

    /// All handled: none comes again. The settlement fails with the first failure, if any.
    pub fn ack(mut self) -> Settlement {
        self.inlet.ack_all(std::mem::take(&mut self.parcels))
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("channel", &self.inlet.channel())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl IntoIterator for Batch {
    type Item = Delivery;
    type IntoIter = std::vec::IntoIter<Delivery>;

    /// The deliveries, each to be settled by itself.
    fn into_iter(mut self) -> Self::IntoIter {
        let parcels = std::mem::take(&mut self.parcels);
        let deliveries = parcels.into_iter().map(|parcel| Delivery::new(parcel, Arc::clone(&self.inlet)));
        deliveries.collect::<Vec<_>>().into_iter()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for parcel in self.parcels.drain(..) {
            self.inlet.dropped(parcel);
        }
    }
}
