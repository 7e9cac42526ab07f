//! What a test sees of a service.

use crate::adapter::{Channel, Message};
use crate::{Error, Settlement};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Is told what becomes of messages.
pub(crate) trait Observer: fmt::Debug + Send + Sync {
    /// Comes once the broker has it.
    fn decided(&self, message: &Message, attempt: u32, decision: Decision);

    /// An error to give instead of sending.
    fn refuses(&self, channel: &Channel) -> Option<Error>;

    /// The broker has taken it from a handler.
    fn sent(&self, channel: &Channel, message: Message);
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Acknowledged,
    /// Acknowledged without a handler: nobody wants it.
    Ignored,
    /// Acknowledged without a handler: it was handled before.
    Duplicate,
    Retried(String, Duration),
    Rejected(String),
}

/// A message about which something will be decided.
pub(super) struct Observed {
    pub(super) observer: Arc<dyn Observer>,
    pub(super) message: Message,
    pub(super) attempt: u32,
}

impl Observed {
    /// Tells it once it is settled.
    pub(super) fn tell(self, settlement: Settlement, decision: Decision) {
        tokio::spawn(async move {
            // A settlement that failed has the message come again, and then this is told again.
            if settlement.await.is_ok() {
                self.observer.decided(&self.message, self.attempt, decision);
            }
        });
    }
}
