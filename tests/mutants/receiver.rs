//! The broken receiving side.

use crate::adapter::{Shared, lock};
use crate::fault::Fault;
use anybroker::adapter::{
    Adapter, Clock, Declare, Error, ErrorKind, Events, Extend, Message, Outcome, Receive, Received, Receiver,
    ReceiverOptions, Result, Room, Scope, SenderOptions, Settle, Source, SystemClock, Target, Token,
    Topology, async_trait,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::OnceCell;

pub(crate) struct MutantReceiver {
    pub(crate) inner: Arc<dyn Receiver>,
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) fault: Fault,
    pub(crate) shared: Arc<Shared>,
    pub(crate) channel: String,
    /// Where what is requeued goes.
    pub(crate) target: Option<Target>,
    /// What to delete when it closes.
    pub(crate) vanishes: Option<Topology>,
    pub(crate) outstanding: Mutex<Vec<(Token, Option<Message>)>>,
    pub(crate) held: Mutex<HashSet<Token>>,
}

impl MutantReceiver {
    async fn forward(&self, token: &Token, outcome: Outcome) -> Result<()> {
        let mut one = [Settle::new(token.clone(), outcome)];
        self.inner.settle(&mut one).await;
        let [Settle { result, .. }] = one;
        result.unwrap_or(Ok(()))
    }

    async fn settle_one(&self, token: &Token, outcome: Outcome) -> Result<()> {
        if matches!(outcome, Outcome::Held { .. }) {
            lock(&self.held).insert(token.clone());
        }
        let outcome = match (self.fault, outcome) {
            (Fault::AcksOnReceipt, _)
            | (Fault::AckIsNoOp, Outcome::Ack)
            | (Fault::ReleaseCounts, Outcome::Release) => {
                return Ok(());
            }
            (Fault::AckIsCumulative, Outcome::Ack) => return self.settle_up_to(token).await,
            (Fault::ReleaseRequeues, Outcome::Release) => return self.requeue(token).await,
            (Fault::RetryAcks, Outcome::Retry { .. }) => Outcome::Ack,
            (Fault::RetryAtOnce, Outcome::Retry { .. }) => Outcome::Retry { after: Duration::ZERO },
            (Fault::HeldComesAgain, Outcome::Held { .. }) => Outcome::Retry { after: Duration::ZERO },
            (Fault::HeldForgetsToken, Outcome::Ack) if lock(&self.held).contains(token) => {
                return Err(Error::new(ErrorKind::LeaseLost, "the token is not known"));
            }
            (_, outcome) => outcome,
        };
        let result = self.forward(token, outcome).await;
        if !matches!(outcome, Outcome::Held { .. }) {
            lock(&self.outstanding).retain(|(other, _)| other != token);
        }
        match (self.fault, result) {
            (Fault::SettlesAlways, _) => Ok(()),
            (Fault::HangsWhenDead, Err(_)) => std::future::pending().await,
            (_, result) => result,
        }
    }

    async fn settle_up_to(&self, token: &Token) -> Result<()> {
        let settled: Vec<Token> = {
            let mut outstanding = lock(&self.outstanding);
            let Some(at) = outstanding.iter().position(|(other, _)| other == token) else { return Ok(()) };
            outstanding.drain(..=at).map(|(token, _)| token).collect()
        };
        for token in settled {
            let _ = self.forward(&token, Outcome::Ack).await;
        }
        Ok(())
    }

    /// Sends the message again, behind all others, and acknowledges the one that was.
    async fn requeue(&self, token: &Token) -> Result<()> {
        let message = {
            let mut outstanding = lock(&self.outstanding);
            let at = outstanding.iter().position(|(other, _)| other == token);
            at.and_then(|at| outstanding.remove(at).1)
        };
        let (Some(message), Some(target)) = (message, &self.target) else { return Ok(()) };
        let clock = SystemClock::new();
        let options =
            SenderOptions::new(clock.now() + Duration::from_secs(1), Arc::new(clock), Events::ignored());
        let mut sender = self.adapter.open_sender(target, &options).await?.handle;
        sender.send_batch(&[message]).await?.await;
        self.forward(token, Outcome::Ack).await
    }

    fn tokens(&self) -> Vec<Token> {
        lock(&self.outstanding).iter().map(|(token, _)| token.clone()).collect()
    }
}

