//! Folders as channels, files as messages.
//!
//! ```text
//! root/orders/.kind                      "point-to-point"
//! root/orders/all/00000000000000000007.2 the seventh record, whose next delivery is attempt 2
//! root/order-events/billing/…            a subscription
//! root/orders/all.dead/…                 dead letters
//! ```
//!
//! One process uses a folder at a time. File calls are short and block the thread that makes them; an adapter for production would move them to a
//! thread of its own.

use crate::wire::{decode, encode};
use anybroker::adapter::{
    Adapter, Address, Binding, Bytes, Capabilities, Capability, ChannelKind, Confirm, Declare, Error,
    ErrorKind, Level, Message, Opened, Outcome, Receipt, Receive, Received, Receiver, ReceiverOptions,
    Replies, Result, Room, SendOutcome, Sender, SenderOptions, Settle, Source, Subscription, Target, Token,
    Topology, async_trait,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::{fs, io};
use tokio::sync::Notify;

/// The broker: a folder, and who holds which of its files.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next record, over all queues.
    next: u64,
    /// Counts the losses of all connections. A handle of an earlier epoch is dead.
    epoch: u64,
    receivers: u64,
    claims: HashMap<u64, Claim>,
}

/// A record that a receiver holds.
#[derive(Debug)]
struct Claim {
    /// Whether the connection of its receiver is closed.
    closed: Arc<AtomicBool>,
    receiver: u64,
    attempt: u32,
    file: PathBuf,
}

impl Files {
    /// The broker in that folder, which goes on where the last one ended.
    pub(crate) fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        let mut next = 0;
        for channel in folders(&root)? {
            for queue in folders(&channel)? {
                next = records(&queue)?.last().map_or(next, |record| next.max(record.number + 1));
            }
        }
        let state = Mutex::new(State { next, ..State::default() });
        Ok(Self(Arc::new(Shared { root, state, changed: Notify::new() })))
    }

    /// A connection of its own.
    pub(crate) fn connect(&self) -> Arc<dyn Adapter> {
        Arc::new(Connection { files: self.clone(), closed: Arc::default() })
    }

    /// Ends all handles, as when a network fails.
    pub(crate) fn cut(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        state.claims.clear();
        self.0.changed.notify_waiters();
    }

    /// Puts raw bytes into a point-to-point channel, as a foreign program might.
    pub(crate) fn put(&self, to: &Binding, raw: &[u8]) -> Result<()> {
        let queue = self.queue(to, None, false)?;
        write(&mut self.lock(), &queue, raw).map_err(broken)?;
        self.0.changed.notify_waiters();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic under the lock")
    }

    fn channel(&self, binding: &Binding) -> Result<PathBuf> {
        match &binding.address {
            Address::Table(_) => {
                Err(Error::new(ErrorKind::Config, "a folder has one name, not a table of them"))
            }
            _ => Ok(self.0.root.join(file_name(binding.native_name())?)),
        }
    }

    /// The folder of the records of a channel, subscription or dead-letter channel.
    fn queue(&self, binding: &Binding, subscription: Option<&str>, dead: bool) -> Result<PathBuf> {
        let name = subscription.map_or(Ok("all"), file_name)?;
        Ok(self.channel(binding)?.join(if dead { format!("{name}.dead") } else { name.to_owned() }))
    }

    fn declare(&self, binding: &Binding, queue: Option<PathBuf>, mode: Declare) -> Result<()> {
        let channel = self.channel(binding)?;
        let kind = binding.channel.kind();
        match fs::read_to_string(channel.join(".kind")) {
            Ok(other) if other == kind.as_str() => {}
            Ok(other) => {
                let what =
                    format!("`{}` is {other} and was declared {}", binding.native_name(), kind.as_str());
                return Err(Error::new(ErrorKind::Conflict, what));
            }
            Err(_) if mode == Declare::Verify => return Err(missing(&channel)),
            Err(_) => {
                fs::create_dir_all(&channel).map_err(broken)?;
                fs::write(channel.join(".kind"), kind.as_str()).map_err(broken)?;
            }
        }
        match queue {
            Some(queue) if mode == Declare::Verify && !queue.is_dir() => Err(missing(&queue)),
            Some(queue) => fs::create_dir_all(queue).map_err(broken),
            None => Ok(()),
        }
    }
}

