use super::Failure;
use super::desk::Desk;
use super::handler::Answer;
use super::layer::Outgoing;
use super::seat::nothing;
use super::spans;
use crate::adapter::{BoxFuture, Channel, Extensions, Message, MessageId, Receipt};
use crate::builder::Request;
use crate::clock::later;
use crate::inlet::Parcel;
use crate::{Broker, Command, Delivery, IntoMessage, Result};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::Instrument;

/// What a handler knows beside the body of its message, and what it sends with. Cheap to clone.
///
/// What is sent through it continues the conversation of the message: it has its correlation id, or else its id, as correlation id, and its trace.
pub struct Context<S = ()>(Arc<Call<S>>);

/// One receipt of a message, which its handler shares with whom it likes.
pub(super) struct Call<S> {
    desk: Arc<Desk<S>>,
    // Present as long as there is a context.
    parcel: Option<Parcel>,
    /// Until when the handler may take, where it has asked for more time.
    until: Mutex<Option<Instant>>,
}

/// A delivery whose message is lent to its handler. Dropped, it comes again with its message.
pub(super) struct Lent<S>(Option<(Delivery, Arc<Call<S>>)>);

/// The headers that pass on a trace, by the names of W3C Trace Context.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

impl<S> Call<S> {
    #[expect(clippy::expect_used, reason = "it is taken back only when no context is left")]
    fn parcel(&self) -> &Parcel {
        self.parcel.as_ref().expect("present as long as there is a context")
    }
}

impl<S> Lent<S> {
    /// An earlier call is used again, unless its handler has left the context with somebody.
    pub(super) fn new(
        desk: &Arc<Desk<S>>,
        mut delivery: Delivery,
        earlier: Option<Arc<Call<S>>>,
    ) -> (Self, Context<S>) {
        let parcel = delivery.lend();
        let call = |parcel| Arc::new(Call { desk: Arc::clone(desk), parcel, until: Mutex::default() });
        let mut lent = earlier.unwrap_or_else(|| call(None));
        match Arc::get_mut(&mut lent) {
            Some(free) => {
                free.parcel = parcel;
                free.until = Mutex::default();
            }
            None => lent = call(parcel),
        }
        let context = Context(Arc::clone(&lent));
        (Self(Some((delivery, lent))), context)
    }

    /// Until when the handler has asked to be let.
    pub(super) fn until(&self) -> Option<Instant> {
        let (_, call) = self.0.as_ref()?;
        *call.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The delivery with its message, and the call. There is none only where it was given back before.
    pub(super) fn back(mut self) -> Option<(Delivery, Arc<Call<S>>)> {
        self.give_back()
    }

    fn give_back(&mut self) -> Option<(Delivery, Arc<Call<S>>)> {
        let (mut delivery, mut call) = self.0.take()?;
        delivery.restore(match Arc::get_mut(&mut call) {
            Some(call) => call.parcel.take(),
            // The handler has left its context with somebody.
            None => call.parcel.as_ref().map(Parcel::copy),
        });
        Some((delivery, call))
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        drop(self.give_back());
    }
}

impl<S> Context<S> {
    /// The message as it came.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.parcel().message
    }

    /// The number of this attempt, the first being 1. See [`Delivery::attempt`](crate::Delivery::attempt).
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.parcel().attempt
    }

    /// What only this broker knows about the delivery.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        self.0.parcel().extensions()
    }

    /// The channel that it came by.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        self.0.desk.channel()
    }

    /// The state of the service.
    #[must_use]
    pub fn state(&self) -> &S {
        self.0.desk.state()
    }

    /// The broker that the service runs on. What is sent through it directly is no part of the conversation.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        self.0.desk.broker()
    }

    /// Resolves when the message belongs to another consumer: what is still done for it is done twice.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.0.parcel().tie).lost()
    }

    /// Lets this attempt take that long from now at least, whatever [`Policy::timeout`](super::Policy::timeout) says. Again counts from then.
    ///
    /// Where there is no time-out it changes nothing: what the broker has lent for a time is extended as long as the handler runs.
    pub fn extend(&self, by: Duration) {
        let until = later(self.0.desk.shared.clock.now(), by);
        *self.0.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Has the message handled by the handler that it is for.
    pub(super) fn handle(self) -> BoxFuture<'static, Answer>
    where
        S: Send + Sync + 'static,
    {
        let desk = Arc::clone(&self.0.desk);
        let Some(endpoint) = desk.endpoint(self.message()) else {
            return Box::pin(std::future::ready(Err(Failure::reject("no handler for the message"))));
        };
        let mut work = nothing();
        endpoint.begin(self, &mut work);
        Box::pin(work)
    }

    fn continued(&self, mut message: Message) -> Message {
        let cause = self.message();
        if message.correlation_id().is_none() {
            let conversation = cause.correlation_id().cloned();
            message.set_correlation_id(conversation.or_else(|| cause.id().map(MessageId::to_text)));
        }
        // A trace that the application has given is its own.
        if !message.headers().contains(TRACE[0]) {
            for name in TRACE {
                if let Some(value) = cause.headers().bytes(name) {
                    message.headers_mut().set(name, value.clone());
                }
            }
        }
        message
    }
}

impl<S: Send + Sync + 'static> Context<S> {
    /// Sends a message that continues the conversation, and waits for the broker's word.
    ///
    /// # Errors
    /// As [`Broker::send`], and those of layers around it.
    pub async fn send(&self, channel: &Channel, body: impl IntoMessage) -> Result<Receipt> {
        let message = self.continued(body.into_message()?);
        let shared = &self.0.desk.shared;
        let Some(observer) = &shared.observer else {
            return self.pass_on(channel, message).await;
        };
        if let Some(refused) = observer.refuses(channel) {
            return Err(refused.with_operation("send").with_channel(channel.name()));
        }
        let sent = message.clone();
        let receipt = self.pass_on(channel, message).await?;
        observer.sent(channel, sent);
        Ok(receipt)
    }

    async fn pass_on(&self, channel: &Channel, message: Message) -> Result<Receipt> {
        let span = spans::send(channel);
        match &self.0.desk.shared.send_layers {
            None => self.broker().send(channel, message).instrument(span).await,
            Some(layers) => {
                let outgoing = Outgoing::new(self.broker().clone(), channel.clone(), message);
                layers.send(outgoing).instrument(span).await
            }
        }
    }

    /// Sends a command that continues the conversation, and waits for its reply when awaited.
    pub fn request<C: Command>(&self, channel: &Channel, ask: &C) -> Request<C::Reply> {
        self.broker().request_message(channel, ask.into_message().map(|message| self.continued(message)))
    }
}

impl<S> Clone for Context<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("channel", &self.channel().name())
            .field("id", &self.message().id())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
