use super::Properties;
use super::observer::created;
use super::trouble::Trouble;
use crate::error::{code, error, kind, operation};
use crate::wire;
use anybroker_contract::{Clock, Error, ErrorKind, Level, Message, Receipt, Result, SendOutcome, Timestamp};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// One client that sends, for all senders of an adapter, with the thread that hears what became of the messages.
pub(crate) struct Producer {
    client: Arc<BaseProducer<Reports>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the client keeps for all senders together: beyond it they wait.
const MOST_MESSAGES: usize = 100_000;
const MOST_BYTES: usize = 256 << 20;

/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

impl Producer {
    pub(crate) fn new(properties: &Properties) -> Result<Self> {
        let reports = Reports {
            trouble: Trouble::new(),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            room: Notify::new(),
            dead: AtomicBool::new(false),
            shaken: AtomicBool::new(false),
            fatal: OnceLock::new(),
            ending: AtomicBool::new(false),
        };
        let mut config = properties.producing();
        // Bounded here, where waiting is possible.
        config.set("queue.buffering.max.messages", "0").set("queue.buffering.max.kbytes", "2147483647");
        let client: BaseProducer<Reports> = config.create_with_context(reports).map_err(|e| created(&e))?;
        let client = Arc::new(client);
        let (done, ended) = oneshot::channel();
        let polled = Arc::clone(&client);
        let thread = std::thread::Builder::new().name("anybroker-kafka-send".into()).spawn(move || {
            listen(&polled);
            drop(polled);
            // The adapter may be gone.
            let _ = done.send(());
        });
        thread.map_err(|e| error(ErrorKind::Other, "no thread can be started").with_source(e))?;
        Ok(Self { client, ended: Mutex::new(Some(ended)) })
    }

    /// Whether it takes messages; one that does not never will again.
    pub(crate) fn is_live(&self) -> bool {
        !self.reports().dead.load(Ordering::Acquire)
    }

    /// Why it does not.
    pub(crate) fn gone(&self) -> Error {
        self.reports().gone()
    }

    pub(crate) fn trouble(&self) -> &Trouble {
        &self.reports().trouble
    }

    /// Makes room for so much, if there is; [`Sheet`] gives it back. What is larger than all of it has room alone.
    pub(crate) fn admit(&self, messages: usize, bytes: usize) -> bool {
        let reports = self.reports();
        let (m, b) = (
            reports.messages.fetch_add(messages, Ordering::AcqRel),
            reports.bytes.fetch_add(bytes, Ordering::AcqRel),
        );
        let fits = m == 0 || (m + messages <= MOST_MESSAGES && b + bytes <= MOST_BYTES);
        if !fits {
            reports.leave(messages, bytes);
        }
        fits
    }

    /// Waits until there is room.
    pub(crate) async fn make_room(&self, messages: usize, bytes: usize) {
        loop {
            let notified = self.reports().room.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if !self.is_live() || self.admit(messages, bytes) {
                return;
            }
            notified.await;
        }
    }

    /// Hands one message over; what becomes of it is written at its place of the sheet.
    pub(crate) fn send(
        &self,
        to: &Destination<'_>,
        message: &Message,
        now: Timestamp,
        sheet: &Arc<Sheet>,
        index: usize,
    ) {
        let mut headers = None;
        let mut put = |name: &str, value: Option<&[u8]>| {
            let so_far = headers.take().unwrap_or_else(|| OwnedHeaders::new_with_capacity(4));
            headers = Some(so_far.insert(Header { key: name, value }));
        };
        let encoded = wire::encode(message, now, &mut put);
        let timestamp = match encoded {
            Ok(timestamp) => timestamp,
            Err(error) => return sheet.write(index, Err(error.with_outcome(SendOutcome::NotSent))),
        };
        if let Some(owner) = to.owner {
            put(wire::TO, Some(owner.as_bytes()));
        }
        let place = Box::new(Place { sheet: Arc::clone(sheet), index });
        let mut record: BaseRecord<'_, [u8], [u8], Box<Place>> =
            BaseRecord::with_opaque_to(to.topic, place).timestamp(timestamp);
        record.partition = to.partition;
        record.key = message.key().map(|key| key.as_bytes());
        record.payload = message.payload().map(|payload| &payload[..]);
        record.headers = headers;
        if let Err((failed, _)) = self.client.send(record) {
            self.reports().look(&self.client);
            let failed = self.reports().failed(&failed, message.body().len());
            sheet.write(index, Err(failed.with_outcome(SendOutcome::NotSent)));
        }
    }

