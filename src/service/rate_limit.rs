use super::layer::BoxError;
use crate::adapter::{BoxFuture, Clock, SystemClock};
use crate::clock::later;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant};
use tower_layer::Layer;
use tower_service::Service;

/// A layer that lets through so many messages in a time, evenly, on all channels of the service together. Those that come sooner wait.
///
/// What waits counts as being handled: it has a place in [`Policy::concurrency`](super::Policy::concurrency), keeps its lease, and uses up
/// [`Policy::timeout`](super::Policy::timeout).
///
/// ```
/// use anybroker::service::RateLimit;
/// use anybroker::{Body, Channel, Context, Failure, Service};
/// # use serde::{Deserialize, Serialize};
/// # static ORDERS: Channel = Channel::point_to_point("orders");
/// # #[derive(Serialize, Deserialize)]
/// # struct Order { id: u64 }
/// # impl Body for Order { const TYPE: &'static str = "order"; }
/// # async fn create(_: Order, _: Context) -> Result<(), Failure> { Ok(()) }
/// use std::time::Duration;
///
/// let slow = Service::new("kitchen").handle(&ORDERS, create).layer(RateLimit::new(100, Duration::from_secs(1)));
/// # let _ = slow;
/// ```
#[derive(Clone)]
pub struct RateLimit {
    clock: Arc<dyn Clock>,
    every: Duration,
    /// When the next message may pass.
    next: Arc<Mutex<Option<Instant>>>,
}

impl RateLimit {
    /// So many messages (at least one) in that time.
    #[must_use]
    pub fn new(messages: u32, within: Duration) -> Self {
        Self::with_clock(messages, within, Arc::new(SystemClock::new()))
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(messages: u32, within: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { clock, every: within / messages.max(1), next: Arc::default() }
    }

    /// Takes the next moment at which a message may pass.
    fn turn(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(later(turn, self.every));
        turn
    }
}

impl<T> Layer<T> for RateLimit {
    type Service = RateLimited<T>;
    fn layer(&self, inner: T) -> RateLimited<T> {
        RateLimited { limit: self.clone(), inner }
    }
}

/// What [`RateLimit`] makes.
#[derive(Clone, Debug)]
pub struct RateLimited<T> {
    limit: RateLimit,
    inner: T,
}

impl<T, Q> Service<Q> for RateLimited<T>
where
    T: Service<Q> + Clone + Send + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    Q: Send + 'static,
{
    type Response = T::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<T::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        // The one that is ready is used, and a fresh one left in its place.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let turn = self.limit.clock.sleep_until(self.limit.turn());
        Box::pin(async move {
            turn.await;
            inner.call(request).await.map_err(Into::into)
        })
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("every", &self.every).finish_non_exhaustive()
    }
}
