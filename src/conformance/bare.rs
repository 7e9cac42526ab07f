use super::History;
use super::check::{Checked, Stop};
use super::lab::{DECLARE, Lab, Route};
use crate::adapter::{
    Adapter, Capabilities, Clock, Declare, Error, ErrorKind, Events, Message, Outcome, Receipt, Receive,
    Received, Receiver, ReceiverOptions, Replies, Result, Room, SendOutcome, Sender, SenderOptions, Settle,
    Source, Target, Text, Token, Topology,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

const ROOM_BYTES: usize = 64 << 20;

/// One connection of the adapter, used through the bare contract. Every wait ends, as failed, at the fixture's patience.
pub(super) struct BareLink {
    lab: Lab,
    pub(super) adapter: Arc<dyn Adapter>,
}

impl BareLink {
    pub(super) const fn new(lab: Lab, adapter: Arc<dyn Adapter>) -> Self {
        Self { lab, adapter }
    }

    pub(super) async fn declare(&self, topology: &Topology) -> Checked {
        self.try_declare(topology, DECLARE).await??;
        Ok(())
    }

    pub(super) async fn try_declare(&self, topology: &Topology, mode: Declare) -> Checked<Result<()>> {
        self.lab.within("declare", self.adapter.declare(topology, mode)).await
    }

    /// Declares the route, then opens its receiver and its sender, in this order.
    pub(super) async fn open(&self, route: &Route) -> Checked<(BareSender, BareReceiver)> {
        self.declare(&route.topology()).await?;
        let inlet = self.receiver(route.source()).await?;
        Ok((self.sender(route.target()).await?, inlet))
    }

    pub(super) async fn sender(&self, to: Target) -> Checked<BareSender> {
        Ok(self.try_sender(to).await??)
    }

    pub(super) async fn try_sender(&self, to: Target) -> Checked<Result<BareSender>> {
        let options = SenderOptions::new(self.deadline(), self.lab.clock(), Events::ignored());
        let opened = self.lab.within("open_sender", self.adapter.open_sender(&to, &options)).await?;
        Ok(opened.map(|opened| BareSender {
            lab: self.lab.clone(),
            sender: opened.handle,
            capabilities: opened.capabilities,
        }))
    }

    pub(super) async fn receiver(&self, from: Source) -> Checked<BareReceiver> {
        Ok(self.try_receiver(from, 1000).await??)
    }

    pub(super) async fn receiver_of(&self, from: Source, prefetch: usize) -> Checked<BareReceiver> {
        Ok(self.try_receiver(from, prefetch).await??)
    }

    pub(super) async fn try_receiver(&self, from: Source, prefetch: usize) -> Checked<Result<BareReceiver>> {
        let options = self.receiver_options(prefetch);
        let opened = self.lab.within("open_receiver", self.adapter.open_receiver(&from, &options)).await?;
        Ok(opened
            .map(|opened| BareReceiver::new(self.lab.clone(), opened.handle, opened.capabilities, prefetch)))
    }

    pub(super) async fn replies(&self) -> Checked<(Text, BareReceiver)> {
        let options = self.receiver_options(1000);
        let Replies { address, receiver, .. } =
            self.lab.within("open_replies", self.adapter.open_replies(&options)).await??;
        let inlet = BareReceiver::new(self.lab.clone(), receiver, Capabilities::none(), 1000);
        Ok((address, inlet))
    }

    pub(super) async fn close(&self) -> Checked {
        self.lab.within("the adapter's close", self.adapter.close()).await??;
        Ok(())
    }

    fn receiver_options(&self, prefetch: usize) -> ReceiverOptions {
        ReceiverOptions::new(
            Room::new(prefetch, ROOM_BYTES),
            self.lab.name().into(),
            self.deadline(),
            self.lab.clock(),
            Events::ignored(),
        )
    }

    fn deadline(&self) -> Instant {
        self.lab.clock().now() + self.lab.timing().patience
    }
}

/// An open sender.
pub(super) struct BareSender {
    lab: Lab,
    pub(super) sender: Box<dyn Sender>,
    pub(super) capabilities: Capabilities,
}

impl BareSender {
    /// Sends the messages in batches that the channel takes, pipelined, and returns what became of each.
    pub(super) async fn try_send(&mut self, messages: &[Message]) -> Checked<Vec<Result<Receipt>>> {
        let most_messages = self.capabilities.max_batch_messages.unwrap_or(64).max(1);
        let most_bytes = self.capabilities.max_batch_bytes.unwrap_or(usize::MAX);
        let mut results = Vec::with_capacity(messages.len());
        let mut confirms = Vec::new();
        let mut rest = messages;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take(most_messages).take_while(|message| {
                size += self.sender.measure(message).unwrap_or(0);
                size <= most_bytes
            });
            let (batch, later) = rest.split_at(fits.count().max(1));
            rest = later;
            let taken = self.lab.within("send_batch", self.sender.send_batch(batch)).await?;
            confirms.push((batch.len(), taken));
        }
        for (count, taken) in confirms {
            match taken {
                Ok(confirm) => {
                    let confirmed = self.lab.within("the confirm of a batch", confirm).await?;
                    results.extend(confirmed.into_results(count));
                }
                Err(error) => results.extend((0..count).map(|_| Err(error.duplicate()))),
            }
        }
        Ok(results)
    }

    /// Sends the messages, each of which has to be accepted.
    pub(super) async fn send(&mut self, messages: &[Message]) -> Checked {
        for (result, message) in self.try_send(messages).await?.into_iter().zip(messages) {
            if let Err(error) = result {
                return Err(Stop::Failed(format!("{:?} was not accepted: {error:?}", message.id())));
            }
        }
        Ok(())
    }

    /// Sends the messages, each of which has to be accepted, and notes them.
    pub(super) async fn send_noting(
        &mut self,
        history: &History,
        producer: &str,
        messages: &[Message],
    ) -> Checked {
        self.send(messages).await?;
        for message in messages {
            history.sent(producer, message, None);
        }
        Ok(())
    }

    /// Sends the messages and notes what became of each, accepted or not.
    pub(super) async fn try_send_noting(
        &mut self,
        history: &History,
        producer: &str,
        messages: &[Message],
    ) -> Checked {
        for (result, message) in self.try_send(messages).await?.into_iter().zip(messages) {
            let outcome = result.err().map(|error| error.outcome().unwrap_or(SendOutcome::Unknown));
            history.sent(producer, message, outcome);
        }
        Ok(())
    }

    pub(super) async fn close(&mut self) -> Checked {
        self.lab.within("the sender's close", self.sender.close()).await??;
        Ok(())
    }
}