    /// A sheet for a batch that was admitted, and what is written on it in the end.
    pub(crate) fn sheet(
        &self,
        messages: usize,
        bytes: usize,
        sender: &Arc<Sent>,
    ) -> (Arc<Sheet>, oneshot::Receiver<Vec<Result<Receipt>>>) {
        let (answer, answered) = oneshot::channel();
        sender.batches.fetch_add(1, Ordering::AcqRel);
        let mut results = Vec::with_capacity(messages);
        results.resize_with(messages, || None);
        let sheet = Sheet {
            written: Mutex::new(Written { results, missing: messages, answer: Some(answer) }),
            bytes,
            client: Arc::clone(&self.client),
            sender: Arc::clone(sender),
        };
        (Arc::new(sheet), answered)
    }

    /// Gives up what is not confirmed, and ends.
    pub(crate) async fn close(&self, clock: &dyn Clock, deadline: Instant) {
        self.end();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            tokio::select! {
                _ = ended => {}
                () = clock.sleep_until(deadline) => {}
            }
        }
    }

    fn end(&self) {
        let reports = self.reports();
        reports.dead.store(true, Ordering::Release);
        reports.ending.store(true, Ordering::Release);
        reports.room.notify_waiters();
    }

    fn reports(&self) -> &Reports {
        self.client.context()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}

/// Hears what became of the messages until the client is to end. What is left of it then, or when it is dead, has failed.
fn listen(client: &BaseProducer<Reports>) {
    let reports = client.context();
    let all = || PurgeConfig::default().queue().inflight();
    let mut purged = false;
    while !reports.ending.load(Ordering::Acquire) {
        client.poll(LOOK);
        // What it says does not tell whether it goes on.
        if reports.shaken.swap(false, Ordering::AcqRel) {
            reports.look(client);
        }
        if reports.dead.load(Ordering::Acquire) && !std::mem::replace(&mut purged, true) {
            client.purge(all());
        }
        if reports.trouble.is_down() && client.client().fetch_metadata(Some("anybroker.health"), LOOK).is_ok()
        {
            reports.trouble.well();
        }
    }
    client.purge(all());
    while client.in_flight_count() > 0 {
        client.poll(Duration::from_millis(10));
    }
}

/// Where a message goes.
pub(crate) struct Destination<'a> {
    pub(crate) topic: &'a str,
    /// By the key, unless it says so.
    pub(crate) partition: Option<i32>,
    /// Whose reply it is.
    pub(crate) owner: Option<&'a str>,
}

/// The batches of one sender that are on their way.
#[derive(Default)]
pub(crate) struct Sent {
    batches: AtomicUsize,
    none: Notify,
}

