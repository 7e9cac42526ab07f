//! What the client does, as the test says, and what it has seen.

use anybroker::adapter::{Events, InFlightPerKey, Message, Outcome, Receipt, Received};
use anybroker::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use tokio::sync::{Notify, oneshot};

/// Shared by the test and everything that the adapter opens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    plan: Mutex<Plan>,
    moved: Notify,
}

/// A call that the test can make hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    OpenSender,
    OpenReplies,
    SendBatch,
    Receive,
    Settle,
    Stop,
    CloseSender,
    CloseReceiver,
    CloseAdapter,
}

/// What the client does and has seen.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) in_flight: InFlightPerKey,
    /// The client hands over without waiting where it can.
    pub(crate) sends_at_once: bool,
    /// The client receives and settles without waiting where it can.
    pub(crate) receives_at_once: bool,
    /// Batches are answered by the test, not by the client.
    pub(crate) withholds: bool,
    /// Every batch breaks the connection.
    pub(crate) loses_sends: bool,
    pub(crate) refuses_dead_letters: bool,
    pub(crate) hangs: HashSet<Call>,
    /// A settlement that hangs goes on hanging when its connection is lost.
    pub(crate) settles_dead: bool,
    /// Each once.
    pub(crate) panics: HashSet<Call>,
    /// Each once.
    pub(crate) fails: HashMap<Call, Error>,
    /// What the client has received and not handed up.
    pub(crate) feed: VecDeque<Received>,
    detains: HashMap<Call, mpsc::Receiver<()>>,

    pub(crate) senders: usize,
    pub(crate) receivers: usize,
    /// Receivers up to this one have lost their connection.
    pub(crate) dead: usize,
    pub(crate) stopped: usize,
    /// The adapter is.
    pub(crate) closed: bool,
    pub(crate) events: Option<Events>,
    /// The bodies that were handed over, batch by batch.
    pub(crate) batches: Vec<Vec<String>>,
    pub(crate) dead_letters: Vec<String>,
    /// What was done to receivers, such as `1: ack 7`: by the number of the receiver.
    pub(crate) log: Vec<String>,
    unanswered: Vec<Unanswered>,
}

/// A batch that waits for its answers.
#[derive(Debug)]
struct Unanswered {
    bodies: Vec<String>,
    answer: oneshot::Sender<Vec<Result<Receipt>>>,
}

impl Script {
    pub(crate) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap()
    }

    pub(crate) fn hang(&self, call: Call) {
        self.plan().hangs.insert(call);
    }

    pub(crate) fn go_on(&self, call: Call) {
        self.plan().hangs.remove(&call);
        self.wake();
    }

    /// The next call of that kind that does something on its caller's thread keeps that thread until this is sent to.
    pub(crate) fn detain(&self, call: Call) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel();
        self.plan().detains.insert(call, released);
        release
    }

    /// Keeps the thread if the test says so.
    pub(crate) fn stay(&self, receiver: usize, call: Call) {
        let released = self.plan().detains.remove(&call);
        if let Some(released) = released {
            self.plan().note(receiver, "detained");
            // The test may end without a word.
            let _ = released.recv();
        }
    }

    /// Returns when the test lets that call go on.
    pub(crate) async fn pass(&self, call: Call) {
        self.wait(|plan| (!plan.hangs.contains(&call)).then_some(())).await;
        self.panic(call);
    }

    /// Panics if the test says so.
    pub(crate) fn panic(&self, call: Call) {
        let panics = self.plan().panics.remove(&call);
        assert!(!panics, "the client panics in {call:?}");
    }

    /// Returns when the plan has what `look` looks for.
    pub(crate) async fn wait<T>(&self, look: impl Fn(&mut Plan) -> Option<T>) -> T {
        loop {
            let mut moved = std::pin::pin!(self.0.moved.notified());
            // Registered before the look, so that a move in between is not missed.
            moved.as_mut().enable();
            if let Some(found) = look(&mut self.plan()) {
                return found;
            }
            moved.await;
        }
    }

    pub(crate) fn feed(&self, received: Received) {
        self.plan().feed.push_back(received);
        self.wake();
    }

    /// The connection of the receiver breaks.
    pub(crate) fn cut(&self) {
        let mut plan = self.plan();
        plan.dead = plan.receivers;
        plan.feed.clear();
        drop(plan);
        self.wake();
    }

    pub(crate) fn events(&self) -> Events {
        self.plan().events.clone().expect("a receiver is open")
    }

    /// Answers the batch that has that message alone.
    pub(crate) fn answer(&self, body: &str, result: Result<Receipt>) {
        let mut plan = self.plan();
        let at = plan.unanswered.iter().position(|batch| batch.bodies == [body]);
        let batch = plan.unanswered.remove(at.expect("the message is on its way"));
        drop(plan);
        batch.answer.send(vec![result]).expect("the answer is waited for");
    }

    /// How many hold the script: the test, the adapter and everything that it has opened.
    pub(crate) fn users(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    pub(crate) fn wake(&self) {
        self.0.moved.notify_waiters();
    }
}

impl Plan {
    /// Notes a batch that is handed over. The answer comes from the test when there is something to wait for.
    pub(crate) fn hand_over(&mut self, batch: &[Message]) -> Option<oneshot::Receiver<Vec<Result<Receipt>>>> {
        let bodies: Vec<_> = batch.iter().map(body).collect();
        self.batches.push(bodies.clone());
        if !self.withholds {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.unanswered.push(Unanswered { bodies, answer });
        Some(answered)
    }

    /// Whether that message was handed over.
    pub(crate) fn has(&self, body: &str) -> bool {
        self.batches.iter().flatten().any(|sent| sent == body)
    }

    pub(crate) fn logged(&self, line: &str) -> bool {
        self.log.iter().any(|logged| logged == line)
    }

    pub(crate) fn note(&mut self, receiver: usize, what: impl std::fmt::Display) {
        self.log.push(format!("{receiver}: {what}"));
    }
}

pub(crate) fn body(message: &Message) -> String {
    String::from_utf8(message.body().to_vec()).unwrap()
}

pub(crate) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ack => "ack",
        Outcome::Retry { .. } => "retry",
        Outcome::Release => "release",
        Outcome::Held { .. } => "hold",
        _ => panic!("{outcome:?} is not expected"),
    }
}

pub(crate) fn disconnected() -> Error {
    Error::new(ErrorKind::Disconnected, "the connection is cut")
}
