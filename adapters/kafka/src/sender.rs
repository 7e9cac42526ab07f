use crate::client::{Destination, Producer, Sent};
use crate::error::error;
use crate::receiver::FAREWELL;
use crate::wire;
use anybroker_contract::{
    Clock, Confirm, ErrorKind, Message, Receipt, Result, SendOutcome, Sender, async_trait,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where a sender's messages go.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) topic: String,
    /// By the key, unless it is a return address.
    pub(crate) partition: Option<i32>,
    /// Whose replies they are.
    pub(crate) owner: Option<String>,
}

/// The sending end of a topic. All senders of an adapter share a client.
pub(crate) struct KafkaSender {
    producer: Arc<Producer>,
    route: Route,
    sent: Arc<Sent>,
    told: u64,
    /// The largest message in bytes.
    largest: usize,
    closed: bool,
    clock: Arc<dyn Clock>,
}

impl KafkaSender {
    pub(crate) fn new(
        producer: Arc<Producer>,
        route: Route,
        told: u64,
        largest: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { producer, route, sent: Arc::default(), told, largest, closed: false, clock }
    }

    fn check(&self) -> Result<()> {
        let error = match (self.closed, self.producer.is_live()) {
            (false, true) => return Ok(()),
            (true, _) => error(ErrorKind::Closed, "the sender is closed"),
            // Whatever ended the client: another one may be let in where this one was not.
            (_, false) => {
                error(ErrorKind::Disconnected, "the client has ended").with_source(self.producer.gone())
            }
        };
        Err(error.with_outcome(SendOutcome::NotSent))
    }

    /// The batch has its room.
    fn hand_over(&self, batch: &[Message], bytes: usize) -> Confirm {
        let to = Destination {
            topic: &self.route.topic,
            partition: self.route.partition,
            owner: self.route.owner.as_deref(),
        };
        let now = self.clock.wall();
        let (places, answered) = self.producer.sheet(batch.len(), bytes, &self.sent);
        for (message, place) in batch.iter().zip(places) {
            self.producer.send(&to, message, now, place);
        }
        Confirm::pending(answers(answered, batch.len()))
    }
}

async fn answers(answered: oneshot::Receiver<Vec<Result<Receipt>>>, count: usize) -> Vec<Result<Receipt>> {
    answered.await.unwrap_or_else(|_| {
        let gone =
            || error(ErrorKind::Disconnected, "the client was closed").with_outcome(SendOutcome::Unknown);
        (0..count).map(|_| Err(gone())).collect()
    })
}

/// About what the client keeps of a batch.
fn bytes(batch: &[Message]) -> usize {
    batch.iter().map(Message::size).sum()
}

#[async_trait]
impl Sender for KafkaSender {
    fn measure(&self, message: &Message) -> Result<usize> {
        // Only near the limit does the header count that the time has when it is far from now.
        match wire::measure_within(self.largest, message)? {
            Some(size) => Ok(size),
            None => wire::measure(message, self.clock.wall()),
        }
    }

    fn try_send(&mut self, batch: &[Message]) -> Option<Result<Confirm>> {
        if let Err(dead) = self.check() {
            return Some(Err(dead));
        }
        if batch.is_empty() {
            return Some(Ok(Confirm::ready(Vec::new())));
        }
        let bytes = bytes(batch);
        self.producer.admit(batch.len(), bytes).then(|| Ok(self.hand_over(batch, bytes)))
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        if let Some(sent) = self.try_send(batch) {
            return sent;
        }
        let bytes = bytes(batch);
        self.producer.make_room(batch.len(), bytes).await;
        self.check()?;
        Ok(self.hand_over(batch, bytes))
    }

    async fn close(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        tokio::select! {
            () = self.sent.all_answered() => Ok(()),
            () = self.clock.sleep_until(self.clock.now() + FAREWELL) => {
                Err(error(ErrorKind::Timeout, "closing the sender: Kafka has not confirmed all of its messages"))
            }
        }
    }
}

impl Drop for KafkaSender {
    fn drop(&mut self) {
        self.producer.trouble().forget(self.told);
    }
}
