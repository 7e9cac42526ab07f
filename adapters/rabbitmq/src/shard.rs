//! One queue as one consumer sees it.

use crate::error::{error, lost};
use crate::receiver::lease_lost;
use crate::wire;
use anybroker_contract::{Error, ErrorKind, Outcome, Received, Scope, Settle, Token};
use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// A consumer of one queue, on a channel of its own: when that closes, the broker takes back all that is unsettled at once, in its old place, and only
/// then turns to the next consumer.
pub(crate) struct Shard {
    pub(crate) scope: Scope,
    pub(crate) terms: Terms,
    channel: Channel,
    state: Mutex<State>,
}

/// On what terms a queue is consumed from.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) queue: ShortString,
    pub(crate) prefetch: u16,
    /// It is one of the queues of a channel in order: it has one active consumer, and routing keys that are no buckets are keys.
    pub(crate) ordered: bool,
    /// Numbers the scopes: one that comes back is another.
    pub(crate) scopes: Arc<AtomicU64>,
}

impl Terms {
    fn scope(&self) -> Scope {
        match self.ordered {
            true => Scope::new(self.scopes.fetch_add(1, Ordering::Relaxed)),
            false => Scope::WHOLE,
        }
    }
}

struct State {
    /// Dropped after the channel has closed: dropping it cancels, and a cancelled consumer lets the next one overtake what it still holds.
    consumer: Option<Consumer>,
    /// What did not fit into the room that was left.
    waiting: Option<Delivery>,
    /// The tags of what is handed out, and whether it was given back.
    out: BTreeMap<u64, bool>,
    /// Why there is nothing more.
    gone: Option<Error>,
    /// The broker's active consumer, as far as is known.
    active: bool,
    /// Until when it has to be given away.
    revoked: Option<Instant>,
}

/// What there is next.
pub(crate) enum Next {
    /// A delivery, and its size as rooms are counted.
    Delivery(Received, usize),
    Nothing,
    Gone(Error),
}

impl Shard {
    /// Begins to consume.
    pub(crate) async fn open(channel: Channel, terms: Terms) -> lapin::Result<Self> {
        channel.basic_qos(terms.prefetch, BasicQosOptions::default()).await?;
        // Where nobody is, this is the active one; elsewhere the first delivery says so.
        let active = terms.ordered && consumers(&channel, &terms.queue).await? == 0;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(terms.queue.clone(), "".into(), options, arguments).await?;
        let consumer = Some(consumer);
        let state =
            State { consumer, waiting: None, out: BTreeMap::new(), gone: None, active, revoked: None };
        Ok(Self { scope: terms.scope(), terms, channel, state: Mutex::new(state) })
    }

    /// Whether this is the broker's active consumer and may stay so.
    pub(crate) fn is_active(&self) -> bool {
        let state = self.state();
        state.active && state.revoked.is_none()
    }

    pub(crate) fn unsettled(&self) -> usize {
        self.state().out.len()
    }

    /// It has to be given away until then, and hands out nothing more.
    pub(crate) fn revoke(&self, deadline: Instant) {
        self.state().revoked = Some(deadline);
    }

