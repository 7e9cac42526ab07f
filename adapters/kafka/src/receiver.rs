use crate::client::{Reader, Task};
use crate::error::error;
use crate::partitions::{Partitions, lease_lost};
use anybroker_contract::{
    Clock, Error, ErrorKind, Receive, Received, Receiver, Result, Room, Scope, Settle, async_trait,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// The receiving end: the thread of a [`Reader`] brings records, this hands them out.
pub(crate) struct KafkaReceiver {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

/// What both share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// There is something, or it has ended.
    arrived: Notify,
    reader: Reader,
}

/// Between the two.
#[derive(Default)]
pub(crate) struct State {
    /// Read and not handed out.
    pub(crate) waiting: VecDeque<Received>,
    pub(crate) bytes: usize,
    pub(crate) partitions: Partitions,
    /// The reader has stopped bringing more, for want of room.
    pub(crate) full: bool,
    pub(crate) stopped: bool,
    /// Why there is nothing more.
    pub(crate) dead: Option<Error>,
}

/// How much is read ahead of what is handed out.
const MOST_WAITING: usize = 1024;
const MOST_BYTES: usize = 16 << 20;

/// How long a farewell may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

impl State {
    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING && self.bytes < MOST_BYTES
    }

    /// Drops what was read of a partition and not handed out: it stays unsettled, and is read again by whoever has it next.
    pub(crate) fn forget(&mut self, scope: Scope) {
        self.waiting.retain(|received| received.scope != scope);
        self.bytes = self.waiting.iter().map(size).sum();
    }

    pub(crate) fn push(&mut self, received: Received) {
        self.bytes += size(&received);
        self.waiting.push_back(received);
    }
}

fn size(received: &Received) -> usize {
    match &received.content {
        Ok(message) => message.size(),
        Err(undecodable) => undecodable.raw.len(),
    }
}

impl Shared {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), reader }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for something to receive.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Nothing more is received.
    fn stop(&self) {
        {
            let mut state = self.state();
            state.stopped = true;
            state.waiting.clear();
            state.bytes = 0;
        }
        self.wake();
    }

    /// Stops receiving, commits, leaves, and answers.
    fn leave(&self, answer: oneshot::Sender<Result<()>>) {
        self.stop();
        self.reader.give(Task::Close(answer));
    }

    /// Nothing more is received or settled. What is settled is committed still; then it is answered.
    pub(crate) fn sever(&self, why: Error, answer: oneshot::Sender<Result<()>>) {
        {
            let mut state = self.state();
            state.waiting.clear();
            state.bytes = 0;
            state.dead.get_or_insert(why);
        }
        self.wake();
        self.reader.give(Task::Close(answer));
    }

    /// Nothing more can be received or settled.
    pub(crate) fn die(&self, why: Error) {
        {
            let mut state = self.state();
            state.waiting.clear();
            state.bytes = 0;
            state.partitions.clear();
            state.dead.get_or_insert(why);
        }
        self.wake();
    }
}

impl KafkaReceiver {
    pub(crate) fn new(shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, clock }
    }

    fn take(&self, room: Room, into: &mut Vec<Received>) -> usize {
        let mut state = self.shared.state();
        if state.stopped {
            return 0;
        }
        let (mut taken, mut bytes) = (0, 0);
        while taken < room.messages {
            let Some(next) = state.waiting.front().map(size) else { break };
            if taken > 0 && bytes + next > room.bytes {
                break;
            }
            bytes += next;
            taken += 1;
            into.extend(state.waiting.pop_front());
        }
        state.bytes -= bytes;
        if state.full && state.waiting.len() <= MOST_WAITING / 2 && state.bytes <= MOST_BYTES / 2 {
            state.full = false;
            drop(state);
            self.shared.reader.wake();
        }
        taken
    }

    /// What the reader answers.
    async fn answer(&self, what: &str, answered: oneshot::Receiver<Result<()>>) -> Result<()> {
        let within = FAREWELL * 2;
        tokio::select! {
            answered = answered => answered.unwrap_or_else(|_| Err(gone())),
            () = self.clock.sleep_until(self.clock.now() + within) => {
                Err(error(ErrorKind::Timeout, format!("{what}: Kafka has not answered in {within:?}")))
            }
        }
    }
}

#[async_trait]
impl Receiver for KafkaReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        loop {
            if self.take(room, into) > 0 {
                return Ok(Receive::More);
            }
            {
                let state = self.shared.state();
                if let Some(dead) = &state.dead {
                    return Err(dead.duplicate());
                }
                if state.stopped {
                    return Ok(Receive::Ended);
                }
            }
            self.shared.arrived.notified().await;
        }
    }

    fn try_receive(&self, room: Room, into: &mut Vec<Received>) -> Option<usize> {
        Some(self.take(room, into))
    }

    fn try_settle(&self, batch: &mut [Settle]) -> bool {
        let mut state = self.shared.state();
        match &state.dead {
            Some(dead) => batch.iter_mut().for_each(|settle| settle.result = Some(Err(dead.duplicate()))),
            None => state.partitions.settle(batch),
        }
        true
    }

    async fn settle(&self, batch: &mut [Settle]) {
        self.try_settle(batch);
    }

    /// Resolves once the positions of all that was settled are committed.
    async fn flush(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.shared.reader.give(Task::Flush(answer));
        self.answer("flushing", answered).await
    }

    async fn stop(&self) -> Result<()> {
        self.shared.stop();
        Ok(())
    }

    /// Kafka gives away all that is revoked together: once the last of it is released, and its positions are committed.
    async fn release(&self, scope: Scope) -> Result<()> {
        match self.shared.state().partitions.of_scope(scope.number()) {
            None => return Err(lease_lost()),
            Some(partition) => partition.released = true,
        }
        self.shared.reader.wake();
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.shared.leave(answer);
        let closed = self.answer("closing the receiver", answered).await;
        self.shared.die(error(ErrorKind::Closed, "the receiver is closed"));
        match closed {
            // Closed before, or dead.
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            closed => closed,
        }
    }
}

impl Drop for KafkaReceiver {
    fn drop(&mut self) {
        self.shared.reader.give(Task::Crash);
    }
}

pub(crate) fn gone() -> Error {
    error(ErrorKind::Closed, "the receiver's thread has ended")
}
