mod commits;
mod membership;
mod records;

use self::commits::{Commit, Flush};
use self::membership::Leaving;
use super::Properties;
use super::observer::created;
use super::queue::{Inbox, Signal};
use super::search::Search;
use super::start::{self, Until};
use super::trouble::Trouble;
use crate::error::{code, error, operation};
use crate::receiver::{FAREWELL, Shared, gone};
use anybroker_contract::{Clock, Error, ErrorKind, Events, Result, Start, Text};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What the receiver asks of the thread that reads for it.
pub(crate) enum Task {
    /// Answer when the positions of all that is settled are committed.
    Flush(oneshot::Sender<Result<()>>),
    /// Commit, leave, and answer.
    Close(oneshot::Sender<Result<()>>),
    /// Leave at once.
    Crash,
}

/// How the thread is reached.
pub(crate) struct Reader {
    tasks: Arc<Mutex<Vec<Task>>>,
    signal: Arc<Signal>,
}

impl Reader {
    pub(crate) fn give(&self, task: Task) {
        lock(&self.tasks).push(task);
        self.signal.set();
    }

    pub(crate) fn wake(&self) {
        self.signal.set();
    }
}

/// What is read, and as whom.
pub(crate) struct Terms {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    pub(crate) from: From,
    pub(crate) instance: Text,
    pub(crate) deadline: Instant,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
}

/// As whom.
pub(crate) enum From {
    /// As a member of a group. One that is new begins where the topic does, or has to be made before.
    Group { name: String, made: bool },
    /// Alone, and without a trace: all partitions, or one of them and what is meant for that owner.
    Alone { name: String, only: Option<(i32, String)>, start: Start },
}

impl Reader {
    /// Starts the thread, and resolves when it reads.
    pub(crate) async fn open(properties: &Properties, terms: Terms) -> Result<Arc<Shared>> {
        let (name, member) = match &terms.from {
            From::Group { name, .. } => (name, true),
            From::Alone { name, .. } => (name, false),
        };
        let config = match member {
            true => properties.member(name, &terms.instance),
            // Librdkafka reads partitions only in the name of a group, which need not exist.
            false => {
                let mut config = properties.reading();
                config.set("group.id", name);
                config
            }
        };
        let trouble = Trouble::new();
        trouble.tell(terms.events.clone());
        let context = Context { trouble, happened: Mutex::default(), ending: AtomicBool::new(false) };
        let reader = Self { tasks: Arc::default(), signal: Arc::default() };
        let (tasks, signal) = (Arc::clone(&reader.tasks), Arc::clone(&reader.signal));
        let shared = Arc::new(Shared::new(reader));
        let (opened, opening) = oneshot::channel();
        let (limits, given) = (properties.config.clone(), Arc::clone(&shared));
        let search = Search::new(properties);
        let thread = std::thread::Builder::new().name("anybroker-kafka-read".into()).spawn(move || {
            let mut consumer: BaseConsumer<Context> = match config.create_with_context(context) {
                Ok(consumer) => consumer,
                Err(failed) => {
                    let _ = opened.send(Err(created(&failed)));
                    return;
                }
            };
            let told = Arc::clone(&signal);
            consumer.set_nonempty_callback(move || told.set());
            let parting = {
                let Some(inbox) = Inbox::new(&consumer, signal) else {
                    let _ = opened.send(Err(error(ErrorKind::Other, "librdkafka gives no queue")));
                    return;
                };
                let (opened, tasks) = (Some(opened), &tasks);
                let mut reading = Reading {
                    consumer: &consumer,
                    inbox,
                    batch: Vec::new(),
                    shared: &given,
                    tasks,
                    terms: &terms,
                    opened,
                    opened_at_latest: None,
                    leaving: None,
                    commit: Commit::default(),
                    flushes: Vec::new(),
                    closing: None,
                    unknown_since: None,
                    search,
                    commit_interval: limits.commit_interval(),
                    revoke_within: limits.revoke_within(),
                    max_ahead: limits.max_ahead,
                };
                reading.run()
            };
            consumer.context().ending.store(true, Ordering::Release);
            given.die(gone());
            // Leaves the group, which may take as long as no broker answers.
            drop(consumer);
            if let Some((answer, closed)) = parting {
                let _ = answer.send(closed);
            }
            // Whatever was asked too late is answered by being dropped.
            lock(&tasks).clear();
        });
        thread.map_err(|e| error(ErrorKind::Other, "no thread can be started").with_source(e))?;
        match opening.await {
            Ok(Ok(())) => Ok(shared),
            Ok(Err(failed)) => Err(failed),
            Err(_) => Err(error(ErrorKind::Other, "the reader's thread has ended before it read")),
        }
    }
}