#[async_trait]
impl Receiver for MutantReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        if self.fault == Fault::LeaksTasks {
            tokio::spawn(std::future::pending::<()>());
        }
        let mut batch = Vec::new();
        let asked = match self.fault {
            Fault::Hoards | Fault::Overfills => Room::new(1000, room.bytes),
            _ => room,
        };
        let ended = match self.inner.receive_batch(asked, &mut batch).await {
            Err(_) if self.fault == Fault::HangsWhenDead => std::future::pending().await,
            ended => ended?,
        };
        for mut received in batch {
            let token = received.token.clone();
            match (self.fault, &received.content) {
                (Fault::AcksOnReceipt, _) => self.forward(&token, Outcome::Ack).await?,
                (Fault::AttemptsStuck, _) => received.attempt = received.attempt.map(|_| 1),
                (Fault::UndecodableIsFatal, Err(undecodable)) => return Err(undecodable.error.duplicate()),
                (Fault::UndecodableIsDropped, Err(_)) => {
                    self.forward(&token, Outcome::Ack).await?;
                    continue;
                }
                (Fault::DropsForeign, Ok(message)) if message.id().is_none() => {
                    self.forward(&token, Outcome::Ack).await?;
                    continue;
                }
                // What there is no room for stays with this receiver, and comes to nobody.
                (Fault::Hoards, _) if into.len() >= room.messages => continue,
                _ => {}
            }
            lock(&self.outstanding).push((token, received.content.as_ref().ok().cloned()));
            into.push(received);
        }
        if into.is_empty() && ended == Receive::More {
            return self.receive_batch(room, into).await;
        }
        Ok(ended)
    }

    async fn settle(&self, batch: &mut [Settle]) {
        for settle in batch {
            let result = self.settle_one(&settle.token, settle.outcome).await;
            settle.result = (self.fault != Fault::SettlesSilently).then_some(result);
        }
    }

    async fn extend(&self, batch: &mut [Extend]) {
        if self.fault == Fault::ExtendsNothing {
            let longer = SystemClock::new().now() + Duration::from_secs(1);
            batch.iter_mut().for_each(|extend| extend.result = Some(Ok(longer)));
            return;
        }
        self.inner.extend(batch).await;
    }

    async fn stop(&self) -> Result<()> {
        match self.fault {
            Fault::IgnoresStop => Ok(()),
            Fault::StopEndsSettling => {
                self.inner.stop().await?;
                self.inner.close().await
            }
            _ => self.inner.stop().await,
        }
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        self.inner.release(scope).await
    }

    async fn close(&self) -> Result<()> {
        self.shared.unheard(&self.channel);
        match self.fault {
            Fault::CloseAcks => {
                for token in self.tokens() {
                    self.forward(&token, Outcome::Ack).await?;
                }
            }
            Fault::CloseRequeues => {
                for token in self.tokens() {
                    self.requeue(&token).await?;
                }
            }
            Fault::LeaksReceivers => {
                lock(&self.shared.leaked).push(Arc::clone(&self.inner));
                return Ok(());
            }
            _ => {}
        }
        let closed = self.inner.close().await;
        if let Some(topology) = &self.vanishes {
            self.adapter.delete(topology).await?;
        }
        closed
    }
}

/// A receiver that subscribes only some time after it was opened.
pub(crate) struct LateReceiver {
    adapter: Arc<dyn Adapter>,
    topology: Topology,
    source: Source,
    options: ReceiverOptions,
    inner: OnceCell<Arc<dyn Receiver>>,
}

impl LateReceiver {
    pub(crate) fn new(
        adapter: Arc<dyn Adapter>,
        topology: Topology,
        source: Source,
        options: ReceiverOptions,
    ) -> Self {
        Self { adapter, topology, source, options, inner: OnceCell::new() }
    }

    async fn inner(&self) -> Result<&Arc<dyn Receiver>> {
        let open = || async {
            let clock = SystemClock::new();
            clock.sleep_until(clock.now() + Duration::from_millis(30)).await;
            self.adapter.declare(&self.topology, Declare::IfMissing).await?;
            Ok(self.adapter.open_receiver(&self.source, &self.options).await?.handle)
        };
        self.inner.get_or_try_init(open).await
    }
}

#[async_trait]
impl Receiver for LateReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        self.inner().await?.receive_batch(room, into).await
    }

    async fn settle(&self, batch: &mut [Settle]) {
        if let Ok(inner) = self.inner().await {
            inner.settle(batch).await;
        }
    }

    async fn stop(&self) -> Result<()> {
        self.inner().await?.stop().await
    }

    async fn close(&self) -> Result<()> {
        self.inner().await?.close().await
    }
}
