//! The adapter, whose client does what the script says.

use crate::script::{Call, Script, body, disconnected, word};
use anybroker::adapter::{
    Adapter, Capabilities, Capability, Confirm, Declare, Level, Message, Opened, Outcome, Receipt, Receive,
    Received, Receiver, ReceiverOptions, Replies, Room, Scope, SendOutcome, Sender, SenderOptions, Settle,
    Source, Target, Token, Topology, async_trait,
};
use anybroker::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub(crate) struct Hostile(pub(crate) Script);

#[async_trait]
impl Adapter for Hostile {
    fn name(&self) -> &'static str {
        "hostile"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::none().native(&[
            Capability::PointToPoint,
            Capability::OrderPerKey,
            Capability::AttemptCount,
            Capability::LeaseExtension,
            Capability::DeadLetter,
            Capability::Replies,
        ]);
        capabilities.in_flight_per_key = self.0.plan().in_flight;
        capabilities
    }

    async fn declare(&self, _: &Topology, _: Declare) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, _: &Topology) -> Result<()> {
        Ok(())
    }

    async fn open_sender(&self, to: &Target, _: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        self.0.pass(Call::OpenSender).await;
        if let Some(error) = self.0.plan().fails.remove(&Call::OpenSender) {
            return Err(error);
        }
        self.0.plan().senders += 1;
        let buries = matches!(to, Target::DeadLetter(..));
        Ok(Opened::new(Box::new(HostileSender { script: self.0.clone(), buries }), self.capabilities()))
    }

    async fn open_receiver(
        &self,
        _: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        self.0.plan().events = Some(options.events.clone());
        Ok(Opened::new(Arc::new(HostileReceiver::open(&self.0)), self.capabilities()))
    }

    async fn open_replies(&self, _: &ReceiverOptions) -> Result<Replies> {
        self.0.pass(Call::OpenReplies).await;
        Ok(Replies::new("here".into(), Arc::new(HostileReceiver::open(&self.0))))
    }

    async fn health(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.0.pass(Call::CloseAdapter).await;
        self.0.plan().closed = true;
        Ok(())
    }
}

struct HostileSender {
    script: Script,
    buries: bool,
}

impl HostileSender {
    fn take(&self, batch: &[Message]) -> Confirm {
        let accepted = || Confirm::accepted(Receipt::new(Level::Broker));
        let mut plan = self.script.plan();
        if self.buries {
            plan.dead_letters.extend(batch.iter().map(body));
            return accepted();
        }
        match plan.hand_over(batch) {
            None => accepted(),
            // A test that ends without an answer leaves nobody who could miss it.
            Some(answered) => Confirm::pending(async move { answered.await.unwrap_or_default() }),
        }
    }
}

#[async_trait]
impl Sender for HostileSender {
    fn measure(&self, message: &Message) -> Result<usize> {
        Ok(message.size())
    }

    fn try_send(&mut self, batch: &[Message]) -> Option<Result<Confirm>> {
        let at_once = self.script.plan().sends_at_once;
        at_once.then(|| Ok(self.take(batch)))
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        self.script.pass(Call::SendBatch).await;
        if self.buries && self.script.plan().refuses_dead_letters {
            return Err(Error::new(ErrorKind::NotFound, "there is no such queue"));
        }
        if self.script.plan().loses_sends {
            return Err(disconnected().with_outcome(SendOutcome::NotSent));
        }
        Ok(self.take(batch))
    }

    async fn close(&mut self) -> Result<()> {
        self.script.pass(Call::CloseSender).await;
        Ok(())
    }
}

/// Knows what it has handed up, by numbers that the next receiver uses for other messages.
struct HostileReceiver {
    script: Script,
    number: usize,
    unsettled: Mutex<HashSet<Token>>,
}

impl HostileReceiver {
    fn open(script: &Script) -> Self {
        let mut plan = script.plan();
        plan.receivers += 1;
        Self { script: script.clone(), number: plan.receivers, unsettled: Mutex::default() }
    }

    fn hand_up(&self, feed: &mut std::collections::VecDeque<Received>, room: Room, into: &mut Vec<Received>) {
        let count = room.messages.min(feed.len());
        self.unsettled.lock().unwrap().extend(feed.iter().take(count).map(|received| received.token.clone()));
        into.extend(feed.drain(..count));
    }

    fn settle_all(&self, batch: &mut [Settle]) {
        let dead = self.script.plan().dead >= self.number;
        let mut unsettled = self.unsettled.lock().unwrap();
        for settle in batch {
            let known = match settle.outcome {
                Outcome::Held { .. } => unsettled.contains(&settle.token),
                _ => unsettled.remove(&settle.token),
            };
            settle.result = Some(match (dead, known) {
                (true, _) => Err(disconnected()),
                (false, false) => Err(Error::new(ErrorKind::LeaseLost, "this receiver has no such delivery")),
                (false, true) => Ok(()),
            });
        }
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.script.plan().note(self.number, what);
    }

    fn note_settlements(&self, batch: &[Settle]) {
        for settle in batch {
            self.note(format_args!("{} {}", word(settle.outcome), settle.token.as_number()));
        }
    }
}

#[async_trait]
impl Receiver for HostileReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        let mut received = Vec::new();
        self.script.panic(Call::Receive);
        let ended = self.script.wait(|plan| {
            if plan.dead >= self.number {
                return Some(Err(disconnected()));
            }
            if plan.hangs.contains(&Call::Receive) {
                return None;
            }
            if let Some(error) = plan.fails.remove(&Call::Receive) {
                return Some(Err(error));
            }
            if !plan.feed.is_empty() {
                return Some(Ok(Receive::More));
            }
            (plan.stopped >= self.number).then_some(Ok(Receive::Ended))
        });
        let ended = ended.await?;
        if ended == Receive::More {
            self.hand_up(&mut self.script.plan().feed, room, &mut received);
        }
        into.append(&mut received);
        Ok(ended)
    }

    fn try_receive(&self, room: Room, into: &mut Vec<Received>) -> Option<usize> {
        let mut plan = self.script.plan();
        if !plan.receives_at_once {
            return None;
        }
        let before = into.len();
        if plan.stopped < self.number {
            self.hand_up(&mut plan.feed, room, into);
        }
        drop(plan);
        let count = into.len() - before;
        if count > 0 {
            self.script.stay(self.number, Call::Receive);
        }
        Some(count)
    }

    fn try_settle(&self, batch: &mut [Settle]) -> bool {
        if self.script.plan().receives_at_once {
            self.script.stay(self.number, Call::Settle);
        }
        // Meanwhile the test may have changed its mind.
        let at_once = self.script.plan().receives_at_once;
        if at_once {
            self.note_settlements(batch);
            self.settle_all(batch);
        }
        at_once
    }

    async fn settle(&self, batch: &mut [Settle]) {
        self.note_settlements(batch);
        self.script.panic(Call::Settle);
        let ready = |plan: &mut crate::script::Plan| {
            let cut_off = plan.dead >= self.number && !plan.settles_dead;
            (cut_off || !plan.hangs.contains(&Call::Settle)).then_some(())
        };
        self.script.wait(ready).await;
        self.settle_all(batch);
    }

    async fn stop(&self) -> Result<()> {
        self.note("stop");
        self.script.pass(Call::Stop).await;
        self.script.plan().stopped = self.number;
        self.script.wake();
        Ok(())
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        self.note(format_args!("release scope {}", scope.number()));
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.note("close");
        self.script.pass(Call::CloseReceiver).await;
        Ok(())
    }
}
