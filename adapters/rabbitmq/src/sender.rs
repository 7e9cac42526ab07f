use crate::buckets;
use crate::error::{error, lost, too_large, within};
use crate::ledger::{self, Batch, Identity, Published, Sent};
use crate::link::{FAREWELL, Told};
use crate::wire;
use anybroker_contract::{
    Clock, Confirm, Error, ErrorKind, Level, Message, Receipt, Result, SendOutcome, Sender, async_trait,
};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, PublisherConfirm};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where a sender publishes to, and what its results mean.
pub(crate) struct Route {
    pub(crate) exchange: ShortString,
    pub(crate) routing: Routing,
    pub(crate) to: To,
    pub(crate) level: Level,
    /// The broker refuses what is too much: then it is sent again until there is room.
    pub(crate) bounded: bool,
    pub(crate) frame_max: usize,
}

/// What the routing key of a message is.
pub(crate) enum Routing {
    /// The same for all.
    Fixed(ShortString),
    /// The message's key.
    Key,
    /// The bucket of the message's key.
    Bucket,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// A queue has to take each message.
    Queue,
    /// Subscriptions may be there or not.
    Subscriptions,
    /// A requester, who may be gone.
    Requester,
    /// A requester with RabbitMQ's direct replies: they come back even where they arrive.
    DirectRequester,
}

/// The sending end, on a channel of its own.
pub(crate) struct RabbitSender {
    channel: Channel,
    route: Arc<Route>,
    ledger: Option<mpsc::UnboundedSender<Batch>>,
    ended: Option<oneshot::Receiver<()>>,
    clock: Arc<dyn Clock>,
    /// Gives a message without key a routing key of its own.
    spread: usize,
    told: Told,
}

impl RabbitSender {
    pub(crate) fn new(channel: Channel, route: Route, told: Told, clock: Arc<dyn Clock>) -> Self {
        let route = Arc::new(route);
        let (ledger, batches) = mpsc::unbounded_channel();
        let (done, ended) = oneshot::channel();
        let keeping = ledger::keep(channel.clone(), Arc::clone(&route), batches);
        tokio::spawn(async move {
            keeping.await;
            // The sender may be gone.
            let _ = done.send(());
        });
        Self { channel, route, ledger: Some(ledger), ended: Some(ended), clock, spread: 0, told }
    }

    fn routing_key(&mut self, message: &Message) -> ShortString {
        self.spread = self.spread.wrapping_add(1);
        match (&self.route.routing, message.key()) {
            (Routing::Fixed(key), _) => key.clone(),
            (Routing::Bucket, Some(key)) => buckets::of_key(key.as_bytes()),
            (_, None) => buckets::numbered(self.spread),
            (Routing::Key, Some(key)) => {
                let text = key.as_text().and_then(|text| ShortString::try_new(text).ok());
                // AMQP has no place for it: any text will do that is the same for the same key.
                text.unwrap_or_else(|| buckets::of_key(key.as_bytes()))
            }
        }
    }

    fn prepare(&mut self, message: &Message) -> Result<(ShortString, Published, BasicProperties)> {
        let properties = wire::encode(message)?;
        let key = self.routing_key(message);
        let id = properties.message_id().as_ref().map(ShortString::as_str);
        let identity = Identity::new(key.as_str(), id, message.body());
        Ok((key, Published { identity, size: message.body().len() }, properties))
    }

    fn alive(&self) -> Result<&mpsc::UnboundedSender<Batch>> {
        let ledger = self.ledger.as_ref().ok_or_else(|| {
            error(ErrorKind::Closed, "the sender is closed").with_outcome(SendOutcome::NotSent)
        })?;
        match self.channel.status().connected() {
            true => Ok(ledger),
            false => Err(gone().with_outcome(SendOutcome::NotSent)),
        }
    }
}

type Publishing<'a> = Pin<Box<dyn Future<Output = lapin::Result<PublisherConfirm>> + Send + 'a>>;

enum Step<'a> {
    Waiting(Published, Publishing<'a>),
    Done(Option<Sent>),
}

#[async_trait]
impl Sender for RabbitSender {
    fn measure(&self, message: &Message) -> Result<usize> {
        wire::measure(message, self.route.frame_max)
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        if !self.route.bounded {
            return Ok(Confirm::pending(self.publish(batch).await?));
        }
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            results.push(self.publish_when_there_is_room(message).await);
        }
        Ok(Confirm::ready(results))
    }

    async fn close(&mut self) -> Result<()> {
        self.ledger = None;
        let Some(ended) = self.ended.take() else { return Ok(()) };
        let deadline = self.clock.now() + FAREWELL;
        let closing = async {
            // All that was published is confirmed first.
            let _ = ended.await;
            self.channel.close(200, "closed".into()).await
        };
        match within(&*self.clock, deadline, "closing the sender", closing).await? {
            Err(error) if self.told.link.is_live() => Err(lost("closing the sender", &error)),
            _ => Ok(()),
        }
    }
}

