//! Time that stands still, futures that are polled by hand, and shorthands. No runtime is needed.

#![allow(dead_code, reason = "each test file uses its share")]

use anybroker_contract::{
    Adapter, Binding, BoxFuture, Channel, Clock, Confirmed, Declare, ErrorKind, Event, Events, Message,
    Opened, Outcome, Receive, Received, Receiver, ReceiverOptions, Result, Room, Scope, Sender,
    SenderOptions, Settle, Source, Subscription, Target, Text, Timestamp, Token, Topology,
};
use anybroker_memory::{Config, MemoryBroker};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Room for all that a test sends.
pub(crate) const ROOM: Room = Room::new(1000, usize::MAX);

/// A clock that a test moves. It begins one hour after 1970 did.
#[derive(Clone, Debug)]
pub(crate) struct ManualClock(Arc<Manual>);

#[derive(Debug)]
struct Manual {
    base: Instant,
    passed: Mutex<Duration>,
    sleepers: Mutex<Vec<(Instant, Waker)>>,
}

impl ManualClock {
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    pub(crate) fn new() -> Self {
        let base = Instant::now();
        Self(Arc::new(Manual { base, passed: Mutex::default(), sleepers: Mutex::default() }))
    }

    /// Moves time on and wakes those who slept until then.
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.passed.lock().unwrap() += by;
        let now = self.now();
        let due: Vec<_> =
            self.0.sleepers.lock().unwrap().extract_if(.., |(until, _)| *until <= now).collect();
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn passed(&self) -> Duration {
        *self.0.passed.lock().unwrap()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.0.base + self.passed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(3_600_000).after(self.passed())
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(std::future::poll_fn(move |cx| {
            if clock.now() >= until {
                return Poll::Ready(());
            }
            clock.0.sleepers.lock().unwrap().push((until, cx.waker().clone()));
            Poll::Pending
        }))
    }
}

/// A future that a test polls by hand, and how often it was woken.
pub(crate) struct Task<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<'a, T> Task<'a, T> {
    /// A task that was polled once and is pending.
    pub(crate) fn waiting(future: impl Future<Output = T> + 'a) -> Self {
        let mut task = Self { future: Box::pin(future), wakes: Arc::default() };
        assert!(task.poll().is_none(), "the future should be pending");
        task
    }

    pub(crate) fn poll(&mut self) -> Option<T> {
        self.wakes.0.store(0, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.wakes));
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Whether it was woken since it was polled.
    pub(crate) fn is_woken(&self) -> bool {
        self.wakes.0.load(Ordering::SeqCst) > 0
    }

    /// What it has come to, now that it was woken.
    pub(crate) fn finish(mut self) -> T {
        assert!(self.is_woken(), "the future should have been woken");
        self.poll().expect("the future should be ready")
    }
}

/// The output of a future that has nothing to wait for.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future should be ready"),
    }
}

/// Events as they were reported.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    pub(crate) fn sink(&self) -> Events {
        let log = self.clone();
        Events::new(move |event| log.0.lock().unwrap().push(event))
    }

    /// What was reported since the last time, as text.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The scopes that were revoked, and nothing else.
    pub(crate) fn revoked(&self) -> Vec<(Scope, Instant)> {
        let revoking = |event| match event {
            Event::Revoking { scope, deadline } => (scope, deadline),
            other => panic!("unexpected: {other:?}"),
        };
        self.take().into_iter().map(revoking).collect()
    }

    /// The scopes that were lost, and nothing else.
    pub(crate) fn lost(&self) -> Vec<Scope> {
        let lost = |event| match event {
            Event::Lost { scope } => scope,
            other => panic!("unexpected: {other:?}"),
        };
        self.take().into_iter().map(lost).collect()
    }
}

