//! Who gets which confirm.
//!
//! A message that no queue takes comes back (`basic.return`) and is confirmed all the same. Lapin hands what came back to whichever confirm ends next
//! on the channel, and settles many at once in no order, so that neither a confirm nor its neighbours say by themselves whether their message was
//! taken. What can be relied on: the broker returns a message before it confirms it, lapin works through its input in order, and it holds a lock of the
//! channel while it settles. So a message is judged only once every confirm that ended before its own, or together with it, was looked at.

use crate::sender::Route;
use anybroker_contract::{Receipt, Result};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::{Channel, Confirmation, PublisherConfirm};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// A batch on its way.
pub(crate) struct Batch {
    pub(crate) sent: Vec<Sent>,
    pub(crate) answer: oneshot::Sender<Vec<Result<Receipt>>>,
}

/// One message of it: on its way, or failed already.
pub(crate) type Sent = Result<(Published, PublisherConfirm)>;

/// What a message on its way is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Published {
    pub(crate) identity: Identity,
    /// Bytes of its payload.
    pub(crate) size: usize,
}

/// What a returned message is known by. Two that agree in it share their fate: whether one of them was returned depends on nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity(u64);

impl Identity {
    pub(crate) fn new(routing_key: &str, id: Option<&str>, body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        // The body tells those apart that have no id.
        (routing_key, id, id.is_none().then_some(body)).hash(&mut hasher);
        Self(hasher.finish())
    }

    fn of(returned: &BasicReturnMessage) -> Self {
        let id = returned.delivery.properties.message_id().as_ref();
        Self::new(returned.delivery.routing_key.as_str(), id.map(|id| id.as_str()), &returned.delivery.data)
    }
}

/// Judges the batches of one channel until the sender is gone and all are answered.
pub(crate) async fn keep(channel: Channel, route: Arc<Route>, mut batches: mpsc::UnboundedReceiver<Batch>) {
    let mut ledger = Ledger {
        channel,
        route,
        pending: FuturesUnordered::new(),
        open: HashMap::new(),
        returned: HashMap::new(),
        next: 0,
        ended: Vec::new(),
        also: Vec::new(),
    };
    loop {
        tokio::select! {
            biased;
            Some(ended) = ledger.pending.next(), if !ledger.pending.is_empty() => ledger.judge(ended),
            batch = batches.recv() => match batch {
                Some(batch) => ledger.enter(batch),
                None => break,
            },
        }
    }
    while let Some(ended) = ledger.pending.next().await {
        ledger.judge(ended);
    }
}

/// The place of a message: batch and index.
type Place = (u64, usize);
type Ended = (Place, Published, lapin::Result<Confirmation>);

/// A confirm that has not ended.
struct Pending {
    place: Place,
    published: Published,
    confirm: PublisherConfirm,
}

impl Future for Pending {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let (place, published) = (self.place, self.published);
        Pin::new(&mut self.confirm).poll(cx).map(|ended| (place, published, ended))
    }
}

struct Ledger {
    channel: Channel,
    route: Arc<Route>,
    pending: FuturesUnordered<Pending>,
    open: HashMap<u64, Open>,
    /// What came back and was not charged to anybody yet, counted.
    returned: HashMap<Identity, usize>,
    next: u64,
    /// Empty between two judgements; kept for their room.
    ended: Vec<Ended>,
    also: Vec<Ended>,
}

/// A batch with the answers that are there.
struct Open {
    results: Vec<Option<Result<Receipt>>>,
    missing: usize,
    answer: oneshot::Sender<Vec<Result<Receipt>>>,
}

impl Ledger {
    fn enter(&mut self, batch: Batch) {
        let number = self.next;
        self.next += 1;
        let mut missing = 0;
        let mut results = Vec::with_capacity(batch.sent.len());
        for (index, sent) in batch.sent.into_iter().enumerate() {
            results.push(match sent {
                Err(error) => Some(Err(error)),
                Ok((published, confirm)) => {
                    missing += 1;
                    self.pending.push(Pending { place: (number, index), published, confirm });
                    None
                }
            });
        }
        let open = Open { results, missing, answer: batch.answer };
        self.open.insert(number, open);
        self.answer_whole(number);
    }

    fn judge(&mut self, first: Ended) {
        let (mut ended, mut also) = (std::mem::take(&mut self.ended), std::mem::take(&mut self.also));
        ended.push(first);
        self.look_at(&mut ended);
        while !ended.is_empty() {
            // Taken by lapin while it settles several at once: behind it, those that ended together are all there.
            let _ = self.channel.wait_for_confirms().now_or_never();
            self.look_at(&mut also);
            ended.drain(..).for_each(|ended| self.decide(ended));
            std::mem::swap(&mut ended, &mut also);
        }
        (self.ended, self.also) = (ended, also);
    }

    /// Adds the confirms that have ended, with what came back charged to nobody yet.
    fn look_at(&mut self, all: &mut Vec<Ended>) {
        while let Some(Some(ended)) = self.pending.next().now_or_never() {
            all.push(ended);
        }
        for (.., confirmation) in all {
            let Ok(Confirmation::Ack(carried) | Confirmation::Nack(carried)) = confirmation else { continue };
            if let Some(message) = carried.take() {
                *self.returned.entry(Identity::of(&message)).or_default() += 1;
            }
        }
    }

    fn decide(&mut self, (place, published, confirmation): Ended) {
        let came_back = match self.returned.get_mut(&published.identity) {
            None => false,
            Some(count) => {
                *count -= 1;
                if *count == 0 {
                    self.returned.remove(&published.identity);
                }
                true
            }
        };
        let result = match confirmation {
            Err(error) => Err(self.route.failed(&error, published.size)),
            _ if came_back => Err(self.route.unroutable()),
            Ok(Confirmation::Ack(_)) => Ok(self.route.receipt()),
            Ok(Confirmation::Nack(_)) => Err(self.route.nacked()),
            Ok(Confirmation::NotRequested) => Err(self.route.unconfirmed()),
        };
        self.answer(place, result);
    }

    fn answer(&mut self, (number, index): Place, result: Result<Receipt>) {
        let Some(open) = self.open.get_mut(&number) else { return };
        open.results[index] = Some(result);
        open.missing -= 1;
        self.answer_whole(number);
    }

    fn answer_whole(&mut self, number: u64) {
        if self.open.get(&number).is_some_and(|open| open.missing == 0)
            && let Some(open) = self.open.remove(&number)
        {
            // Whoever asked may be gone.
            let _ = open.answer.send(open.results.into_iter().flatten().collect());
        }
    }
}
