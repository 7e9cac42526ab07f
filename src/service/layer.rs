use super::Failure;
use super::context::Context;
use crate::adapter::{BoxFuture, Channel, Message, Receipt};
use crate::{Broker, Error, ErrorKind, Result};
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{self, Poll};
use tower_service::Service;

/// What layers give as an error, whatever it was: a [`Failure`] goes through it unchanged.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What a layer is around: handling a [`Context`], which gives the reply if there is one, or sending an [`Outgoing`] message.
pub struct Layered<Q, R>(Arc<Call<Q, R>>);

type Call<Q, R> = dyn Fn(Q) -> BoxFuture<'static, std::result::Result<R, BoxError>> + Send + Sync;

/// What handlers answer: the reply, if there is one.
pub(super) type Handling<S> = Layered<Context<S>, Option<Message>>;

/// What the broker says to a message that was sent.
pub(super) type Sending = Layered<Outgoing, Receipt>;

/// A message that a handler sends.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// Where to.
    pub channel: Channel,
    /// The message, which a layer may change.
    pub message: Message,
    broker: Broker,
}

impl Outgoing {
    pub(super) const fn new(broker: Broker, channel: Channel, message: Message) -> Self {
        Self { channel, message, broker }
    }

    pub(super) async fn send(self) -> Result<Receipt> {
        self.broker.send(&self.channel, self.message).await
    }
}

impl<Q, R> Layered<Q, R>
where
    Q: Send + 'static,
    R: 'static,
{
    pub(super) fn new<T>(service: T) -> Self
    where
        T: Service<Q, Response = R> + Clone + Send + Sync + 'static,
        T::Error: Into<BoxError>,
        T::Future: Send + 'static,
    {
        Self(Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                service.call(request).await.map_err(Into::into)
            })
        }))
    }

    pub(super) fn of(
        call: impl Fn(Q) -> BoxFuture<'static, std::result::Result<R, BoxError>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(call))
    }
}

impl<Q, R> Service<Q> for Layered<Q, R> {
    type Response = R;
    type Error = BoxError;
    type Future = BoxFuture<'static, std::result::Result<R, BoxError>>;

    /// Always ready: each call waits until the service below is.
    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Q) -> Self::Future {
        (self.0)(request)
    }
}

impl<Q, R> Layered<Q, R> {
    pub(super) async fn run(&self, request: Q) -> Result<R, Failure> {
        (self.0)(request).await.map_err(Failure::from_boxed)
    }
}

impl Sending {
    /// As sending without layers, as far as the error is one of sending.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<Receipt> {
        (self.0)(outgoing).await.map_err(|error| match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => Error::new(ErrorKind::Other, other.to_string()).with_source(Opaque(other)),
        })
    }
}

/// An error of a layer, as the source of one of ours.
#[derive(Debug)]
struct Opaque(BoxError);

impl StdError for Opaque {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<Q, R> Clone for Layered<Q, R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q, R> fmt::Debug for Layered<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layered")
    }
}
