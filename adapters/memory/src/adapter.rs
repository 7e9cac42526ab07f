use crate::MemoryBroker;
use crate::after::lock;
use crate::broker::{Broker, Link};
use crate::config::Config;
use crate::error;
use crate::queue::Form;
use crate::receiver::MemoryReceiver;
use crate::sender::{MemorySender, Route};
use anybroker_contract::{
    Adapter, Capabilities, Capability, ChannelKind, Declare, ErrorKind, InFlightPerKey, Opened, Receiver,
    ReceiverOptions, Replies, Result, Sender, SenderOptions, Source, Table, Target, Topology, async_trait,
};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};

/// One connection to one memory broker.
pub(crate) struct MemoryAdapter {
    broker: MemoryBroker,
    connection: Mutex<Connection>,
}

enum Connection {
    None,
    Live(Arc<Link>),
    Closed,
}

impl MemoryAdapter {
    pub(crate) const fn new(broker: MemoryBroker) -> Self {
        Self { broker, connection: Mutex::new(Connection::None) }
    }

    fn broker(&self) -> &Arc<Broker> {
        &self.broker.0
    }

    /// The live connection; a new one if there is none.
    fn connect(&self) -> Result<Arc<Link>> {
        let mut connection = lock(&self.connection);
        if matches!(*connection, Connection::Closed) {
            return Err(error(ErrorKind::Closed, "the adapter is closed"));
        }
        if self.broker().is_refusing() {
            return Err(error(ErrorKind::Unavailable, "the memory broker refuses connections"));
        }
        if let Connection::Live(link) = &*connection
            && !link.is_cut()
        {
            return Ok(Arc::clone(link));
        }
        let link = self.broker().connect();
        *connection = Connection::Live(Arc::clone(&link));
        Ok(link)
    }

    /// Ends the connection for good.
    pub(crate) fn end(&self) {
        let before = std::mem::replace(&mut *lock(&self.connection), Connection::Closed);
        if let Connection::Live(link) = before {
            self.broker().cut(Some(&link));
        }
    }

    /// What holds on a queue or channel of that form.
    fn effective(&self, form: Form) -> Capabilities {
        let mut capabilities = self.capabilities();
        if let Some(table) = self.broker().config.like {
            capabilities = table.on(capabilities, form.shards.is_some(), form.bound.is_some());
        }
        if form.shards.is_some() {
            capabilities = capabilities.without(
                Capability::DelayedRetry,
                "does not have on a channel in order, where later messages of the key would overtake",
                "let the portable layer hold the message back",
            );
        } else {
            capabilities = capabilities.without(
                Capability::OrderPerKey,
                "keeps only on channels that were declared with it",
                "delete the channel, so that it is made anew in order",
            );
        }
        if form.bound.is_none() {
            capabilities = capabilities.without(
                Capability::Bounded,
                "keeps only on channels that were declared with a bound",
                "delete the channel, so that it is made anew with its bound",
            );
        }
        capabilities
    }
}

/// What every channel of a broker of that configuration can have.
fn upper_bound(config: &Config) -> Capabilities {
    let mut capabilities = match config.like {
        Some(table) => imitated(table),
        None => everything(config),
    };
    capabilities.level = config.level();
    capabilities.max_message_bytes = Some(config.max_message);
    capabilities
}

fn everything(config: &Config) -> Capabilities {
    let mut capabilities = Capabilities::none()
        .native(&Capability::ALL)
        .without(
            Capability::Durable,
            "cannot keep: its messages end with the process",
            "bind it to a broker that stores messages, or drop the requirement",
        )
        .without(
            Capability::Expiry,
            "leaves to the portable layer",
            "nothing: the portable layer checks expiry at hand-out",
        );
    if config.lease.is_none() {
        capabilities = capabilities.without(
            Capability::LeaseExtension,
            "does not need: a delivery belongs to its receiver until that settles or ends",
            "configure a lease, such as `memory://name?lease=30s`",
        );
    }
    capabilities.in_flight_per_key = InFlightPerKey::Any;
    capabilities
}

