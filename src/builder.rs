//! What is put together before it is awaited: a broker, a producer, a consumer, a request.

pub use crate::consumer::ReceiveFrom;
pub use crate::opening::{OpenConsumer, OpenProducer};
pub use crate::request::Request;

use crate::adapter::{Adapter, Clock, SystemClock};
use crate::backoff::Backoff;
use crate::broker::Broker;
use crate::foreign::Foreign;
use crate::outlet;
use crate::{Config, Result};
use std::sync::Arc;
use std::time::Duration;

/// How a [`Broker`] is opened, for what [`Broker::open`] leaves at its defaults.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anybroker::Result<()> {
/// use anybroker::{Broker, Config};
/// use std::time::Duration;
///
/// let broker = Broker::builder()
///     .config(Config::url("memory://")?)
///     .send_deadline(Duration::from_secs(5))
///     .open()
///     .await?;
/// # broker.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) config: Config,
    pub(crate) adapters: Vec<(String, Arc<dyn Adapter>)>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
}

/// What all handles of a broker are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) send_within: Duration,
    pub(crate) leave_within: Duration,
    pub(crate) open_within: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) patient: bool,
    pub(crate) instance: Option<String>,
}

impl Options {
    /// The messages and bytes that one producer has on their way at once.
    pub(crate) const fn window(&self) -> (usize, usize) {
        (4096, 64 << 20)
    }

    pub(crate) fn outlet(&self, window: (usize, usize), foreign: Foreign) -> outlet::Settings {
        let (window_messages, window_bytes) = window;
        outlet::Settings { window_messages, window_bytes, backoff: self.backoff, reopen: true, foreign }
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            config: Config::default(),
            adapters: Vec::new(),
            clock: Arc::new(SystemClock::new()),
            options: Options {
                send_within: Duration::from_secs(30),
                leave_within: Duration::from_secs(30),
                open_within: Duration::from_secs(30),
                backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
                patient: false,
                instance: None,
            },
        }
    }

    /// The configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// An adapter made by the application, under that broker name: one of its own, or one with a client of its own making.
    pub fn adapter(mut self, name: impl Into<String>, adapter: Arc<dyn Adapter>) -> Self {
        self.adapters.push((name.into(), adapter));
        self
    }

    /// Where time comes from. The default is the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How long a send may take, unless its producer says otherwise. The default is 30 s.
    pub const fn send_deadline(mut self, within: Duration) -> Self {
        self.options.send_within = within;
        self
    }

    /// How long closing waits for what still runs. The default is 30 s.
    pub const fn close_deadline(mut self, within: Duration) -> Self {
        self.options.leave_within = within;
        self
    }

    /// How long opening one handle may take. The default is 30 s.
    pub const fn open_deadline(mut self, within: Duration) -> Self {
        self.options.open_within = within;
        self
    }

    /// The waits between attempts to reconnect and to send again: they double from `min` to `max`. The default is 100 ms to 30 s.
    pub const fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.options.backoff = Backoff::new(min, max);
        self
    }

    /// The name of this instance, for brokers that want one: stable over restarts. The default is unique by chance.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.options.instance = Some(name.into());
        self
    }

    /// Connects every broker.
    ///
    /// # Errors
    /// What is wrong with the configuration, by the path of its field, or with a connection, by the broker's name.
    pub async fn open(self) -> Result<Broker> {
        let broker = Broker::assemble(self)?;
        broker.health().await?;
        Ok(broker)
    }

    /// Connects nothing yet: for services that start before their broker. Opening producers and consumers then waits for it.
    ///
    /// # Errors
    /// What is wrong with the configuration, by the path of its field.
    pub fn open_lazy(mut self) -> Result<Broker> {
        self.options.patient = true;
        Broker::assemble(self)
    }
}