/// One connection.
#[derive(Debug)]
struct Connection {
    files: Files,
    closed: Arc<AtomicBool>,
}

/// What a handle needs to know whether it is still alive.
struct Line {
    files: Files,
    closed: Arc<AtomicBool>,
    epoch: u64,
}

impl Connection {
    fn check(&self) -> Result<()> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::new(ErrorKind::Closed, "the connection is closed")),
            false => Ok(()),
        }
    }

    fn line(&self) -> Line {
        Line { files: self.files.clone(), closed: Arc::clone(&self.closed), epoch: self.files.lock().epoch }
    }
}

impl Line {
    /// The state, if this handle may still use it.
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.files.lock();
        match state.epoch == self.epoch && !self.closed.load(Ordering::Acquire) {
            true => Ok(state),
            false => Err(Error::new(ErrorKind::Disconnected, "the connection is lost")),
        }
    }
}

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::none()
        .native(&[
            Capability::PointToPoint,
            Capability::PublishSubscribe,
            Capability::NamedSubscription,
            Capability::AttemptCount,
            Capability::DeadLetter,
        ])
        .without(
            Capability::Durable,
            "cannot keep: it does not wait until a file is on disk",
            "bind it to a broker that does, or drop the requirement",
        );
    capabilities.level = Level::Kernel;
    capabilities.max_message_bytes = Some(1 << 20);
    capabilities
}

#[async_trait]
impl Adapter for Connection {
    fn name(&self) -> &'static str {
        "files"
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        self.check()?;
        match topology {
            Topology::Channel(binding) => {
                let queue = match binding.channel.kind() {
                    ChannelKind::PointToPoint => Some(self.files.queue(binding, None, false)?),
                    _ => None,
                };
                self.files.declare(binding, queue, mode)
            }
            Topology::Subscription(binding, subscription) => {
                let queue = self.files.queue(binding, Some(named(subscription)?), false)?;
                self.files.declare(binding, Some(queue), mode)
            }
            Topology::DeadLetter(binding, name) => {
                let queue = self.files.queue(binding, name.as_deref(), true)?;
                self.files.declare(binding, Some(queue), mode)
            }
            _ => Err(unknown()),
        }
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        self.check()?;
        let folder = match topology {
            Topology::Channel(binding) => self.files.channel(binding)?,
            Topology::Subscription(binding, subscription) => {
                self.files.queue(binding, Some(named(subscription)?), false)?
            }
            Topology::DeadLetter(binding, name) => self.files.queue(binding, name.as_deref(), true)?,
            _ => return Err(unknown()),
        };
        let _state = self.files.lock();
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(broken(error)),
            _ => Ok(()),
        }
    }

    async fn open_sender(&self, to: &Target, _: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        self.check()?;
        let (folder, copies) = match to {
            Target::Channel(binding) => match binding.channel.kind() {
                ChannelKind::PointToPoint => (self.files.queue(binding, None, false)?, false),
                _ => (self.files.channel(binding)?, true),
            },
            Target::DeadLetter(binding, name) => (self.files.queue(binding, name.as_deref(), true)?, false),
            _ => {
                return Err(Error::new(ErrorKind::Unauthorized, "files have no return addresses"));
            }
        };
        if !folder.is_dir() {
            return Err(missing(&folder));
        }
        let sender = FileSender { line: self.line(), folder, copies };
        Ok(Opened::new(Box::new(sender), capabilities()))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        self.check()?;
        let queue = match from {
            Source::Channel(binding) => self.files.queue(binding, None, false)?,
            Source::Subscription(binding, subscription) => {
                self.files.queue(binding, Some(named(subscription)?), false)?
            }
            Source::DeadLetter(binding, name) => self.files.queue(binding, name.as_deref(), true)?,
            _ => return Err(unknown()),
        };
        if !queue.is_dir() {
            return Err(missing(&queue));
        }
        let line = self.line();
        let id = {
            let mut state = self.files.lock();
            state.receivers += 1;
            state.receivers
        };
        let stopped = AtomicBool::new(false);
        let receiver = FileReceiver { line, id, queue, prefetch: options.prefetch.messages, stopped };
        Ok(Opened::new(Arc::new(receiver), capabilities()))
    }

    async fn open_replies(&self, _: &ReceiverOptions) -> Result<Replies> {
        Err(Error::new(ErrorKind::Unsupported, "files have no return addresses"))
    }

    async fn health(&self) -> Result<()> {
        self.check()?;
        fs::read_dir(&self.files.0.root).map(drop).map_err(broken)
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        // What its receivers hold comes again, though nobody has closed them.
        let held_here = |claim: &Claim| Arc::ptr_eq(&claim.closed, &self.closed);
        self.files.lock().claims.retain(|_, claim| !held_here(claim));
        self.files.0.changed.notify_waiters();
        Ok(())
    }
}