/// A private broker, its time, and one adapter.
pub(crate) struct Lab {
    pub(crate) clock: ManualClock,
    pub(crate) broker: MemoryBroker,
    pub(crate) adapter: Arc<dyn Adapter>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let clock = ManualClock::new();
        let mut config = Config::default();
        change(&mut config);
        let broker = MemoryBroker::with_config(config, Arc::new(clock.clone()));
        let adapter = broker.adapter();
        Self { clock, broker, adapter }
    }

    pub(crate) fn declare(&self, channel: &Channel) -> Arc<Binding> {
        let binding = Arc::new(Binding::new(channel.clone()));
        now(self.adapter.declare(&Topology::Channel(Arc::clone(&binding)), Declare::IfMissing)).unwrap();
        binding
    }

    pub(crate) fn sender(&self, channel: &Channel) -> Box<dyn Sender> {
        let binding = self.declare(channel);
        self.sender_to(&Target::Channel(binding)).unwrap()
    }

    pub(crate) fn sender_to(&self, target: &Target) -> Result<Box<dyn Sender>> {
        now(self.adapter.open_sender(target, &self.sending(Events::ignored()))).map(|opened| opened.handle)
    }

    pub(crate) fn receiver(&self, channel: &Channel) -> Arc<dyn Receiver> {
        self.receiver_with(channel, ROOM, &Log::default())
    }

    pub(crate) fn receiver_with(&self, channel: &Channel, prefetch: Room, log: &Log) -> Arc<dyn Receiver> {
        let binding = self.declare(channel);
        let options = self.receiving(prefetch, log.sink());
        now(self.adapter.open_receiver(&Source::Channel(binding), &options)).unwrap().handle
    }

    pub(crate) fn receiver_from(&self, source: &Source) -> Result<Opened<Arc<dyn Receiver>>> {
        now(self.adapter.open_receiver(source, &self.receiving(ROOM, Events::ignored())))
    }

    /// A receiver of that subscription, which is declared before where it has a name.
    pub(crate) fn subscriber(&self, subscription: &Subscription) -> Arc<dyn Receiver> {
        let binding = Arc::new(Binding::new(subscription.channel().clone()));
        let topology = Topology::Subscription(Arc::clone(&binding), subscription.clone());
        now(self.adapter.declare(&topology, Declare::IfMissing)).unwrap();
        self.receiver_from(&Source::Subscription(binding, subscription.clone())).unwrap().handle
    }

    pub(crate) fn sending(&self, events: Events) -> SenderOptions {
        SenderOptions::new(self.clock.now(), Arc::new(self.clock.clone()), events)
    }

    pub(crate) fn receiving(&self, prefetch: Room, events: Events) -> ReceiverOptions {
        let clock = Arc::new(self.clock.clone());
        ReceiverOptions::new(prefetch, Text::from_static("test"), self.clock.now(), clock, events)
    }
}

/// Messages with these payloads.
pub(crate) fn messages(payloads: &[&str]) -> Vec<Message> {
    payloads.iter().map(|payload| Message::new(payload.to_string())).collect()
}

/// Messages whose key is the first letter of their payload.
pub(crate) fn keyed(payloads: &[&str]) -> Vec<Message> {
    payloads.iter().map(|payload| Message::new(payload.to_string()).with_key(&payload[..1])).collect()
}

/// Sends a batch that is taken at once and in full.
pub(crate) fn send(sender: &mut Box<dyn Sender>, batch: &[Message]) {
    let confirm = sender.try_send(batch).expect("there should be room").unwrap();
    assert!(matches!(now(confirm), Confirmed::All(_)));
}

/// What is there now.
pub(crate) fn take(receiver: &Arc<dyn Receiver>) -> Vec<Received> {
    let mut into = Vec::new();
    let received = now(receiver.receive_batch(ROOM, &mut into)).unwrap();
    assert_eq!(received, Receive::More);
    into
}

/// A receiver's wait for messages, which gives them when it is over.
pub(crate) fn wait<'a>(receiver: &'a Arc<dyn Receiver>) -> Task<'a, Result<Vec<Received>>> {
    Task::waiting(async move {
        let mut into = Vec::new();
        receiver.receive_batch(ROOM, &mut into).await.map(|_| into)
    })
}

/// Asserts that nothing is there now.
pub(crate) fn silent(receiver: &Arc<dyn Receiver>) {
    drop(wait(receiver));
}

pub(crate) fn settle(receiver: &Arc<dyn Receiver>, token: &Token, outcome: Outcome) -> Result<()> {
    let mut batch = [Settle::new(token.clone(), outcome)];
    now(receiver.settle(&mut batch));
    let [settle] = batch;
    settle.result.expect("every settlement is answered")
}

pub(crate) fn ack(receiver: &Arc<dyn Receiver>, delivery: &Received) {
    settle(receiver, &delivery.token, Outcome::Ack).unwrap();
}

/// The payloads and attempts, such as `a1 b2`.
pub(crate) fn seen(deliveries: &[Received]) -> String {
    let one = |delivery: &Received| {
        let text = delivery.content.as_ref().map(|m| String::from_utf8_lossy(m.body()).into_owned());
        format!("{}:{}", text.unwrap(), delivery.attempt.unwrap())
    };
    deliveries.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(crate) fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

pub(crate) fn all_accepted(confirmed: &Confirmed) -> bool {
    match confirmed {
        Confirmed::Each(results) => results.iter().all(Result::is_ok),
        _ => true,
    }
}