/// What librdkafka reports on the thread, kept until the thread turns to it.
struct Context {
    trouble: Arc<Trouble>,
    happened: Mutex<Vec<Happened>>,
    /// Partitions are given away at once.
    ending: AtomicBool,
}

enum Happened {
    Assigned(TopicPartitionList),
    Revoked(TopicPartitionList, bool),
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble.heard(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.ending.load(Ordering::Acquire) {
            match assigned {
                true => drop(consumer.unassign()),
                false => unassign(consumer, partitions),
            }
            return;
        }
        lock(&self.happened).push(match assigned {
            true => Happened::Assigned(partitions.clone()),
            false => Happened::Revoked(partitions.clone(), consumer.assignment_lost()),
        });
    }
}

fn unassign(consumer: &BaseConsumer<Context>, partitions: &TopicPartitionList) {
    // It fails only where the client is gone, or has taken them itself.
    let _ = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    };
}

/// The thread at work.
struct Reading<'c> {
    consumer: &'c BaseConsumer<Context>,
    inbox: Inbox<'c, Context>,
    /// What was just read; empty, and kept for its memory.
    batch: Vec<records::Read>,
    shared: &'c Arc<Shared>,
    tasks: &'c Mutex<Vec<Task>>,
    terms: &'c Terms,
    opened: Option<oneshot::Sender<Result<()>>>,
    opened_at_latest: Option<Instant>,
    leaving: Option<Leaving>,
    commit: Commit,
    flushes: Vec<Flush>,
    closing: Option<(oneshot::Sender<Result<()>>, Instant)>,
    /// Since when the topic is said not to be there.
    unknown_since: Option<Instant>,
    search: Search,
    commit_interval: Duration,
    revoke_within: Duration,
    max_ahead: u64,
}

type Parting = Option<(oneshot::Sender<Result<()>>, Result<()>)>;

/// How many events are turned to before records.
const EVENTS: usize = 64;

/// Nothing is waited for longer than that, so that nothing depends on being woken.
const TICK: Duration = Duration::from_millis(100);

/// How long going back to a record may take.
const SEEK: Duration = Duration::from_secs(5);

/// How long joining a group is waited for: until the first assignment, or until then; with more members than partitions there may be none.
const JOINING: Duration = Duration::from_secs(5);

/// How long a topic may seem not to be there, as it does for a moment when a broker starts.
const UNKNOWN: Duration = Duration::from_secs(5);