impl Sent {
    /// Resolves when all have their answers.
    pub(crate) async fn all_answered(&self) {
        loop {
            let mut none = std::pin::pin!(self.none.notified());
            none.as_mut().enable();
            if self.batches.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// The answers of one batch.
pub(crate) struct Sheet {
    written: Mutex<Written>,
    bytes: usize,
    client: Arc<BaseProducer<Reports>>,
    sender: Arc<Sent>,
}

struct Written {
    results: Vec<Option<Result<Receipt>>>,
    missing: usize,
    answer: Option<oneshot::Sender<Vec<Result<Receipt>>>>,
}

impl Sheet {
    pub(crate) fn write(&self, index: usize, result: Result<Receipt>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.results[index] = Some(result);
        written.missing -= 1;
        if written.missing > 0 {
            return;
        }
        let results = std::mem::take(&mut written.results);
        let answer = written.answer.take();
        drop(written);
        self.client.context().leave(results.len(), self.bytes);
        if let Some(answer) = answer {
            // Whoever asked may be gone.
            let _ = answer.send(results.into_iter().flatten().collect());
        }
        if self.sender.batches.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.sender.none.notify_waiters();
        }
    }
}

/// Which message a report is about.
pub(crate) struct Place {
    sheet: Arc<Sheet>,
    index: usize,
}

/// What librdkafka calls on the thread of [`listen`].
pub(crate) struct Reports {
    trouble: Arc<Trouble>,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    room: Notify,
    dead: AtomicBool,
    /// It has said that something is wrong.
    shaken: AtomicBool,
    /// Why it is dead, where librdkafka says so.
    fatal: OnceLock<Code>,
    ending: AtomicBool,
}

impl Reports {
    fn leave(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.room.notify_waiters();
    }

    /// Notes whether it is dead for good.
    fn look(&self, client: &BaseProducer<Self>) {
        if let Some((code, _)) = client.client().fatal_error() {
            self.fatal.get_or_init(|| code);
            self.dead.store(true, Ordering::Release);
            self.room.notify_waiters();
        }
    }

    fn gone(&self) -> Error {
        match self.fatal.get() {
            // Without a right to write to any topic, nobody gets the number that a producer without duplicates needs.
            Some(Code::ClusterAuthorizationFailed) => operation("sending", Code::TopicAuthorizationFailed),
            Some(code) if kind(*code) == ErrorKind::Unauthorized => operation("sending", *code),
            _ => error(ErrorKind::Disconnected, "the client was closed"),
        }
    }

    fn failed(&self, failed: &KafkaError, size: usize) -> Error {
        let Some(code) = code(failed) else {
            return error(ErrorKind::Other, format!("sending: {failed}")).with_outcome(SendOutcome::Unknown);
        };
        let outcome = match (code, kind(code)) {
            (Code::PurgeQueue | Code::Fatal, _) => SendOutcome::NotSent,
            (
                _,
                ErrorKind::NotFound
                | ErrorKind::Unauthorized
                | ErrorKind::PayloadTooLarge
                | ErrorKind::Rejected
                | ErrorKind::Config,
            ) => SendOutcome::Refused,
            _ => SendOutcome::Unknown,
        };
        let why = match code {
            Code::MessageTimedOut => self.trouble.refused(),
            _ => None,
        };
        match (why, code) {
            (Some(refused), _) => refused,
            (_, Code::MessageTimedOut) => error(
                ErrorKind::Timeout,
                "sending: Kafka has not confirmed the message in `delivery-timeout`",
            ),
            (_, Code::PurgeQueue | Code::PurgeInflight | Code::Fatal) => self.gone(),
            (_, Code::MessageSizeTooLarge) => {
                operation(&format!("sending a message with {size} bytes of payload"), code)
            }
            _ => operation("sending", code),
        }
        .with_outcome(outcome)
    }
}

impl ClientContext for Reports {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.heard(&error, reason);
        self.shaken.store(true, Ordering::Release);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Place>;

    fn delivery(&self, report: &DeliveryResult<'_>, place: Box<Place>) {
        let result = match report {
            Ok(message) => {
                self.trouble.well();
                let shard = u32::try_from(message.partition()).unwrap_or(u32::MAX);
                Ok(Receipt::new(Level::Durable).at(shard, message.offset().unsigned_abs()))
            }
            Err((failed, message)) => {
                self.look(&place.sheet.client);
                Err(self.failed(failed, message.payload_len()))
            }
        };
        place.sheet.write(place.index, result);
    }
}
