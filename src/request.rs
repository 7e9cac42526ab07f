use crate::adapter::{BoxFuture, Channel, Text};
use crate::broker::Broker;
use crate::clock::later;
use crate::{Body, Error, ErrorKind, Message, Result};
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

/// A request that is sent when it is awaited, and resolves with the reply.
///
/// # Guarantees
/// A reply reaches the request it answers and no other. One that comes late is counted and dropped.
///
/// # Errors
/// [`ErrorKind::Timeout`] when no reply has come before the deadline, [`ErrorKind::Disconnected`] when the return address is lost meanwhile, and what
/// sending gives.
#[must_use = "a request is sent when it is awaited"]
#[derive(Debug)]
pub struct Request<R> {
    broker: Broker,
    channel: Channel,
    message: Result<Message>,
    within: Duration,
    reply: PhantomData<fn() -> R>,
}

impl<R: Body> Request<R> {
    pub(crate) const fn new(
        broker: Broker,
        channel: Channel,
        message: Result<Message>,
        within: Duration,
    ) -> Self {
        Self { broker, channel, message, within, reply: PhantomData }
    }

    /// How long to wait for the reply, sending included. The default is 30 s.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    async fn run(self) -> Result<R> {
        let clock = self.broker.clock();
        let within = self.within;
        let channel = self.channel.name().to_owned();
        let deadline = later(clock.now(), within);
        tokio::select! {
            reply = self.exchange() => reply,
            () = clock.sleep_until(deadline) => {
                let late = Error::new(ErrorKind::Timeout, format!("no reply came within {within:?}"));
                Err(late.with_operation("request").with_channel(channel))
            }
        }
    }

    async fn exchange(self) -> Result<R> {
        let mut message = self.message?;
        let clock = self.broker.clock();
        let explain = |error: Error| error.with_operation("request").with_channel(self.channel.name());
        let mailbox = self.broker.mailbox(&self.channel)?;
        let producer = self.broker.producer(&self.channel).deadline(self.within).await?;
        let id = crate::id::new_id(clock.wall());
        let correlation: Text = id.to_text();
        let address = mailbox.address().await.map_err(explain)?;
        message.set_reply_to(address.text.clone());
        message.set_correlation_id(correlation.clone());
        if message.id().is_none() {
            message.set_id(id);
        }
        if message.expires_at().is_none() {
            // Nobody waits for the answer after that.
            message.set_expires_at(clock.wall().after(self.within));
        }
        let mut expected = mailbox.expect(correlation, &address);
        producer.send(message).await?;
        let reply = expected.reply().await.map_err(explain)?;
        if let Some(other) = reply.type_name().filter(|name| ***name != *R::TYPE) {
            let what = format!("the reply is of type `{other}`, not `{}`", R::TYPE);
            return Err(explain(Error::new(ErrorKind::InvalidMessage, what)));
        }
        R::decode(reply.body()).map_err(explain)
    }
}

impl<R: Body + 'static> IntoFuture for Request<R> {
    type Output = Result<R>;
    type IntoFuture = BoxFuture<'static, Result<R>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
