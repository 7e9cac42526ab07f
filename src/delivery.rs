use crate::adapter::{Extensions, Message, Receipt};
use crate::inlet::{Inlet, Parcel};
use crate::{Body, Error, ErrorKind, IntoMessage, Result};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// One receipt of a message, to be settled by [`ack`](Delivery::ack), [`retry`](Delivery::retry) or [`reject`](Delivery::reject).
///
/// # Guarantees
/// Settling takes the delivery, so it cannot be settled twice. Dropped unsettled, it comes again and counts as failed.
#[must_use = "a delivery that is dropped unsettled comes again"]
pub struct Delivery {
    // Present until it is settled or dropped.
    parcel: Option<Parcel>,
    inlet: Arc<Inlet>,
}

#[expect(clippy::must_use_candidate, reason = "a settlement takes effect without being awaited")]
impl Delivery {
    #[inline]
    pub(crate) const fn new(parcel: Parcel, inlet: Arc<Inlet>) -> Self {
        Self { parcel: Some(parcel), inlet }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.parcel().message
    }

    /// The body.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when the message is of another type or its payload is not one of `B`. The delivery is still there to be settled.
    pub fn decode<B: Body>(&self) -> Result<B> {
        let message = self.message();
        if let Some(error) = self.undecodable() {
            return Err(error.duplicate());
        }
        // A foreign client may not say the type: then the payload decides.
        if let Some(other) = message.type_name().filter(|name| ***name != *B::TYPE) {
            let what = format!("the message is of type `{other}`, not `{}`", B::TYPE);
            return Err(Error::new(ErrorKind::InvalidMessage, what).with_operation("decode"));
        }
        B::decode(message.body())
    }

    /// The number of this attempt, the first being 1.
    ///
    /// Where the broker does not count (see [`Capability::AttemptCount`](crate::adapter::Capability::AttemptCount)) it begins anew with each consumer.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parcel().attempt
    }

    /// What only this broker knows about the delivery.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.parcel().extensions()
    }

    /// What is wrong with a record that could not be translated into a message. Its payload is the record as it came.
    ///
    /// Such a record is handed out only where there is no dead-letter channel.
    #[must_use]
    pub fn undecodable(&self) -> Option<&Error> {
        self.parcel().undecodable()
    }

    /// Whether the delivery belongs to this consumer no more: it comes again, perhaps elsewhere, and settling it fails.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.parcel().tie.is_lost()
    }

    /// Resolves when the delivery is lost; never if it is settled before.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.parcel().tie).lost()
    }

    /// Handled: it never comes again.
    #[doc(alias = "acknowledge", alias = "accept", alias = "commit")]
    pub fn ack(mut self) -> Settlement {
        match self.parcel.take() {
            Some(parcel) => self.inlet.ack(parcel),
            None => Settlement::done(Ok(())),
        }
    }

    /// Failed: it comes again, counted, no earlier than `after` from now.
    ///
    /// When the channel has a dead letter after n attempts and this was the n-th, it goes there instead.
    ///
    /// # Ordering
    /// On a channel with order per key the messages behind it with the same key wait.
    #[doc(alias = "nack", alias = "requeue", alias = "release")]
    pub fn retry(mut self, after: Duration) -> Settlement {
        match self.parcel.take() {
            Some(parcel) => self.inlet.retry(parcel, after),
            None => Settlement::done(Ok(())),
        }
    }

    /// Never to be handled: it goes to the dead-letter channel with that reason, under the same id, and is acknowledged once the broker has it there.
    ///
    /// # Errors
    /// The settlement fails with [`ErrorKind::Unsupported`] where there is no dead-letter channel; the delivery then comes again.
    #[doc(alias = "dead_letter", alias = "discard")]
    pub fn reject(mut self, reason: impl Into<String>) -> Settlement {
        match self.parcel.take() {
            Some(parcel) => self.inlet.reject(parcel, reason.into()),
            None => Settlement::done(Ok(())),
        }
    }

    /// Sends an answer to the return address of the message. The delivery is still to be settled.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidMessage`] when the message asks for no answer, [`ErrorKind::NotFound`] or [`ErrorKind::Rejected`] when the requester is gone, where
    /// the broker can tell,
    /// [`ErrorKind::Unauthorized`] when the address is not one of the broker's return addresses.
    pub async fn reply(&self, body: impl IntoMessage) -> Result<Receipt> {
        self.inlet.replier().reply(self.message(), body).await
    }

    /// Takes the contents out. The delivery is not to be used before they are back.
    #[inline]
    pub(crate) const fn lend(&mut self) -> Option<Parcel> {
        self.parcel.take()
    }

    #[inline]
    pub(crate) fn restore(&mut self, parcel: Option<Parcel>) {
        self.parcel = parcel;
    }

    /// The contents, for who settles them.
    #[inline]
    pub(crate) fn into_parcel(mut self) -> Option<Parcel> {
        self.parcel.take()
    }

    #[expect(clippy::expect_used, reason = "the parcel is taken only by methods that take the delivery")]
    fn parcel(&self) -> &Parcel {
        self.parcel.as_ref().expect("present until settled")
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(parcel) = self.parcel.take() {
            self.inlet.dropped(parcel);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("channel", &self.inlet.channel())
            .field("id", &self.message().id())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

/// What becomes of a settlement. It takes effect without being awaited; awaiting it says whether the broker has it.
///
/// # Errors
/// [`ErrorKind::LeaseLost`] when the delivery belonged to another consumer already, [`ErrorKind::Closed`] after close. A failed settlement that nobody
/// awaits is counted in [`ConsumerStatus::failed_settlements`](crate::status::ConsumerStatus::failed_settlements).
pub struct Settlement(Progress);

enum Progress {
    Done(Option<Result<()>>),
    Queued(Arc<Inlet>, u64, u64),
    Task(oneshot::Receiver<Result<()>>),
}

impl Settlement {
    pub(crate) const fn done(result: Result<()>) -> Self {
        Self(Progress::Done(Some(result)))
    }

    pub(crate) const fn queued(inlet: Arc<Inlet>, first: u64, last: u64) -> Self {
        Self(Progress::Queued(inlet, first, last))
    }

    pub(crate) const fn task(result: oneshot::Receiver<Result<()>>) -> Self {
        Self(Progress::Task(result))
    }

    pub(crate) const fn is_failed(&self) -> bool {
        matches!(self.0, Progress::Done(Some(Err(_))))
    }
}

impl Future for Settlement {
    type Output = Result<()>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.0 {
            Progress::Done(result) => Poll::Ready(result.take().unwrap_or(Ok(()))),
            Progress::Queued(inlet, first, last) => inlet.poll_settled(*first, *last, cx),
            Progress::Task(result) => Pin::new(result).poll(cx).map(|result| {
                result.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Closed, "the consumer ended before it was settled"))
                })
            }),
        }
    }
}

impl fmt::Debug for Settlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settlement")
    }
}
