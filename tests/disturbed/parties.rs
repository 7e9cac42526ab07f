//! Who sends and who receives while servers and connections fail.

use crate::rng::Rng;
use crate::wait::{HANG, now, sleep, within};
use anybroker::adapter::MessageId;
use anybroker::conformance::History;
use anybroker::message::SendOutcome;
use anybroker::{Broker, Channel, Config, Delivery, Message};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a send may take, and how much later than that a busy machine may notice.
pub(crate) const SEND_DEADLINE: Duration = Duration::from_secs(6);
const GRACE: Duration = Duration::from_secs(1);

/// By when a consumer is open: its patience starts again with every fault that meets it.
const OPENING: Duration = Duration::from_secs(120);

const KEYS: u64 = 100;

/// The queue whose arrivals are judged: there is only one.
pub(crate) const QUEUE: &str = "the channel";

/// What all parties of a run share.
pub(crate) struct Run {
    pub(crate) channel: Channel,
    /// Everything that was sent.
    pub(crate) history: History,
    /// What was accepted alone: order is promised to that, as a message whose sending failed may still be on its way.
    pub(crate) accepted: History,
    /// What became of sends, by kind of error and outcome.
    pub(crate) results: Mutex<BTreeMap<String, usize>>,
    pub(crate) longest_send: Mutex<Duration>,
    pub(crate) longest_opening: Mutex<Duration>,
    pub(crate) retries: AtomicUsize,
    pub(crate) lives: AtomicUsize,
    /// When each was acknowledged first, by its id.
    acknowledged: Mutex<BTreeMap<String, Instant>>,
    pub(crate) faults: Mutex<Vec<String>>,
    /// No more is sent.
    pub(crate) sent: AtomicBool,
    /// There is nothing more to receive.
    pub(crate) over: AtomicBool,
}

impl Run {
    pub(crate) fn new(channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            history: History::new(),
            accepted: History::new(),
            results: Mutex::default(),
            longest_send: Mutex::default(),
            longest_opening: Mutex::default(),
            retries: AtomicUsize::new(0),
            lives: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
            faults: Mutex::default(),
            sent: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    fn fault(&self, what: impl Display) {
        self.faults.lock().unwrap().push(what.to_string());
    }

    pub(crate) fn acknowledged(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.acknowledged.lock().unwrap()
    }

    fn acknowledging(&self, message: &Message) {
        let id = message.id().map(ToString::to_string).unwrap_or_default();
        self.acknowledged().entry(id).or_insert_with(now);
    }

    fn note(
        &self,
        producer: &str,
        message: &Message,
        result: &anybroker::Result<anybroker::message::Receipt>,
    ) {
        let outcome = result.as_ref().err().map(|error| error.outcome().unwrap_or(SendOutcome::Unknown));
        self.history.sent(producer, message, outcome);
        if outcome.is_none() {
            self.accepted.sent(producer, message, None);
        }
        let what = match result {
            Ok(_) => String::from("accepted"),
            Err(error) => format!("{:?}/{outcome:?}", error.kind()),
        };
        *self.results.lock().unwrap().entry(what).or_default() += 1;
    }
}

/// A broker that is patient: what it opens waits for the server.
fn open(url: &str) -> Broker {
    let config = Config::url(url).expect("the URL is one");
    let builder = Broker::builder().config(config).send_deadline(SEND_DEADLINE);
    let builder = builder.open_deadline(Duration::from_secs(5)).close_deadline(Duration::from_secs(5));
    builder
        .backoff(Duration::from_millis(50), Duration::from_millis(500))
        .open_lazy()
        .expect("it connects nothing")
}

/// Sends until all is sent, several batches on their way at once.
pub(crate) async fn produce(run: Arc<Run>, url: String, name: String, mut rng: Rng) {
    let broker = open(&url);
    let producer = broker.producer(&run.channel).await.expect("it opens sooner or later");
    let mut number = 0;
    while !run.sent.load(Ordering::Relaxed) {
        let mut batch = || {
            let count = 1 + rng.below(12);
            let messages = (0..count).map(|_| {
                number += 1;
                let id = MessageId::from(format!("{name}-{number}"));
                Message::new("dish").with_key(format!("key {}", rng.below(KEYS))).with_id(id)
            });
            messages.collect::<Vec<_>>()
        };
        let batches = [batch(), batch(), batch()];
        let began = now();
        // Sends are ordered by their first poll.
        let [a, b, c] = batches.clone().map(|batch| producer.send_all(batch));
        let sending = async { tokio::join!(biased; a, b, c) };
        let Some((a, b, c)) = within(SEND_DEADLINE + GRACE, sending).await else {
            run.fault(format_args!("{name}: a send has not ended by its deadline"));
            return;
        };
        let took = began.elapsed();
        longest(&run.longest_send, took);
        for (message, result) in batches.iter().flatten().zip([a, b, c].iter().flatten()) {
            run.note(&name, message, result);
        }
        sleep(Duration::from_millis(5) + rng.millis_below(40)).await;
    }
    if within(HANG, broker.close()).await.is_none() {
        run.fault(format_args!("{name}: closing hangs"));
    }
}

/// One consumer after another, each with a broker of its own, until all is over.
pub(crate) async fn consume(run: Arc<Run>, url: String, name: String, mut rng: Rng) {
    while !run.over.load(Ordering::Relaxed) {
        let broker = open(&url);
        let opening = broker.consumer(&run.channel).prefetch([8, 64, 256][rng.below_usize(3)]);
        let began = now();
        let Some(mut consumer) = within(OPENING, opening).await else {
            run.fault(format_args!("{name}: opening a consumer hangs: {:?}", *broker.status().borrow()));
            return;
        };
        longest(&run.longest_opening, began.elapsed());
        run.lives.fetch_add(1, Ordering::Relaxed);
        let leaving = now() + Duration::from_secs(1) + rng.millis_below(9_000);
        while now() < leaving && !run.over.load(Ordering::Relaxed) {
            let consumer = consumer.as_mut().expect("it opens sooner or later");
            let Some(received) = within(Duration::from_millis(100), consumer.receive()).await else {
                continue;
            };
            let Ok(Some(delivery)) = received else {
                run.fault(format_args!("{name}: an open consumer gives nothing more"));
                return;
            };
            handle(&run, &name, delivery, &mut rng).await;
        }
        // In order, or with a broker that leaves behind nobody's back.
        if rng.chance(60) && within(HANG, broker.close()).await.is_none() {
            run.fault(format_args!("{name}: closing hangs"));
        }
    }
}

fn longest(of: &Mutex<Duration>, took: Duration) {
    let mut longest = of.lock().unwrap();
    *longest = took.max(*longest);
}

async fn handle(run: &Run, name: &str, delivery: Delivery, rng: &mut Rng) {
    for history in [&run.history, &run.accepted] {
        history.arrived(QUEUE, name, delivery.message(), Some(delivery.attempt()));
    }
    if rng.chance(5) {
        sleep(rng.millis_below(4)).await;
    }
    match rng.below(100) {
        0..=1 => {
            run.retries.fetch_add(1, Ordering::Relaxed);
            // Nobody waits for it, as nothing follows from it.
            drop(delivery.retry(rng.millis_below(30)));
        }
        2..=9 => {
            run.acknowledging(delivery.message());
            if within(HANG, delivery.ack()).await.is_none() {
                run.fault(format_args!("{name}: settling hangs"));
            }
        }
        _ => {
            run.acknowledging(delivery.message());
            drop(delivery.ack());
        }
    }
}