/// What a table says, with refusals that tell whose they are.
fn imitated(table: Table) -> Capabilities {
    let mut capabilities = table.capabilities();
    for capability in Capability::ALL {
        if let Some(refusal) = capabilities.refusal(capability).cloned() {
            let why = format!("in the place of `{}` {}", table.name(), refusal.why);
            capabilities = capabilities.without(capability, why, refusal.help);
        }
    }
    // How its client goes about connections and commits is not imitated.
    (capabilities.reconnects, capabilities.commits_later) = (false, false);
    capabilities
}

#[async_trait]
impl Adapter for MemoryAdapter {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn capabilities(&self) -> Capabilities {
        upper_bound(&self.broker().config)
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        self.connect()?;
        match topology {
            Topology::Channel(binding) => self.broker().declare_channel(binding, mode).map(drop),
            Topology::Subscription(binding, subscription) => {
                self.broker().declare_subscription(binding, subscription, mode)
            }
            Topology::DeadLetter(binding, of) => {
                self.broker().declare_dead_letters(binding, of.as_ref(), mode)
            }
            other => Err(unsupported(other)),
        }
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        self.connect()?;
        match topology {
            Topology::Channel(binding) => self.broker().delete_channel(binding),
            Topology::Subscription(binding, subscription) => {
                self.broker().delete_subscription(binding, subscription)
            }
            Topology::DeadLetter(binding, of) => self.broker().delete_dead_letters(binding, of.as_ref()),
            other => Err(unsupported(other)),
        }
    }

    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        let link = self.connect()?;
        let (route, form) = match to {
            Target::Channel(binding) => {
                let channel = self.broker().channel(binding)?;
                let form = channel.form();
                (Route::Channel(channel), form)
            }
            Target::DeadLetter(binding, of) => {
                let queue = self.broker().dead_letters(binding, of.as_ref())?;
                let form = queue.form();
                (Route::Queue(queue), form)
            }
            Target::Reply(address) => {
                let queue = self.broker().replies(address)?;
                let form = queue.form();
                (Route::Reply(queue), form)
            }
            other => return Err(unsupported(other)),
        };
        let sender = MemorySender::new(Arc::clone(self.broker()), link, route, options.events.clone());
        Ok(Opened::new(Box::new(sender), self.effective(form)))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let link = self.connect()?;
        let queue = match from {
            Source::Channel(binding) => {
                let channel = self.broker().channel(binding)?;
                let queue = channel.queue().map(Arc::clone);
                queue.ok_or_else(|| {
                    let what =
                        format!("`{}` is a {} channel", channel.name, ChannelKind::PublishSubscribe.as_str());
                    error(ErrorKind::Unsupported, what).with_help("receive from a subscription to it")
                })?
            }
            Source::Subscription(binding, subscription) => {
                self.broker().subscription(binding, subscription)?
            }
            Source::DeadLetter(binding, of) => self.broker().dead_letters(binding, of.as_ref())?,
            other => return Err(unsupported(other)),
        };
        let capabilities = self.effective(queue.form());
        Ok(Opened::new(Arc::new(MemoryReceiver::open(link, queue, options)?), capabilities))
    }

    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies> {
        let link = self.connect()?;
        let (address, queue) = self.broker().new_replies();
        Ok(Replies::new(address, Arc::new(MemoryReceiver::open(link, queue, options)?)))
    }

    async fn health(&self) -> Result<()> {
        self.connect().map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.end();
        Ok(())
    }

    fn native(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&self.broker)
    }
}

impl Drop for MemoryAdapter {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for MemoryAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAdapter").field("broker", &self.broker().name).finish_non_exhaustive()
    }
}

/// The contract may learn new words.
fn unsupported(what: &impl fmt::Debug) -> anybroker_contract::Error {
    error(ErrorKind::Unsupported, format!("not known to the memory adapter: {what:?}"))
}
