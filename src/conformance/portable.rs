use super::History;
use super::check::{Checked, Stop};
use super::lab::{Lab, Route};
use crate::adapter::{Adapter, Message, SendOutcome};
use crate::builder::ReceiveFrom;
use crate::{Broker, Config, Consumer, Delivery, Producer};
use std::sync::Arc;
use std::time::Duration;

/// What users get: a [`Broker`] over the adapter, patient enough for the fixture and no more.
impl Lab {
    /// A broker of its own over a new connection.
    pub(super) async fn broker(&self) -> Checked<Broker> {
        let adapter = self.within("a connection", self.fixture().adapter()).await??;
        self.broker_over(adapter).await
    }

    pub(super) async fn broker_over(&self, adapter: Arc<dyn Adapter>) -> Checked<Broker> {
        self.broker_with(Config::new(), adapter).await
    }

    pub(super) async fn broker_with(&self, config: Config, adapter: Arc<dyn Adapter>) -> Checked<Broker> {
        let opening = Broker::builder()
            .config(config)
            .adapter("main", adapter)
            .clock(self.clock())
            .send_deadline(self.timing().patience)
            .open_deadline(self.timing().patience)
            .close_deadline(self.timing().quiet * 5)
            .backoff(Duration::from_millis(10), Duration::from_millis(100))
            .open();
        Ok(self.within("the broker to open", opening).await??)
    }

    pub(super) async fn producer(&self, broker: &Broker, route: &Route) -> Checked<Producer> {
        Ok(self.within("the producer to open", broker.producer(route.named())).await??)
    }

    pub(super) async fn consumer(&self, broker: &Broker, from: impl Into<ReceiveFrom>) -> Checked<Consumer> {
        Ok(self.within("the consumer to open", broker.consumer(from)).await??)
    }

    /// A consumer that holds at most that many unsettled.
    pub(super) async fn consumer_of(
        &self,
        broker: &Broker,
        from: impl Into<ReceiveFrom>,
        prefetch: usize,
    ) -> Checked<Consumer> {
        let opening = broker.consumer(from).prefetch(prefetch);
        Ok(self.within("the consumer to open", opening).await??)
    }

    /// Sends all and notes what became of each.
    pub(super) async fn send_all(
        &self,
        producer: &Producer,
        history: &History,
        name: &str,
        messages: &[Message],
    ) -> Checked {
        let sending = producer.send_all(messages.iter().cloned());
        let results = self.within("the sends to end", sending).await?;
        for (result, message) in results.into_iter().zip(messages) {
            let outcome = result.err().map(|error| error.outcome().unwrap_or(SendOutcome::Unknown));
            history.sent(name, message, outcome);
        }
        Ok(())
    }

    /// Sends all, each of which has to be accepted.
    pub(super) async fn send(&self, producer: &Producer, messages: &[Message]) -> Checked {
        let sending = producer.send_all(messages.iter().cloned());
        for (result, message) in self.within("the sends to end", sending).await?.into_iter().zip(messages) {
            result.map_err(|error| format!("{:?} was not accepted: {error:?}", message.id()))?;
        }
        Ok(())
    }

    /// The next delivery.
    pub(super) async fn next(&self, consumer: &mut Consumer) -> Checked<Delivery> {
        match self.within("the next delivery", consumer.receive()).await?? {
            Some(delivery) => Ok(delivery),
            None => Err(Stop::Failed(String::from("the consumer ended before the next delivery"))),
        }
    }

    /// Nothing arrives for a while.
    pub(super) async fn silent(&self, consumer: &mut Consumer, why: &str) -> Checked {
        let clock = self.clock();
        tokio::select! {
            biased;
            () = clock.sleep_until(clock.now() + self.timing().quiet) => Ok(()),
            received = consumer.receive() => match received? {
                Some(delivery) => Err(Stop::Failed(format!("{why}, but there came {:?}", delivery.message()))),
                None => Err(Stop::Failed(String::from("the consumer ended by itself"))),
            },
        }
    }

    /// Notes and acknowledges what arrives until `done` says so or patience ends; then what still comes for a while.
    pub(super) async fn drain(
        &self,
        consumer: &mut Consumer,
        history: &History,
        subscription: &str,
        name: &str,
        done: impl Fn() -> bool,
    ) -> Checked {
        self.drain_slowly(consumer, history, subscription, name, Duration::ZERO, done).await
    }

    /// The same, with handling that takes its time.
    pub(super) async fn drain_slowly(
        &self,
        consumer: &mut Consumer,
        history: &History,
        subscription: &str,
        name: &str,
        work: Duration,
        done: impl Fn() -> bool,
    ) -> Checked {
        let clock = self.clock();
        let deadline = clock.now() + self.timing().patience;
        let mut last = None;
        loop {
            if done() && last.is_none() {
                last = Some(clock.now() + self.timing().quiet);
            }
            let end = last.unwrap_or(deadline);
            let step = (clock.now() + Duration::from_millis(5)).min(end);
            tokio::select! {
                biased;
                received = consumer.receive() => match received? {
                    Some(delivery) => {
                        if !work.is_zero() {
                            self.pause(work).await;
                        }
                        history.arrived(subscription, name, delivery.message(), Some(delivery.attempt()));
                        // Its failure shows as a copy too many.
                        drop(delivery.ack());
                    }
                    None => return Err(Stop::Failed(format!("the consumer {name} ended by itself"))),
                },
                () = clock.sleep_until(step) => if clock.now() >= end { return Ok(()) },
            }
        }
    }

    pub(super) async fn close(&self, broker: &Broker) -> Checked {
        self.within("the broker's close", broker.close()).await??;
        Ok(())
    }
}

impl Route {
    pub(super) fn named(&self) -> &crate::Channel {
        &self.binding.channel
    }

    pub(super) fn from(&self) -> ReceiveFrom {
        match &self.subscription {
            Some(subscription) => subscription.clone().into(),
            None => From::from(&self.binding.channel),
        }
    }
}