/// An open receiver, read by a task of its own, so that no pending call is ever dropped.
pub(super) struct BareReceiver {
    lab: Lab,
    receiver: Arc<dyn Receiver>,
    pub(super) capabilities: Capabilities,
    /// How long handling one delivery takes.
    pub(super) work: Duration,
    arrivals: mpsc::UnboundedReceiver<Result<Received>>,
    room: Arc<Semaphore>,
    reading: JoinHandle<()>,
}

impl BareReceiver {
    fn new(lab: Lab, receiver: Arc<dyn Receiver>, capabilities: Capabilities, prefetch: usize) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(prefetch));
        let reading = tokio::spawn(read(lab.clock(), Arc::clone(&receiver), Arc::clone(&room), arrived));
        Self { lab, receiver, capabilities, work: Duration::ZERO, arrivals, room, reading }
    }

    /// The next delivery.
    pub(super) async fn next(&mut self) -> Checked<Received> {
        match self.try_next().await? {
            Some(received) => Ok(received?),
            None => Err(Stop::Failed(String::from("the receiver ended before the next delivery"))),
        }
    }

    /// The next delivery or error; `None` once the receiver has ended.
    pub(super) async fn try_next(&mut self) -> Checked<Option<Result<Received>>> {
        let next = self.arrivals.recv();
        self.lab.within("the next delivery", next).await
    }

    /// The next delivery, which has to be a message.
    pub(super) async fn message(&mut self) -> Checked<(Message, Received)> {
        let received = self.next().await?;
        match &received.content {
            Ok(message) => Ok((message.clone(), received)),
            Err(undecodable) => {
                Err(Stop::Failed(format!("a message came as undecodable: {:?}", undecodable.error)))
            }
        }
    }

    /// As many deliveries, unsettled.
    pub(super) async fn take(&mut self, count: usize) -> Checked<Vec<Received>> {
        let mut deliveries = Vec::with_capacity(count);
        while deliveries.len() < count {
            deliveries.push(self.next().await.map_err(|stop| match stop {
                Stop::Failed(report) => {
                    Stop::Failed(format!("{report}, after {} of {count}", deliveries.len()))
                }
                skipped @ Stop::Skipped(_) => skipped,
            })?);
        }
        Ok(deliveries)
    }

    /// What has arrived by now and, for a while, still does.
    pub(super) async fn leftovers(&mut self) -> Checked<Vec<Received>> {
        self.lab.quiet().await;
        let mut left = Vec::new();
        while let Ok(arrived) = self.arrivals.try_recv() {
            left.push(arrived?);
        }
        Ok(left)
    }

    /// Nothing arrives for a while.
    pub(super) async fn silent(&mut self, why: &str) -> Checked {
        match self.leftovers().await?.first() {
            None => Ok(()),
            Some(received) => Err(Stop::Failed(format!("{why}, but there came {:?}", received.content))),
        }
    }

    /// Notes and acknowledges what arrives until `done` says so; then what still comes for a while.
    pub(super) async fn drain(
        &mut self,
        history: &History,
        subscription: &str,
        consumer: &str,
        done: impl Fn() -> bool,
    ) -> Checked {
        let lab = self.lab.clone();
        let clock = lab.clock();
        let deadline = clock.now() + lab.timing().patience;
        let mut last = None;
        loop {
            if done() && last.is_none() {
                last = Some(clock.now() + lab.timing().quiet);
            }
            let end = last.unwrap_or(deadline);
            let step = (clock.now() + Duration::from_millis(5)).min(end);
            tokio::select! {
                biased;
                arrived = self.arrivals.recv() => match arrived {
                    Some(received) => {
                        let received = received?;
                        if !self.work.is_zero() {
                            lab.pause(self.work).await;
                        }
                        if let Ok(message) = &received.content {
                            history.arrived(subscription, consumer, message, received.attempt);
                        }
                        self.ack(&received).await?;
                    }
                    None => return Err(Stop::Failed(format!("the receiver of {consumer} ended by itself"))),
                },
                () = clock.sleep_until(step) => if clock.now() >= end { return Ok(()) },
            }
        }
    }

    pub(super) async fn ack(&self, received: &Received) -> Checked {
        self.settle(received, Outcome::Ack).await
    }

    pub(super) async fn settle(&self, received: &Received, outcome: Outcome) -> Checked {
        self.try_settle(&received.token, outcome).await??;
        Ok(())
    }

    pub(super) async fn try_settle(&self, token: &Token, outcome: Outcome) -> Checked<Result<()>> {
        let mut batch = [Settle::new(token.clone(), outcome)];
        self.lab.within("settle", self.receiver.settle(&mut batch)).await?;
        let held = matches!(outcome, Outcome::Held { .. });
        let [Settle { result, .. }] = batch;
        let result = result.ok_or_else(|| Stop::Failed(String::from("settle left a delivery unanswered")))?;
        if result.is_ok() && !held {
            self.room.add_permits(1);
        }
        Ok(result)
    }

    /// The broker has what was settled before.
    pub(super) async fn flush(&self) -> Checked {
        self.lab.within("flush", self.receiver.flush()).await??;
        Ok(())
    }

    /// Takes no more; what was taken stays with this receiver.
    pub(super) async fn stop(&self) -> Checked {
        self.room.close();
        self.lab.within("the receiver's stop", self.receiver.stop()).await??;
        Ok(())
    }

    /// Leaves in order: stop, the end of the reading, close. What is unsettled comes again.
    pub(super) async fn close(mut self) -> Checked {
        self.leave().await
    }

    /// As [`BareReceiver::close`], and keeps the handle.
    pub(super) async fn leave(&mut self) -> Checked {
        self.stop().await?;
        let ended = self.lab.within("the end of receiving after stop", &mut self.reading).await?;
        ended?;
        self.lab.within("the receiver's close", self.receiver.close()).await??;
        Ok(())
    }

    /// Leaves without a word: no close, and what is unsettled stays so. What is settled is safe before, as only a flush makes it on a log.
    pub(super) async fn crash(mut self) -> Checked {
        self.flush().await?;
        self.stop().await?;
        self.lab.within("the end of receiving after stop", &mut self.reading).await?.ok();
        Ok(())
    }
}

