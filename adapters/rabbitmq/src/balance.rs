//! Shares the queues of a channel in order among its consumers.
//!
//! Each queue has one active consumer, and RabbitMQ takes the first: whoever came first would have all of them, and the others none. So each consumer
//! counts from time to time how many there are, and gives away what is more than its share: it asks for the scope back, leaves the queue once that is
//! settled, and queues up for it again behind the others. A queue may pass through several hands until it finds one with room.

use crate::error::within;
use crate::link::{FAREWELL, Link};
use crate::receiver::RabbitReceiver;
use crate::shard::{Shard, Terms, consumers};
use anybroker_contract::{Clock, Event, Events, Result};
use lapin::options::BasicConsumeOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two looks at who is there.
const PACE: Duration = Duration::from_secs(1);

/// How long handlers may take to let go of a queue.
const REVOKING: Duration = Duration::from_secs(10);

/// A consumer among those who share the work, for as long as this lives.
pub(crate) struct Membership {
    queue: ShortString,
    channel: Channel,
    _consumer: Consumer,
}

impl Membership {
    pub(crate) async fn begin(channel: Channel, queue: ShortString) -> lapin::Result<Self> {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue.clone(), "".into(), options, arguments).await?;
        Ok(Self { queue, channel, _consumer: consumer })
    }

    /// How many share the work. A queue with one active consumer says that it has one: hence a queue for counting.
    async fn count(&self) -> lapin::Result<usize> {
        consumers(&self.channel, &self.queue).await
    }
}

/// What it takes to consume from the queues again.
pub(crate) struct Share {
    pub(crate) membership: Membership,
    pub(crate) link: Arc<Link>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) terms: Vec<Terms>,
}

/// Until the receiver leaves, or cannot go on.
pub(crate) async fn balance(receiver: Weak<RabbitReceiver>, share: Share) {
    loop {
        share.clock.sleep_until(share.clock.now() + PACE).await;
        let Some(receiver) = receiver.upgrade().filter(|receiver| !receiver.is_leaving()) else { return };
        if let Err(error) = share.step(&receiver).await {
            return receiver.fail(error);
        }
    }
}

impl Share {
    async fn step(&self, receiver: &RabbitReceiver) -> Result<()> {
        for shard in receiver.take_overdue(self.clock.now()) {
            self.events.report(Event::Lost { scope: shard.scope });
            self.patiently("leaving", shard.close()).await?;
        }
        let shards = receiver.all();
        for terms in &self.terms {
            if !shards.iter().any(|shard| shard.terms.queue == terms.queue) {
                let channel = self.link.channel(self.clock.now() + FAREWELL).await?;
                let opening = Shard::open(channel, terms.clone());
                receiver.add(self.patiently("consuming again", opening).await?).await;
            }
        }
        let mut active: Vec<&Arc<Shard>> = shards.iter().filter(|shard| shard.is_active()).collect();
        let consumers = self.patiently("counting the consumers", self.membership.count()).await?;
        let fair = self.terms.len().div_ceil(consumers.max(1));
        // What is least worked on goes first.
        active.sort_by_key(|shard| shard.unsettled());
        let deadline = self.clock.now() + REVOKING;
        for shard in active.iter().take(active.len().saturating_sub(fair)) {
            shard.revoke(deadline);
            self.events.report(Event::Revoking { scope: shard.scope, deadline });
        }
        Ok(())
    }

    async fn patiently<T>(&self, what: &str, future: impl Future<Output = lapin::Result<T>>) -> Result<T> {
        let deadline = self.clock.now() + FAREWELL;
        within(&*self.clock, deadline, what, future).await?.map_err(|e| crate::error::operation(what, &e))
    }
}