struct FileSender {
    line: Line,
    folder: PathBuf,
    /// Whether each folder within is a queue that gets a copy.
    copies: bool,
}

impl FileSender {
    fn copy(&self, state: &mut State, message: &Message) -> Result<Receipt> {
        let refused = |error| broken(error).with_outcome(SendOutcome::NotSent);
        let queues = match self.copies {
            true => folders(&self.folder).map_err(refused)?.into_iter().filter(|q| !is_dead(q)).collect(),
            false => vec![self.folder.clone()],
        };
        let wire = encode(message);
        for queue in queues {
            write(state, &queue, &wire).map_err(refused)?;
        }
        Ok(Receipt::new(Level::Kernel))
    }
}

#[async_trait]
impl Sender for FileSender {
    fn measure(&self, message: &Message) -> Result<usize> {
        Ok(encode(message).len())
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        let mut state = self.line.lock().map_err(|e| e.with_outcome(SendOutcome::NotSent))?;
        let results = batch.iter().map(|message| self.copy(&mut state, message)).collect();
        self.line.files.0.changed.notify_waiters();
        Ok(Confirm::ready(results))
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

struct FileReceiver {
    line: Line,
    id: u64,
    queue: PathBuf,
    prefetch: usize,
    stopped: AtomicBool,
}

impl FileReceiver {
    /// Claims what is there, oldest first.
    fn claim(&self, room: Room, into: &mut Vec<Received>) -> Result<()> {
        let mut state = self.line.lock()?;
        let held = state.claims.values().filter(|claim| claim.receiver == self.id).count();
        let (most, mut bytes) = (room.messages.min(self.prefetch.saturating_sub(held)), 0);
        for record in records(&self.queue).map_err(broken)? {
            if into.len() >= most || (bytes >= room.bytes && !into.is_empty()) {
                break;
            }
            if state.claims.contains_key(&record.number) {
                continue;
            }
            let raw = Bytes::from(fs::read(&record.file).map_err(broken)?);
            bytes += raw.len();
            // Counted before it is handed out: a crash is an attempt.
            let file = record_file(&self.queue, record.number, record.attempt + 1);
            fs::rename(&record.file, &file).map_err(broken)?;
            let token = Token::number(record.number);
            let received = match decode(&raw) {
                Some(message) => Received::new(message, token),
                None => {
                    let error =
                        Error::new(ErrorKind::InvalidMessage, "the file is no message of this adapter");
                    Received::undecodable(raw, error, token)
                }
            };
            into.push(received.with_attempt(record.attempt));
            let claim = Claim {
                closed: Arc::clone(&self.line.closed),
                receiver: self.id,
                attempt: record.attempt,
                file,
            };
            state.claims.insert(record.number, claim);
        }
        Ok(())
    }

    fn settle_one(&self, state: &mut State, token: &Token, outcome: Outcome) -> Result<()> {
        let number = token.as_number();
        let Some(claim) = state.claims.get_mut(&number).filter(|claim| claim.receiver == self.id) else {
            return Err(Error::new(ErrorKind::LeaseLost, "the record is not held by this receiver"));
        };
        let counted = |attempt| record_file(&self.queue, number, attempt);
        match outcome {
            Outcome::Ack => fs::remove_file(&claim.file).map_err(broken)?,
            Outcome::Release => fs::rename(&claim.file, counted(claim.attempt)).map_err(broken)?,
            Outcome::Held { attempt } => {
                fs::rename(&claim.file, counted(attempt)).map_err(broken)?;
                claim.file = counted(attempt);
                return Ok(());
            }
            _ => return Err(Error::new(ErrorKind::Unsupported, "files cannot delay a record")),
        }
        state.claims.remove(&number);
        Ok(())
    }

    fn let_go(&self) {
        let mut state = self.line.files.lock();
        state.claims.retain(|_, claim| claim.receiver != self.id);
        drop(state);
        self.line.files.0.changed.notify_waiters();
    }
}

#[async_trait]
impl Receiver for FileReceiver {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        loop {
            let changed = self.line.files.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            if self.stopped.load(Ordering::Acquire) {
                return Ok(Receive::Ended);
            }
            self.claim(room, into)?;
            if !into.is_empty() {
                return Ok(Receive::More);
            }
            changed.await;
        }
    }

    async fn settle(&self, batch: &mut [Settle]) {
        for settle in batch {
            let settled = self.line.lock();
            settle.result = Some(
                settled.and_then(|mut state| self.settle_one(&mut state, &settle.token, settle.outcome)),
            );
        }
        self.line.files.0.changed.notify_waiters();
    }

    async fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Release);
        self.line.files.0.changed.notify_waiters();
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.let_go();
        Ok(())
    }
}

