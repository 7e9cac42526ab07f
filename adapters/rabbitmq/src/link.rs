//! Live connections: one to send on, one for all else.

use crate::error::{error, operation, within};
use crate::server::{Connected, Server};
use anybroker_contract::{Clock, ErrorKind, Event, Events, Result};
use futures_util::StreamExt;
use lapin::Channel;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What a connection is for. RabbitMQ stops reading from one that publishes while it is short of memory or disk, and with it would go
/// acknowledgements: so what sends has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Send,
    Receive,
}

/// The connections of one adapter.
pub(crate) struct Links {
    server: Server,
    name: String,
    clock: Arc<dyn Clock>,
    send: tokio::sync::Mutex<Option<Arc<Link>>>,
    receive: tokio::sync::Mutex<Option<Arc<Link>>>,
    closed: AtomicBool,
}

impl Links {
    pub(crate) fn new(server: Server, name: String, clock: Arc<dyn Clock>) -> Self {
        let (send, receive) = Default::default();
        Self { server, name, clock, send, receive, closed: AtomicBool::new(false) }
    }

    /// The live connection for that purpose; a new one if there is none.
    pub(crate) async fn get(&self, purpose: Purpose, deadline: Instant) -> Result<Arc<Link>> {
        let slot = self.slot(purpose);
        let mut slot = within(&*self.clock, deadline, "connecting", slot.lock()).await?;
        if self.closed.load(Ordering::Acquire) {
            return Err(error(ErrorKind::Closed, "the adapter is closed"));
        }
        if let Some(link) = slot.as_ref().filter(|link| link.is_live()) {
            return Ok(Arc::clone(link));
        }
        let connected = self.server.connect(&self.name, &*self.clock, deadline).await?;
        let link = Link::new(connected, Arc::clone(&self.clock));
        *slot = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Ends both connections for good.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for purpose in [Purpose::Send, Purpose::Receive] {
            // Whoever connects just now has its deadline; what it makes is closed here.
            if let Some(link) = self.slot(purpose).lock().await.take() {
                link.close().await;
            }
        }
    }

    const fn slot(&self, purpose: Purpose) -> &tokio::sync::Mutex<Option<Arc<Link>>> {
        match purpose {
            Purpose::Send => &self.send,
            Purpose::Receive => &self.receive,
        }
    }
}

/// One live connection.
pub(crate) struct Link {
    pub(crate) connection: lapin::Connection,
    socket: TcpStream,
    clock: Arc<dyn Clock>,
    blocked: Mutex<Blocked>,
    /// Some channel numbers cannot be used any more.
    numbers_lost: AtomicBool,
}

/// Whether the broker takes messages, and who wants to know.
#[derive(Default)]
struct Blocked {
    reason: Option<String>,
    told: Vec<(u64, Events)>,
    next: u64,
}

impl Link {
    fn new(connected: Connected, clock: Arc<dyn Clock>) -> Arc<Self> {
        let Connected { connection, socket } = connected;
        let listener = connection.events_listener();
        let link = Arc::new(Self {
            connection,
            socket,
            clock,
            blocked: Mutex::default(),
            numbers_lost: AtomicBool::new(false),
        });
        tokio::spawn(listen(listener, Arc::downgrade(&link)));
        link
    }

    pub(crate) fn is_live(&self) -> bool {
        self.connection.status().connected()
    }

    /// A new channel on it.
    pub(crate) async fn channel(&self, deadline: Instant) -> Result<Channel> {
        let what = "opening a channel";
        loop {
            match within(&*self.clock, deadline, what, self.connection.create_channel()).await? {
                // Lapin keeps the error that ended a channel with its number, and hands it to the next that gets that number: another will do.
                Err(error) if error.is_amqp_soft_error() => self.numbers_lost.store(true, Ordering::Relaxed),
                Err(error) if matches!(error.kind(), lapin::ErrorKind::ChannelsLimitReached) => {
                    if self.numbers_lost.load(Ordering::Relaxed) {
                        // Only a new connection gives them back.
                        self.kill();
                    }
                    return Err(exhausted());
                }
                opened => return opened.map_err(|e| operation(what, &e)),
            }
        }
    }

    /// Reports to those events when the broker takes no more and when it does again, until the guard is dropped.
    pub(crate) fn tell(self: &Arc<Self>, events: Events) -> Told {
        let mut blocked = self.blocked();
        if let Some(reason) = blocked.reason.clone() {
            events.report(Event::Blocked { reason });
        }
        blocked.next += 1;
        let id = blocked.next;
        blocked.told.push((id, events));
        Told { link: Arc::clone(self), id }
    }

    /// Ends the connection, and all that waits on it, at the latest after some seconds.
    pub(crate) async fn close(&self) {
        let deadline = self.clock.now() + FAREWELL;
        let closing = self.connection.close(200, "closed".into());
        // Nobody is left to be told, and the socket ends it in any case.
        let _ = within(&*self.clock, deadline, "closing", closing).await;
        self.kill();
    }

    /// Ends the connection without a word to the broker.
    pub(crate) fn kill(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn blocked(&self) -> MutexGuard<'_, Blocked> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_blocked(&self, reason: Option<&str>) {
        let mut blocked = self.blocked();
        blocked.reason = reason.map(String::from);
        for (_, events) in &blocked.told {
            events.report(match reason {
                Some(reason) => Event::Blocked { reason: reason.to_owned() },
                None => Event::Unblocked,
            });
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long a farewell to the broker may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// Ends the reports to one handle.
pub(crate) struct Told {
    pub(crate) link: Arc<Link>,
    id: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.link.blocked().told.retain(|(id, _)| *id != self.id);
    }
}

fn exhausted() -> anybroker_contract::Error {
    error(ErrorKind::Unavailable, "the connection has as many channels as RabbitMQ allows")
        .with_help("open fewer consumers and producers at once, or raise RabbitMQ's `channel_max`")
}

async fn listen(listener: impl futures_util::Stream<Item = lapin::Event>, link: Weak<Link>) {
    let mut listener = std::pin::pin!(listener);
    while let Some(event) = listener.next().await {
        let Some(link) = link.upgrade() else { return };
        match event {
            lapin::Event::ConnectionBlocked(reason) => link.set_blocked(Some(&reason)),
            lapin::Event::ConnectionUnblocked => link.set_blocked(None),
            _ => {}
        }
    }
}
