//! The broken sending side.

use crate::adapter::Shared;
use crate::fault::Fault;
use anybroker::adapter::{
    Confirm, Error, ErrorKind, Level, Message, MessageKey, Receipt, Result, SendOutcome, Sender, async_trait,
};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) struct MutantSender {
    pub(crate) inner: Box<dyn Sender>,
    pub(crate) fault: Fault,
    pub(crate) shared: Arc<Shared>,
    pub(crate) channel: String,
    sent: usize,
    of_key: HashMap<MessageKey, usize>,
    overtaken: Option<Message>,
}

impl MutantSender {
    pub(crate) fn new(inner: Box<dyn Sender>, fault: Fault, shared: Arc<Shared>, channel: String) -> Self {
        Self { inner, fault, shared, channel, sent: 0, of_key: HashMap::new(), overtaken: None }
    }

    /// What goes out in place of the message.
    fn mutated(&mut self, message: &Message) -> Vec<Message> {
        let mut message = message.clone();
        self.sent += 1;
        match self.fault {
            Fault::Alters(alteration) => alteration.apply(&mut message),
            Fault::LosesOne if self.sent == 3 => return Vec::new(),
            Fault::DuplicatesOne if self.sent == 3 => return vec![message.clone(), message],
            Fault::SwapsTwoOfAKey => return self.swapped(message),
            Fault::DropsUnheard if !self.shared.is_heard(&self.channel) => return Vec::new(),
            Fault::CloseDropsSends if self.sent > 20 => return Vec::new(),
            _ => {}
        }
        vec![message]
    }

    fn swapped(&mut self, message: Message) -> Vec<Message> {
        let Some(key) = message.key().cloned() else { return vec![message] };
        if self.overtaken.as_ref().is_some_and(|overtaken| overtaken.key() == Some(&key)) {
            return [message].into_iter().chain(self.overtaken.take()).collect();
        }
        let count = self.of_key.entry(key).or_insert(0);
        *count += 1;
        if *count == 2 && self.overtaken.is_none() {
            self.overtaken = Some(message);
            return Vec::new();
        }
        vec![message]
    }
}

#[async_trait]
impl Sender for MutantSender {
    fn measure(&self, message: &Message) -> Result<usize> {
        match self.fault {
            Fault::MeasuresPayloadOnly => Ok(message.body().len()),
            _ => self.inner.measure(message),
        }
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        if self.fault == Fault::RefusesUnheard && !self.shared.is_heard(&self.channel) {
            return Err(Error::new(ErrorKind::Rejected, "nobody listens").with_outcome(SendOutcome::Refused));
        }
        let count = batch.len();
        let taken = if self.fault == Fault::CutsBatches { &batch[..count.min(10)] } else { batch };
        let mutated: Vec<Message> = taken.iter().flat_map(|message| self.mutated(message)).collect();
        if mutated.is_empty() {
            return Ok(Confirm::accepted(Receipt::new(Level::Broker)));
        }
        let sending = self.inner.send_batch(&mutated).await;
        let confirm = match (sending, self.fault) {
            (Ok(confirm), _) => confirm,
            (Err(_), Fault::AcceptsWhenDead) => return Ok(Confirm::accepted(Receipt::new(Level::Broker))),
            (Err(_), Fault::HangsWhenDead) => std::future::pending().await,
            (Err(error), _) => return Err(error),
        };
        let (fault, sent) = (self.fault, mutated.len());
        Ok(Confirm::pending(async move {
            let mut results = confirm.await.into_results(sent);
            if fault == Fault::HangsWhenDead && results.iter().any(Result::is_err) {
                std::future::pending::<()>().await;
            }
            let accepted = || Ok(Receipt::new(Level::Broker));
            for result in &mut results {
                match (fault, &mut *result) {
                    (Fault::AcceptsWhenDead, Err(_)) => *result = accepted(),
                    (Fault::ReportsUnknownAsNotSent, Err(error)) => {
                        *result = Err(error.duplicate().with_outcome(SendOutcome::NotSent));
                    }
                    (Fault::LowReceipts, Ok(receipt)) => receipt.level = Level::Kernel,
                    _ => {}
                }
            }
            // The mutation changes how many go out; the caller knows only what it gave.
            results.resize_with(count, accepted);
            if fault == Fault::ShortConfirm {
                results.pop();
            }
            results
        }))
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}