impl Reading<'_> {
    fn run(&mut self) -> Parting {
        if let Err(failed) = self.begin() {
            self.report(Err(failed));
            return None;
        }
        loop {
            let mut idle = self.events();
            for task in std::mem::take(&mut *lock(self.tasks)) {
                match task {
                    Task::Flush(answer) => self.flush(answer),
                    Task::Close(answer) => {
                        self.closing.get_or_insert((answer, self.now() + FAREWELL));
                    }
                    Task::Crash => return None,
                }
            }
            idle &= self.fetch() == 0;
            self.give_away();
            self.keep_within_bounds();
            self.answer_flushes();
            if self.opened_at_latest.is_some_and(|latest| latest <= self.now()) {
                self.report(Ok(()));
            }
            if let Some(closed) = self.close() {
                return closed;
            }
            self.commit_when_due();
            if self.closing.is_none() && self.shared.state().dead.is_some() {
                return None;
            }
            self.probe();
            if idle {
                self.inbox.signal().wait(TICK);
            }
        }
    }

    /// Begins to read, or to join.
    fn begin(&mut self) -> Result<()> {
        let terms = self.terms;
        let until = Until { deadline: terms.deadline, clock: Arc::clone(&terms.clock) };
        match &terms.from {
            From::Group { name, made } => {
                if *made && !start::exists(self.consumer, &terms.topic, terms.partitions, name, &until)? {
                    return Err(start::missing(name));
                }
                self.consumer.subscribe(&[&terms.topic]).map_err(|e| failed("joining the group", &e))?;
                self.opened_at_latest = Some(terms.deadline.min(self.now() + JOINING));
                Ok(())
            }
            From::Alone { only, start, .. } => {
                let partitions: Vec<i32> = match only {
                    Some((partition, _)) => vec![*partition],
                    None => (0..terms.partitions).collect(),
                };
                let offsets = start::resolve(self.consumer, &terms.topic, &partitions, *start, &until)?;
                for partition in partitions {
                    self.shared.state().partitions.assign(partition);
                    self.inbox.take_over(&terms.topic, partition);
                }
                self.consumer.assign(&offsets).map_err(|e| failed("reading the topic", &e))?;
                self.report(Ok(()));
                Ok(())
            }
        }
    }

    fn report(&mut self, opened: Result<()>) {
        self.opened_at_latest = None;
        if let Some(opening) = self.opened.take() {
            // Whoever asked may be gone; then comes a crash.
            let _ = opening.send(opened);
        }
    }

    /// Turns to what librdkafka reports. True when there was nothing.
    fn events(&mut self) -> bool {
        let mut idle = true;
        while let Some(answer) = self.inbox.committed() {
            self.committed(answer);
            idle = false;
        }
        for _ in 0..EVENTS {
            match self.consumer.poll(Duration::ZERO) {
                None if lock(&self.consumer.context().happened).is_empty() => break,
                None => {}
                Some(Err(failed)) => self.failed(&failed),
                // Records come to the inbox. One that came here before it was told so is read again from there.
                Some(Ok(stray)) => {
                    let (partition, offset) = {
                        use rdkafka::Message as _;
                        (stray.partition(), stray.offset())
                    };
                    drop(stray);
                    if let Err(refused) =
                        self.consumer.seek(&self.terms.topic, partition, Offset::Offset(offset), SEEK)
                    {
                        self.shared.die(failed("reading a record again", &refused));
                    }
                }
            }
            idle = false;
            for happened in std::mem::take(&mut *lock(&self.consumer.context().happened)) {
                match happened {
                    Happened::Assigned(partitions) => self.assigned(&partitions),
                    Happened::Revoked(partitions, lost) => self.revoked(partitions, lost),
                }
            }
        }
        idle
    }

    /// Tries whether there are brokers again, if there were none: librdkafka says only when it fails.
    fn probe(&mut self) {
        let now = self.now();
        if self.unknown_since.is_some_and(|since| since + UNKNOWN <= now) {
            return self.shared.die(super::observer::absent(&self.terms.topic));
        }
        let (client, trouble) = (self.consumer.client(), &self.consumer.context().trouble);
        self.search.look(client, trouble, &self.terms.topic, now);
    }

    /// What librdkafka says is wrong. It tries again by itself, but where somebody has to do something.
    fn failed(&mut self, said: &KafkaError) {
        let Some(code) = code(said) else { return };
        let group = || match &self.terms.from {
            From::Group { name, .. } | From::Alone { name, .. } => name.clone(),
        };
        let dead = match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => {
                self.unknown_since.get_or_insert(self.terms.clock.now());
                return;
            }
            Code::GroupAuthorizationFailed if !self.commits() => return,
            Code::GroupAuthorizationFailed
            | Code::InconsistentGroupProtocol
            | Code::InvalidSessionTimeout
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::FencedInstanceId
            | Code::GroupMaxSizeReached => operation(&format!("reading as the group `{}`", group()), code),
            Code::TopicAuthorizationFailed => {
                operation(&format!("reading the topic `{}`", self.terms.topic), code)
            }
            Code::Fatal => match self.consumer.client().fatal_error() {
                Some((code, reason)) => error(
                    match crate::error::kind(code) {
                        ErrorKind::Other => ErrorKind::Disconnected,
                        kind => kind,
                    },
                    format!("the client has ended: {reason}"),
                ),
                None => error(ErrorKind::Disconnected, "the client has ended"),
            },
            _ => match self.consumer.context().trouble.refused() {
                Some(refused) => refused,
                None => return,
            },
        };
        self.report(Err(dead.duplicate()));
        self.shared.die(dead);
    }

    fn now(&self) -> Instant {
        self.terms.clock.now()
    }
}

fn failed(what: &str, failed: &KafkaError) -> Error {
    match code(failed) {
        Some(code) => operation(what, code),
        None => error(ErrorKind::Other, format!("{what}: {failed}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
