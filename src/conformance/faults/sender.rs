use super::{Connected, disconnected};
use crate::adapter::{Confirm, Error, ErrorKind, Message, Receipt, Result, SendOutcome, Sender, async_trait};
use tokio::task::JoinHandle;

pub(super) struct FaultySender {
    /// Away while a call of it is pending: that call is finished also when the connection dies meanwhile.
    inner: Option<Box<dyn Sender>>,
    connected: Connected,
}

/// What the network does with one message of a batch.
enum Fate {
    Passes,
    Refused(ErrorKind, SendOutcome),
    Swallowed,
}

impl FaultySender {
    pub(super) fn new(inner: Box<dyn Sender>, connected: Connected) -> Self {
        Self { inner: Some(inner), connected }
    }

    /// Decides over each message, and whether the answers come back.
    fn fates(&self, batch: &[Message]) -> (Vec<Fate>, bool) {
        let mut fates = Vec::with_capacity(batch.len());
        let mut answers = true;
        self.connected.faults.0.send_if_modified(|state| {
            for message in batch {
                let refusal = message.id().and_then(|id| state.refused.remove(id));
                fates.push(match (refusal, &mut state.swallow_after) {
                    (Some((kind, outcome)), _) => Fate::Refused(kind, outcome),
                    (None, Some(0)) => Fate::Swallowed,
                    (None, Some(left)) => {
                        *left -= 1;
                        Fate::Passes
                    }
                    (None, None) => Fate::Passes,
                });
            }
            answers = state.swallow_after.is_none();
            false
        });
        (fates, answers)
    }
}

#[async_trait]
impl Sender for FaultySender {
    fn measure(&self, message: &Message) -> Result<usize> {
        match &self.inner {
            Some(inner) => inner.measure(message),
            None => Err(not_sent()),
        }
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        if !self.connected.passes().await {
            return Err(not_sent());
        }
        let mut inner = self.inner.take().ok_or_else(not_sent)?;
        let (fates, answers) = self.fates(batch);
        let passing: Vec<Message> = batch
            .iter()
            .zip(&fates)
            .filter(|(_, fate)| matches!(fate, Fate::Passes))
            .map(|(message, _)| message.clone())
            .collect();
        let count = passing.len();
        let sending = tokio::spawn(async move {
            let taken = match passing.is_empty() {
                true => Ok(Confirm::ready(Vec::new())),
                false => inner.send_batch(&passing).await,
            };
            (inner, taken)
        });
        let taken = tokio::select! {
            biased;
            sent = sending => {
                let (inner, taken) = sent.map_err(|_| unknown())?;
                self.inner = Some(inner);
                taken?
            }
            () = self.connected.death() => return Err(unknown()),
        };
        let confirming = tokio::spawn(async move { taken.await.into_results(count) });
        let connected = self.connected.clone();
        Ok(Confirm::pending(answered(confirming, fates, answers, connected)))
    }

    async fn close(&mut self) -> Result<()> {
        if self.connected.is_dead_now() {
            return Err(disconnected());
        }
        match &mut self.inner {
            Some(inner) => inner.close().await,
            None => Err(disconnected()),
        }
    }
}

async fn answered(
    confirming: JoinHandle<Vec<Result<Receipt>>>,
    fates: Vec<Fate>,
    answers: bool,
    connected: Connected,
) -> Vec<Result<Receipt>> {
    let results = async {
        let results = confirming.await;
        if !answers {
            connected.death().await;
        }
        match connected.passes().await {
            true => results.ok(),
            false => None,
        }
    };
    let passed = tokio::select! {
        biased;
        passed = results => passed,
        () = connected.death() => None,
    };
    let mut passed = passed.map(Vec::into_iter);
    fates
        .into_iter()
        .map(|fate| match (fate, &mut passed) {
            (Fate::Passes, Some(passed)) => passed.next().unwrap_or_else(|| Err(unknown())),
            (Fate::Refused(kind, outcome), Some(_)) => {
                Err(Error::new(kind, "the network refused this message").with_outcome(outcome))
            }
            _ => Err(unknown()),
        })
        .collect()
}

fn not_sent() -> Error {
    disconnected().with_outcome(SendOutcome::NotSent)
}

fn unknown() -> Error {
    disconnected().with_outcome(SendOutcome::Unknown)
}
