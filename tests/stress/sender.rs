//! Hesitates to take, takes parts only, and answers late.

use crate::adapter::{Context, SMALL_BATCH};
use crate::rng::Rng;
use crate::rules::{Flight, Flights};
use crate::wait::{sleep, turns};
use anybroker::adapter::{Confirm, Message, Receipt, SendOutcome, Sender, async_trait};
use anybroker::{Error, ErrorKind, Result};
use std::slice::from_ref;
use std::time::Duration;

pub(crate) struct ShakySender {
    inner: Box<dyn Sender>,
    context: Context,
    flights: Flights,
    rng: Rng,
}

impl ShakySender {
    pub(crate) fn new(inner: Box<dyn Sender>, context: Context, rng: Rng) -> Self {
        Self { inner, context, flights: Flights::default(), rng }
    }

    /// Looks at a batch that is on its way from here.
    fn depart(&self, batch: &[Message]) -> Option<Flight> {
        if !self.context.shaky.one_per_key {
            return None;
        }
        if batch.len() > SMALL_BATCH {
            self.context.broken("a batch is too large");
        }
        self.context.plan.ordered.then(|| self.flights.depart(batch, &self.context.history))
    }

    /// The same answers, most of them later.
    fn answer(&mut self, confirm: Confirm, flight: Option<Flight>, count: usize) -> Confirm {
        let wait = Duration::from_micros(400 * self.rng.below(5));
        if wait.is_zero() {
            return confirm;
        }
        let pending = self.context.pending("a confirm");
        Confirm::pending(async move {
            sleep(wait).await;
            let confirmed = confirm.await;
            pending.ended();
            drop(flight);
            confirmed.into_results(count)
        })
    }

    /// Hands over one by one, and refuses some.
    async fn send_some(&mut self, batch: &[Message]) -> Vec<Result<Receipt>> {
        let mut results = Vec::with_capacity(batch.len());
        for message in batch {
            if self.rng.chance(30) {
                results.push(Err(slower()));
                continue;
            }
            match self.inner.send_batch(from_ref(message)).await {
                Ok(confirm) => results.extend(confirm.await.into_results(1)),
                Err(error) => results.push(Err(error)),
            }
        }
        results
    }
}

#[async_trait]
impl Sender for ShakySender {
    fn measure(&self, message: &Message) -> Result<usize> {
        self.inner.measure(message)
    }

    fn try_send(&mut self, batch: &[Message]) -> Option<Result<Confirm>> {
        if !self.context.shaky.at_once || self.rng.chance(15) {
            return None;
        }
        let sent = self.inner.try_send(batch)?;
        Some(sent.map(|confirm| {
            let flight = self.depart(batch);
            self.answer(confirm, flight, batch.len())
        }))
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        let pending = self.context.pending("send_batch");
        turns(self.rng.below(6)).await;
        let sent = match self.rng.below(100) {
            0..5 => Err(slower()),
            5..12 => {
                let flight = self.depart(batch);
                let results = self.send_some(batch).await;
                Ok(self.answer(Confirm::ready(results), flight, batch.len()))
            }
            _ => {
                let flight = self.depart(batch);
                let sent = self.inner.send_batch(batch).await;
                sent.map(|confirm| self.answer(confirm, flight, batch.len()))
            }
        };
        pending.ended();
        sent
    }

    async fn close(&mut self) -> Result<()> {
        let pending = self.context.pending("the close of a sender");
        let closed = self.inner.close().await;
        pending.ended();
        closed
    }
}

fn slower() -> Error {
    Error::new(ErrorKind::Throttled, "slower").with_outcome(SendOutcome::Refused)
}