impl Drop for FileReceiver {
    fn drop(&mut self) {
        self.let_go();
    }
}

struct Record {
    number: u64,
    attempt: u32,
    file: PathBuf,
}

/// The records of a queue, oldest first.
fn records(queue: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(queue)? {
        let file = entry?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((number, attempt)) = name.split_once('.')
            && let (Ok(number), Ok(attempt)) = (number.parse(), attempt.parse())
        {
            records.push(Record { number, attempt, file });
        }
    }
    records.sort_by_key(|record| record.number);
    Ok(records)
}

/// Adds a record, aside first, so that no receiver sees half of it.
fn write(state: &mut State, queue: &Path, raw: &[u8]) -> io::Result<()> {
    let aside = queue.join(".new");
    fs::write(&aside, raw)?;
    fs::rename(&aside, record_file(queue, state.next, 1))?;
    state.next += 1;
    Ok(())
}

fn record_file(queue: &Path, number: u64, attempt: u32) -> PathBuf {
    queue.join(format!("{number:020}.{attempt}"))
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: Vec<PathBuf> =
        fs::read_dir(of)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    Ok(entries.into_iter().filter(|path| path.is_dir()).collect())
}

fn is_dead(queue: &Path) -> bool {
    queue.extension().is_some_and(|extension| extension == "dead")
}

/// A native name is foreign input: it must not lead out of the root.
fn file_name(name: &str) -> Result<&str> {
    match name.is_empty()
        || name.starts_with('.')
        || name.ends_with(".dead")
        || name.contains(['/', '\\', '\0'])
    {
        true => Err(Error::new(ErrorKind::Config, format!("`{name}` cannot be the name of a folder here"))),
        false => Ok(name),
    }
}

fn named(subscription: &Subscription) -> Result<&str> {
    subscription.name().ok_or_else(|| Error::new(ErrorKind::Unsupported, "a folder outlives its consumer"))
}

fn missing(folder: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("the folder `{}` does not exist", folder.display()))
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unsupported, "this adapter was written before that was there")
}

fn broken(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Unauthorized,
        _ => ErrorKind::Other,
    };
    Error::new(kind, "the file system refused").with_source(error)
}
