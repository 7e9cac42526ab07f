use super::desk::{Counts, Desk};
use super::dispatch::dispatch;
use crate::inlet::{ConsumerStatus, Inlet};
use crate::status::Closed;
use crate::{Consumer, Error, ErrorKind, Result};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::task::JoinHandle;

/// A service at work. Dropped, it leaves as by [`stop`](Running::stop), in the background.
#[must_use = "a service that is dropped leaves"]
pub struct Running {
    name: String,
    desks: Vec<Manned>,
}

/// A desk, and who works at it.
struct Manned {
    /// The channel, or channel/subscription.
    name: String,
    inlet: Arc<Inlet>,
    counts: Arc<Counts>,
    task: JoinHandle<Result<()>>,
}

/// What a service has done with the messages of one channel: a snapshot.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// The channel, or channel/subscription.
    pub channel: String,
    /// Handled, and acknowledged.
    pub handled: u64,
    /// Attempts that failed and are made again.
    pub failed: u64,
    /// Gone to the dead letters: rejected by their handlers, without one, undecodable, or out of attempts.
    pub rejected: u64,
    /// Events that no handler takes, acknowledged.
    pub ignored: u64,
    /// Handled before, by its id, and acknowledged.
    pub duplicates: u64,
    /// Replies that reached nobody.
    pub unanswered: u64,
    /// How its consumer is doing.
    pub consumer: ConsumerStatus,
}

impl Running {
    pub(super) fn begin<S: Send + Sync + 'static>(
        name: String,
        opened: Vec<(Arc<Desk<S>>, Consumer)>,
    ) -> Self {
        let man = |(desk, consumer): (Arc<Desk<S>>, Consumer)| Manned {
            name: desk.name.clone(),
            inlet: Arc::clone(consumer.inlet()),
            counts: Arc::clone(&desk.counts),
            task: tokio::spawn(dispatch(desk, consumer)),
        };
        Self { name, desks: opened.into_iter().map(man).collect() }
    }

    /// Hands out nothing more; what runs goes on. Messages that are here already are kept.
    pub fn pause(&self) {
        self.desks.iter().for_each(|desk| desk.inlet.hold_back(true));
    }

    /// Goes on after a [`pause`](Running::pause).
    pub fn resume(&self) {
        self.desks.iter().for_each(|desk| desk.inlet.hold_back(false));
    }

    /// How it is doing, by channel.
    #[must_use]
    pub fn status(&self) -> Vec<ServiceStatus> {
        self.desks.iter().map(Manned::status).collect()
    }

    /// Leaves in order: hands out nothing more, gives what runs until the close deadline of the broker, acknowledges what is handled by then, ends the
    /// rest and gives it back.
    ///
    /// # Errors
    /// None today: what could not be done is counted.
    pub async fn stop(self) -> Result<Closed> {
        self.leave();
        let mut closed = Closed::default();
        for desk in &self.desks {
            closed.given_back += desk.inlet.close().await;
        }
        // Whoever hangs still is ended.
        self.desks.iter().for_each(|desk| desk.task.abort());
        Ok(closed)
    }

    /// Goes on until that resolves or its broker is closed, and leaves.
    pub(super) async fn until(mut self, until: impl Future) -> Result<()> {
        let ended = tokio::select! {
            _ = until => Ok(()),
            ended = self.ended() => ended,
        };
        self.stop().await?;
        ended
    }

    /// Resolves when the first of its tasks has ended, because the broker was closed.
    async fn ended(&mut self) -> Result<()> {
        let ended = poll_fn(|cx| {
            let mut tasks = self.desks.iter_mut().map(|desk| Pin::new(&mut desk.task).poll(cx));
            tasks.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        ended.await.unwrap_or_else(|failed| {
            Err(Error::new(ErrorKind::Other, "the service ended before its time").with_source(failed))
        })
    }

    fn leave(&self) {
        self.desks.iter().for_each(|desk| desk.inlet.leave());
    }
}

impl Manned {
    fn status(&self) -> ServiceStatus {
        let counts = &self.counts;
        ServiceStatus {
            channel: self.name.clone(),
            handled: counts.handled.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            rejected: counts.rejected.load(Ordering::Relaxed),
            ignored: counts.ignored.load(Ordering::Relaxed),
            duplicates: counts.duplicates.load(Ordering::Relaxed),
            unanswered: counts.unanswered.load(Ordering::Relaxed),
            consumer: self.inlet.status(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("service", &self.name).field("desks", &self.status()).finish()
    }
}
