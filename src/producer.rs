use crate::adapter::{Capabilities, Receipt};
use crate::broker::Broker;
use crate::outlet::{Outlet, Sending};
use crate::{IntoMessage, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::coop::consume_budget;

/// Sends to a channel. Cheap to clone.
///
/// # Guarantees
/// A send ends with the broker's word, or with an error that says what became of the message: not sent, refused, or unknown; at the latest at its
/// deadline. What is sent again after a loss keeps its id.
///
/// # Ordering
/// Sends are ordered by their first poll, over all producers that one broker has for the channel. On a channel with order per key, when a message fails,
/// later ones of its key that were not handed over yet fail too.
#[derive(Clone)]
pub struct Producer {
    outlet: Arc<Outlet>,
    within: Duration,
    // Keeps the broker open.
    _broker: Broker,
}

impl Producer {
    pub(crate) const fn new(outlet: Arc<Outlet>, within: Duration, broker: Broker) -> Self {
        Self { outlet, within, _broker: broker }
    }

    /// Sends one message and waits for the broker's word.
    ///
    /// # Errors
    /// See [`Error::outcome`](crate::Error::outcome) for what became of the message, and [`Error::into_message`](crate::Error::into_message) to have it back.
    ///
    /// # Cancel safety
    /// A message whose future is dropped after its first poll may still be sent.
    #[doc(alias = "publish")]
    pub async fn send(&self, body: impl IntoMessage) -> Result<Receipt> {
        match self.outlet.send(body.into_message()?, self.within) {
            Sending::Done(result) => {
                // Sent already: a loop of sends that never wait must not keep its worker from everyone else.
                consume_budget().await;
                result
            }
            Sending::Waiting(answers) => {
                answers.one().await.map_err(|e| self.outlet.link().explain(e, "send"))
            }
        }
    }

    /// Sends all in their order and gives one result for each, in the same order.
    ///
    /// A body without an encoding is not sent and fails alone.
    pub async fn send_all<I>(&self, bodies: I) -> Vec<Result<Receipt>>
    where
        I: IntoIterator,
        I::Item: IntoMessage,
    {
        let mut messages = Vec::new();
        let mut refused = Vec::new();
        for (index, body) in bodies.into_iter().enumerate() {
            match body.into_message() {
                Ok(message) => messages.push(message),
                Err(error) => refused.push((index, error)),
            }
        }
        let mut results = self.outlet.send_all(messages, self.within).await;
        consume_budget().await;
        for (index, error) in refused {
            results.insert(index, Err(self.outlet.link().explain(error, "send")));
        }
        results
    }

    /// What really holds on this channel.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.outlet.capabilities()
    }

    /// Resolves when everything that was sent before, by any producer of the channel, has its result.
    pub async fn flush(&self) {
        self.outlet.flush().await;
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("channel", &self.outlet.link().binding.channel.name())
            .finish_non_exhaustive()
    }
}
