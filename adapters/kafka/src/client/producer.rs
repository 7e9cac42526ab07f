use super::Properties;
use super::observer::created;
use super::search::{NO_TOPIC, Search};
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
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
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

/// Librdkafka keeps one number for each message: the sheet of its batch, and its index in the batch in so many bits.
const INDEX_BITS: u32 = 20;
/// A batch has fewer messages than this.
pub(crate) const MOST_OF_A_BATCH: usize = (1 << INDEX_BITS) - 1;
const MOST_SHEETS: usize = usize::MAX >> INDEX_BITS;

/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

impl Producer {
    pub(crate) fn new(properties: &Properties, clock: Arc<dyn Clock>) -> Result<Self> {
        let reports = Reports {
            trouble: Trouble::new(),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
            room: Notify::new(),
            sheets: Mutex::default(),
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
        let (polled, search) = (Arc::clone(&client), Search::new(properties));
        let thread = std::thread::Builder::new().name("anybroker-kafka-send".into()).spawn(move || {
            listen(&polled, search, &*clock);
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

    /// Makes room for a batch of so much, if there is; its last answer gives it back. What is larger than all of it has room alone.
    pub(crate) fn admit(&self, messages: usize, bytes: usize) -> bool {
        let reports = self.reports();
        let (m, b, batches) = (
            reports.messages.fetch_add(messages, Ordering::AcqRel),
            reports.bytes.fetch_add(bytes, Ordering::AcqRel),
            reports.batches.fetch_add(1, Ordering::AcqRel),
        );
        let fits = m + messages <= MOST_MESSAGES && b + bytes <= MOST_BYTES && batches < MOST_SHEETS;
        let fits = fits || m == 0;
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

    /// Hands one message over; what becomes of it is written at its place.
    pub(crate) fn send(&self, to: &Destination<'_>, message: &Message, now: Timestamp, place: Place) {
        let mut headers = None;
        let mut put = |name: &str, value: Option<&[u8]>| {
            let so_far = headers.take().unwrap_or_else(|| OwnedHeaders::new_with_capacity(4));
            headers = Some(so_far.insert(Header { key: name, value }));
        };
        let encoded = wire::encode(message, now, &mut put);
        let timestamp = match encoded {
            Ok(timestamp) => timestamp,
            Err(error) => {
                return self.reports().write(place, Err(error.with_outcome(SendOutcome::NotSent)));
            }
        };
        if let Some(owner) = to.owner {
            put(wire::TO, Some(owner.as_bytes()));
        }
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(to.topic, place.0).timestamp(timestamp);
        record.partition = to.partition;
        record.key = message.key().map(|key| key.as_bytes());
        record.payload = message.payload().map(|payload| &payload[..]);
        record.headers = headers;
        if let Err((failed, _)) = self.client.send(record) {
            self.reports().look(&self.client);
            let failed = self.reports().failed(&failed, message.body().len());
            self.reports().write(place, Err(failed.with_outcome(SendOutcome::NotSent)));
        }
    }

    /// The places of the messages of a batch that was admitted, and what is written there in the end.
    pub(crate) fn sheet(
        &self,
        messages: usize,
        bytes: usize,
        sender: &Arc<Sent>,
    ) -> (impl Iterator<Item = Place> + use<>, oneshot::Receiver<Vec<Result<Receipt>>>) {
        let (answer, answered) = oneshot::channel();
        sender.batches.fetch_add(1, Ordering::AcqRel);
        let mut results = Vec::with_capacity(messages);
        results.resize_with(messages, || None);
        let (client, sender) = (Arc::clone(&self.client), Arc::clone(sender));
        let sheet = Sheet { results, missing: messages, answer, bytes, client, sender };
        let at = lock(&self.reports().sheets).add(sheet) << INDEX_BITS;
        ((0..messages).map(move |index| Place(at | index)), answered)
    }

    /// Gives up what is not confirmed, and ends.
    pub(crate) async fn close(&self, clock: &dyn Clock, deadline: Instant) {
        self.end();
        let ended = lock(&self.ended).take();
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
fn listen(client: &BaseProducer<Reports>, mut search: Search, clock: &dyn Clock) {
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
        search.look(client.client(), &reports.trouble, NO_TOPIC, clock.now());
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
struct Sheet {
    results: Vec<Option<Result<Receipt>>>,
    missing: usize,
    answer: oneshot::Sender<Vec<Result<Receipt>>>,
    bytes: usize,
    client: Arc<BaseProducer<Reports>>,
    sender: Arc<Sent>,
}

/// Those that have not all of their answers, at places that are used again.
#[derive(Default)]
struct Sheets {
    sheets: Vec<Option<Sheet>>,
    free: Vec<usize>,
}

impl Sheets {
    fn add(&mut self, sheet: Sheet) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.sheets.push(None);
            self.sheets.len() - 1
        });
        self.sheets[at] = Some(sheet);
        at
    }

    fn of(&self, place: Place) -> Option<&Sheet> {
        self.sheets.get(place.0 >> INDEX_BITS)?.as_ref()
    }

    /// The whole sheet, if that was its last answer.
    fn write(&mut self, place: Place, result: Result<Receipt>) -> Option<Sheet> {
        let at = place.0 >> INDEX_BITS;
        let sheet = self.sheets.get_mut(at)?.as_mut()?;
        let answer = sheet.results.get_mut(place.0 & MOST_OF_A_BATCH)?;
        sheet.missing -= usize::from(answer.replace(result).is_none());
        if sheet.missing > 0 {
            return None;
        }
        self.free.push(at);
        self.sheets[at].take()
    }
}

/// Which message of which sheet a report is about.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What librdkafka calls on the thread of [`listen`].
pub(crate) struct Reports {
    trouble: Arc<Trouble>,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    batches: AtomicUsize,
    room: Notify,
    sheets: Mutex<Sheets>,
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
        self.batches.fetch_sub(1, Ordering::AcqRel);
        self.room.notify_waiters();
    }

    fn write(&self, place: Place, result: Result<Receipt>) {
        let Some(sheet) = lock(&self.sheets).write(place, result) else { return };
        self.leave(sheet.results.len(), sheet.bytes);
        // Whoever asked may be gone.
        let _ = sheet.answer.send(sheet.results.into_iter().flatten().collect());
        if sheet.sender.batches.fetch_sub(1, Ordering::AcqRel) == 1 {
            sheet.sender.none.notify_waiters();
        }
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
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, place: usize) {
        let place = Place(place);
        let result = match report {
            Ok(message) => {
                self.trouble.well();
                let shard = u32::try_from(message.partition()).unwrap_or(u32::MAX);
                Ok(Receipt::new(Level::Durable).at(shard, message.offset().unsigned_abs()))
            }
            Err((failed, message)) => {
                let client = lock(&self.sheets).of(place).map(|sheet| Arc::clone(&sheet.client));
                if let Some(client) = client {
                    self.look(&client);
                }
                Err(self.failed(failed, message.payload_len()))
            }
        };
        self.write(place, result);
    }
}
