//! Receives and settles, in every way that there is.

use crate::history::History;
use crate::plan::{Patience, Plan};
use crate::rng::Rng;
use crate::wait::{HANG, sleep, turns, within};
use anybroker::adapter::BoxFuture;
use anybroker::{Batch, Broker, Consumer, Delivery, Message, Result, Settlement};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What one consumer task needs.
pub(crate) struct Worker {
    pub(crate) broker: Broker,
    pub(crate) plan: Plan,
    pub(crate) name: String,
    pub(crate) rng: Rng,
    pub(crate) history: History,
    /// Becomes true when there is nothing more to receive.
    pub(crate) over: watch::Receiver<bool>,
}

impl Worker {
    /// One consumer after another until all is over. Gives how many settlements have failed.
    pub(crate) async fn run(mut self) -> u64 {
        let mut failed = 0;
        // Settlements that come late, perhaps after the consumer has left.
        let mut late = JoinSet::new();
        while !self.is_over() {
            let opening = self.broker.consumer(&self.plan.channel()).prefetch(self.plan.prefetch);
            let mut consumer = match within(HANG, opening).await {
                Some(Ok(consumer)) => consumer,
                Some(Err(_)) => {
                    sleep(Duration::from_millis(5)).await;
                    continue;
                }
                None => {
                    self.history.fault("HANG: opening a consumer");
                    break;
                }
            };
            self.live(&mut consumer, &mut late).await;
            failed += consumer.status().failed_settlements;
            if self.rng.chance(50) && within(HANG, consumer.close()).await.is_none() {
                self.history.fault(format_args!("HANG: closing a consumer, {:?}", consumer.status()));
            }
        }
        while let Some(settled) = late.join_next().await {
            settled.expect("a settling task does not panic");
        }
        failed
    }

    /// One consumer's life.
    async fn live(&mut self, consumer: &mut Consumer, late: &mut JoinSet<()>) {
        let life = if self.plan.churn { 5 + self.rng.below(60) } else { u64::MAX };
        let mut received = 0;
        while received < life && !self.is_over() {
            if self.rng.chance(30) {
                let max = 1 + self.rng.below_usize(20);
                let Some(batch) = self.wait_for(consumer.receive_batch(max)).await else { continue };
                received += batch.len() as u64;
                self.settle_batch(batch, late).await;
            } else {
                let Some(delivery) = self.wait_for(consumer.receive()).await else { continue };
                received += 1;
                self.history.received(&self.name, delivery.message(), Some(delivery.attempt()));
                if self.rng.chance(10) {
                    sleep(self.rng.millis_below(3)).await;
                }
                self.settle(delivery, late).await;
            }
            let status = consumer.status();
            if status.unsettled > self.plan.prefetch {
                self.history.fault(format_args!("PREFETCH: {status:?}"));
            }
            if self.rng.chance(5) && within(HANG, consumer.flush()).await.is_none() {
                self.history.fault("HANG: the flush of a consumer");
            }
        }
    }

    /// What was received, unless patience ends before.
    async fn wait_for<T>(&mut self, receiving: impl Future<Output = Result<Option<T>>>) -> Option<T> {
        let patience: BoxFuture<'_, ()> = match self.plan.patience {
            Patience::Unlimited => Box::pin(async {
                // An error says that the run is gone, so it is over too.
                let _ = self.over.wait_for(|over| *over).await;
            }),
            Patience::AMoment => Box::pin(sleep(Duration::from_millis(20))),
            Patience::AFewTurns => Box::pin(turns(self.rng.below(6))),
        };
        let received = tokio::select! {
            biased;
            received = receiving => received,
            () = patience => return None,
        };
        match received {
            Ok(Some(received)) => return Some(received),
            Ok(None) => self.history.fault("ENDED: an open consumer gives nothing more"),
            Err(error) => self.history.fault(format_args!("ENDED: receiving fails: {error}")),
        }
        // So that a consumer without end does not spin.
        sleep(HANG).await;
        None
    }

    async fn settle_batch(&mut self, batch: Batch, late: &mut JoinSet<()>) {
        let messages: Vec<Message> = batch.messages().cloned().collect();
        for message in &messages {
            self.history.received(&self.name, message, None);
        }
        match self.rng.below(4) {
            0 => {
                messages.iter().for_each(|message| self.history.acknowledges(message));
                follow(self.history.clone(), batch.ack(), messages, self.rng.chance(50)).await;
            }
            1 => {
                messages.iter().for_each(|message| self.history.settles(message));
                drop(batch);
            }
            _ => {
                for delivery in batch {
                    self.settle(delivery, late).await;
                }
            }
        }
    }

    async fn settle(&mut self, delivery: Delivery, late: &mut JoinSet<()>) {
        let message = delivery.message().clone();
        let history = self.history.clone();
        match self.rng.below(100) {
            55..=69 => {
                history.settles(&message);
                // Nobody waits for it, as nothing follows from it.
                drop(delivery.retry(self.rng.millis_below(4)));
            }
            70..=79 => {
                history.settles(&message);
                drop(delivery);
            }
            80..=84 if self.plan.rejects => {
                history.settles(&message);
                follow(history, delivery.reject("not today"), vec![message], !self.rng.chance(30)).await;
            }
            85..=94 => {
                let (mut rng, wait) = (self.rng.fork(), self.rng.millis_below(5));
                late.spawn(async move {
                    sleep(wait).await;
                    history.acknowledges(&message);
                    follow(history, delivery.ack(), vec![message], !rng.chance(30)).await;
                });
            }
            choice => {
                if choice >= 95 {
                    turns(1).await;
                }
                history.acknowledges(&message);
                follow(history, delivery.ack(), vec![message], !self.rng.chance(30)).await;
            }
        }
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Waits for a settlement, or drops it.
async fn follow(history: History, settlement: Settlement, messages: Vec<Message>, awaited: bool) {
    if !awaited {
        return;
    }
    match within(HANG, settlement).await {
        Some(Ok(())) => messages.iter().for_each(|message| history.settled(message)),
        // The delivery was lost; the message comes again.
        Some(Err(_)) => {}
        None => history.fault(format_args!("HANG: settling {:?}", messages.first().and_then(Message::id))),
    }
}