async fn read(
    clock: Arc<dyn Clock>,
    receiver: Arc<dyn Receiver>,
    room: Arc<Semaphore>,
    arrived: mpsc::UnboundedSender<Result<Received>>,
) {
    let mut batch = Vec::new();
    loop {
        let (asked, stopped) = match room.acquire().await {
            Ok(permit) => {
                permit.forget();
                (1 + room.available_permits(), false)
            }
            Err(_) => (1, true),
        };
        match receiver.receive_batch(Room::new(asked, ROOM_BYTES), &mut batch).await {
            Ok(ended) => {
                let count = batch.len();
                room.forget_permits(count.saturating_sub(1));
                for received in batch.drain(..) {
                    let _ = arrived.send(Ok(received));
                }
                if ended == Receive::Ended {
                    return;
                }
                if count == 0 && !stopped && !room.is_closed() {
                    let _ = arrived.send(Err(broken(String::from("receive_batch returned nothing"))));
                    return;
                }
                if count > asked {
                    let _ = arrived.send(Err(broken(format!(
                        "receive_batch returned {count} deliveries, asked for {asked}"
                    ))));
                    return;
                }
            }
            // Alive by contract: called again.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let again = clock.now() + error.retry_after().unwrap_or(Duration::from_millis(10));
                clock.sleep_until(again).await;
            }
            Err(error) => {
                let _ = arrived.send(Err(error));
                return;
            }
        }
    }
}

fn broken(what: String) -> Error {
    Error::new(ErrorKind::Other, what)
}
