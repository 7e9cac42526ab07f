use super::Failure;
use super::desk::Desk;
use super::handler::Answer;
use super::layer::Outgoing;
use super::spans;
use crate::adapter::{BoxFuture, Channel, Message, MessageId, Receipt};
use crate::builder::Request;
use crate::inlet::Tie;
use crate::{Broker, Command, Delivery, IntoMessage, Result};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tracing::Instrument;

/// What a handler knows beside the body of its message, and what it sends with. Cheap to clone.
///
/// What is sent through it continues the conversation of the message: it has its correlation id, or else its id, as correlation id, and its trace.
pub struct Context<S = ()>(Arc<Call<S>>);

/// One receipt of a message, which its handler shares with whom it likes.
struct Call<S> {
    desk: Arc<Desk<S>>,
    message: Message,
    attempt: u32,
    tie: Arc<Tie>,
}

/// A delivery whose message is lent to its handler. Dropped, it comes again with its message.
pub(super) struct Lent<S>(Option<(Delivery, Arc<Call<S>>)>);

/// The headers that pass on a trace, by the names of W3C Trace Context.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

impl<S> Lent<S> {
    pub(super) fn new(desk: Arc<Desk<S>>, mut delivery: Delivery) -> Self {
        let (attempt, tie) = (delivery.attempt(), Arc::clone(delivery.tie()));
        let call = Call { desk, message: delivery.lend(), attempt, tie };
        Self(Some((delivery, Arc::new(call))))
    }

    pub(super) fn context(&self) -> Option<Context<S>> {
        self.0.as_ref().map(|(_, call)| Context(Arc::clone(call)))
    }

    /// The delivery with its message. It was given back before if there is none.
    pub(super) fn back(&mut self) -> Option<(Arc<Desk<S>>, Delivery)> {
        let (mut delivery, call) = self.0.take()?;
        let (desk, message) = match Arc::try_unwrap(call) {
            Ok(call) => (call.desk, call.message),
            // The handler has left its context with somebody.
            Err(call) => (Arc::clone(&call.desk), call.message.clone()),
        };
        delivery.restore(message);
        Some((desk, delivery))
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        drop(self.back());
    }
}

impl<S> Context<S> {
    /// The message as it came.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The number of this attempt, the first being 1. See [`Delivery::attempt`](crate::Delivery::attempt).
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
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
        Arc::clone(&self.0.tie).lost()
    }

    /// Has the message handled by the handler that it is for.
    pub(super) fn handle(self) -> BoxFuture<'static, Answer>
    where
        S: Send + Sync + 'static,
    {
        let desk = Arc::clone(&self.0.desk);
        match desk.endpoint(self.message()) {
            Some(endpoint) => endpoint.handle(self),
            None => Box::pin(std::future::ready(Err(Failure::reject("no handler for the message")))),
        }
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