    /// Whether the time to give it away is over.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.state().revoked.is_some_and(|deadline| deadline <= now)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.channel.status().connected()
    }

    pub(crate) fn poll_next(&self, room: usize, cx: &mut Context<'_>) -> Next {
        let mut state = self.state();
        if state.revoked.is_some() {
            return Next::Nothing;
        }
        let delivery = match state.next(cx) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => return Next::Nothing,
            Err(error) => return Next::Gone(error),
        };
        // Size as the contract counts it is known only of a message; what is larger on the wire is taken for it.
        let size = delivery.data.len();
        if size > room {
            state.waiting = Some(delivery);
            return Next::Nothing;
        }
        let tag = delivery.delivery_tag;
        state.out.insert(tag, false);
        state.active = true;
        let token = Token::pair(self.scope.number(), tag);
        let received = wire::decode(delivery, token, self.terms.ordered).with_scope(self.scope);
        let size = received.content.as_ref().map_or(size, anybroker_contract::Message::size);
        Next::Delivery(received, size)
    }

    /// Settles each and answers each: acknowledges, or gives back.
    pub(crate) async fn settle(&self, batch: Vec<&mut Settle>) {
        let mut acks = Vec::new();
        let mut releases = Vec::new();
        let mut settled = Vec::new();
        let upto = {
            let mut state = self.state();
            for settle in batch {
                let tag = settle.token.as_number();
                if state.out.get(&tag) != Some(&false) {
                    settle.result = Some(Err(lease_lost()));
                    continue;
                }
                match settle.outcome {
                    Outcome::Ack => {
                        state.out.remove(&tag);
                        acks.push(tag);
                    }
                    // The broker would hand it to its active consumer again, which is this one: it goes back when the channel closes.
                    _ if self.terms.ordered => {
                        state.out.insert(tag, true);
                    }
                    _ => {
                        state.out.remove(&tag);
                        releases.push(tag);
                    }
                }
                settled.push(settle);
            }
            // All older ones are settled with it.
            state.out.keys().next().map_or(u64::MAX, |first| *first)
        };
        let failed = self.tell(acks, releases, upto).await.err();
        for settle in settled {
            settle.result = Some(match &failed {
                None => Ok(()),
                Some(error) => Err(lost("settling", error)),
            });
        }
    }

    /// Acknowledges as one what is older than `first`, and all else one by one.
    async fn tell(&self, mut acks: Vec<u64>, releases: Vec<u64>, first: u64) -> lapin::Result<()> {
        acks.sort_unstable();
        let single = acks.partition_point(|tag| *tag < first);
        // A release in between must not be acknowledged with its neighbours.
        let together = releases.is_empty() && single > 1;
        let mut telling = Vec::new();
        if together {
            telling.push(self.channel.basic_ack(acks[single - 1], BasicAckOptions { multiple: true }));
            acks.drain(..single);
        }
        telling.extend(acks.iter().map(|tag| self.channel.basic_ack(*tag, BasicAckOptions::default())));
        let requeue = BasicNackOptions { requeue: true, multiple: false };
        let giving_back = releases.iter().map(|tag| self.channel.basic_nack(*tag, requeue));
        let (told, given_back) = futures_util::future::join(join_all(telling), join_all(giving_back)).await;
        told.into_iter().chain(given_back).collect()
    }

    /// Ends consuming, for queues without order: what was not handed out goes to the others at once.
    pub(crate) async fn cancel(&self) -> lapin::Result<()> {
        let tag = self.state().consumer.as_ref().map(Consumer::tag);
        let Some(tag) = tag else { return Ok(()) };
        self.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
        let mut unseen = Vec::new();
        {
            let mut state = self.state();
            let mut cx = Context::from_waker(Waker::noop());
            while let Ok(Some(delivery)) = state.next(&mut cx) {
                unseen.push(delivery.delivery_tag);
            }
        }
        let requeue = BasicNackOptions { requeue: true, multiple: false };
        let giving_back = unseen.iter().map(|tag| self.channel.basic_nack(*tag, requeue));
        join_all(giving_back).await.into_iter().collect()
    }

    /// Asks what is answered, and changes nothing.
    pub(crate) async fn round_trip(&self) -> lapin::Result<()> {
        self.channel.basic_qos(self.terms.prefetch, BasicQosOptions::default()).await
    }

    /// Leaves; the broker has all that was settled before.
    pub(crate) async fn close(&self) -> lapin::Result<()> {
        let closed = match self.is_live() {
            true => self.channel.close(200, "closed".into()).await,
            false => Ok(()),
        };
        self.state().consumer = None;
        closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many consume from the queue; of a queue with one active consumer, whether there is that one.
pub(crate) async fn consumers(channel: &Channel, queue: &ShortString) -> lapin::Result<usize> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
    Ok(usize::try_from(queue.consumer_count()).unwrap_or(usize::MAX))
}

impl State {
    fn next(&mut self, cx: &mut Context<'_>) -> Result<Option<Delivery>, Error> {
        if let Some(delivery) = self.waiting.take() {
            return Ok(Some(delivery));
        }
        if let Some(error) = &self.gone {
            return Err(error.duplicate());
        }
        let Some(consumer) = &mut self.consumer else { return Ok(None) };
        let gone = match consumer.poll_next_unpin(cx) {
            Poll::Pending => return Ok(None),
            Poll::Ready(Some(Ok(delivery))) => return Ok(Some(delivery)),
            Poll::Ready(Some(Err(failed))) => lost("receiving", &failed),
            Poll::Ready(None) => error(
                ErrorKind::Disconnected,
                "the consumer has ended: its queue was deleted, or it was cancelled",
            ),
        };
        Err(self.gone.insert(gone).duplicate())
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let consumer = self.state().consumer.take();
        let (Some(consumer), true, Ok(runtime)) =
            (consumer, self.is_live(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let channel = self.channel.clone();
        runtime.spawn(async move {
            // Nobody is left to be told.
            let _ = channel.close(200, "closed".into()).await;
            drop(consumer);
        });
    }
}