impl RabbitSender {
    /// Hands the batch to lapin in order; what became of it comes later.
    async fn publish(
        &mut self,
        batch: &[Message],
    ) -> Result<impl Future<Output = Vec<Result<Receipt>>> + Send + use<>> {
        let ledger = self.alive()?.clone();
        let options = BasicPublishOptions {
            mandatory: matches!(self.route.to, To::Queue | To::Requester),
            immediate: false,
        };
        let prepared: Vec<_> = batch.iter().map(|message| self.prepare(message)).collect();
        let (channel, route) = (&self.channel, &*self.route);
        let mut steps: Vec<Step<'_>> = prepared
            .into_iter()
            .zip(batch)
            .map(|(prepared, message)| match prepared {
                Err(error) => Step::Done(Some(Err(error.with_outcome(SendOutcome::NotSent)))),
                Ok((key, published, properties)) => {
                    let publishing = channel.basic_publish(
                        route.exchange.clone(),
                        key,
                        options,
                        message.body(),
                        properties,
                    );
                    Step::Waiting(published, Box::pin(publishing))
                }
            })
            .collect();
        // The first look at each takes its delivery tag and puts its frames in line: in the order of the batch, and before the next batch.
        poll_fn(|cx| {
            let mut waiting = false;
            for step in &mut steps {
                if let Step::Waiting(published, publishing) = step {
                    match publishing.as_mut().poll(cx) {
                        Poll::Pending => waiting = true,
                        Poll::Ready(Ok(confirm)) => *step = Step::Done(Some(Ok((*published, confirm)))),
                        Poll::Ready(Err(error)) => {
                            *step = Step::Done(Some(Err(route.failed(&error, published.size))))
                        }
                    }
                }
            }
            if waiting { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let sent = steps.into_iter().filter_map(|step| match step {
            Step::Done(sent) => sent,
            Step::Waiting(..) => None,
        });
        let (answer, answered) = oneshot::channel();
        let count = batch.len();
        // A ledger that has ended leaves the answer open, which is seen below.
        let _ = ledger.send(Batch { sent: sent.collect(), answer });
        Ok(async move {
            answered.await.unwrap_or_else(|_| {
                (0..count).map(|_| Err(gone().with_outcome(SendOutcome::Unknown))).collect()
            })
        })
    }

    async fn publish_when_there_is_room(&mut self, message: &Message) -> Result<Receipt> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut results = self.publish(std::slice::from_ref(message)).await?.await;
            match results.pop() {
                Some(Err(error)) if error.kind() == ErrorKind::Throttled => {
                    self.clock.sleep_until(self.clock.now() + pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Some(result) => return result,
                None => return Err(gone().with_outcome(SendOutcome::Unknown)),
            }
        }
    }
}

/// Between two looks at whether there is room: RabbitMQ does not say when there is.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

impl Route {
    pub(crate) const fn receipt(&self) -> Receipt {
        Receipt::new(self.level)
    }

    /// The connection or channel went while a message of that size was on its way: perhaps for its sake.
    pub(crate) fn failed(&self, failed: &lapin::Error, size: usize) -> Error {
        match too_large(failed, size) {
            Some(error) => error.with_outcome(SendOutcome::Refused),
            None => lost("sending", failed).with_outcome(SendOutcome::Unknown),
        }
    }

    /// The message came back.
    pub(crate) fn unroutable(&self) -> Error {
        let exchange = self.exchange.as_str();
        let key = match &self.routing {
            Routing::Fixed(key) => key.as_str(),
            Routing::Key | Routing::Bucket => "",
        };
        match self.to {
            To::Requester => error(ErrorKind::Rejected, format!("nobody waits at `{key}` any more")),
            _ => error(
                ErrorKind::NotFound,
                match exchange {
                    "" => format!("there is no queue `{key}`"),
                    _ => format!("the exchange `{exchange}` leads this message to no queue"),
                },
            )
            .with_help("declare the channel anew, or bind a queue for this routing key"),
        }
        .with_outcome(SendOutcome::Refused)
    }

    /// The broker has refused to take the message, for now.
    pub(crate) fn nacked(&self) -> Error {
        error(ErrorKind::Throttled, "RabbitMQ has refused the message: a queue is full, or not available")
            .with_outcome(SendOutcome::Refused)
    }

    /// A channel without confirms, which is never opened.
    pub(crate) fn unconfirmed(&self) -> Error {
        error(ErrorKind::Other, "the channel confirms nothing").with_outcome(SendOutcome::Unknown)
    }
}

fn gone() -> Error {
    error(ErrorKind::Disconnected, "the connection or its channel is gone")
}
