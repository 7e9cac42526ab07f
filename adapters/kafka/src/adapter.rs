use crate::client::{
    From, MOST_OF_A_BATCH, Observer, Producer, Properties, Reader, Terms, Topic, Topics, Until, fix_group,
};
use crate::config::ChannelConfig;
use crate::error::error;
use crate::names::{self, ReplyAddress, unique};
use crate::receiver::{FAREWELL, KafkaReceiver, Shared};
use crate::sender::{KafkaSender, Route};
use anybroker_contract::{
    Adapter, Capabilities, ChannelKind, Clock, Connection, Declare, ErrorKind, Opened, Receiver,
    ReceiverOptions, Replies, Result, Sender, SenderOptions, Source, Start, Table, Target, Text, Topology,
    async_trait,
};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// One cluster. Its clients are made when they are needed: one that asks, one that makes topics, one that sends, and one for each receiver.
pub(crate) struct KafkaAdapter {
    properties: Properties,
    clock: Arc<dyn Clock>,
    clients: Mutex<Clients>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Clients {
    observer: Option<Arc<Observer>>,
    topics: Option<Arc<Topics>>,
    producer: Option<Arc<Producer>>,
    receivers: Vec<Weak<Shared>>,
}

/// How long what has no deadline of its own may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long replies are kept: nobody waits for one that long.
const REPLY_RETENTION: i64 = 3_600_000;

impl KafkaAdapter {
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let properties = Properties::read(connection)?;
        let clock = Arc::clone(&connection.clock);
        Ok(Self { properties, clock, clients: Mutex::default(), closed: AtomicBool::new(false) })
    }

    fn clients(&self) -> Result<MutexGuard<'_, Clients>> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(error(ErrorKind::Closed, "the adapter is closed")),
            false => Ok(self.clients.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn observer(&self) -> Result<Arc<Observer>> {
        let mut clients = self.clients()?;
        if let Some(observer) = &clients.observer {
            return Ok(Arc::clone(observer));
        }
        let observer = Observer::new(&self.properties, Arc::clone(&self.clock))?;
        clients.observer = Some(Arc::clone(&observer));
        Ok(observer)
    }

    fn topics(&self) -> Result<Arc<Topics>> {
        let observer = self.observer()?;
        let mut clients = self.clients()?;
        if let Some(topics) = &clients.topics {
            return Ok(Arc::clone(topics));
        }
        let topics = Arc::new(Topics::new(&self.properties, observer, Arc::clone(&self.clock))?);
        clients.topics = Some(Arc::clone(&topics));
        Ok(topics)
    }

    fn producer(&self) -> Result<Arc<Producer>> {
        let mut clients = self.clients()?;
        if let Some(producer) = clients.producer.as_ref().filter(|producer| producer.is_live()) {
            return Ok(Arc::clone(producer));
        }
        let producer = Arc::new(Producer::new(&self.properties, Arc::clone(&self.clock))?);
        clients.producer = Some(Arc::clone(&producer));
        Ok(producer)
    }

    fn deadline(&self) -> Instant {
        self.clock.now() + PATIENCE
    }

    async fn route(&self, to: &Target, deadline: Instant) -> Result<Route> {
        let topic = match to {
            Target::Channel(binding) => names::topic(binding)?,
            Target::DeadLetter(binding, of) => names::dead_letters(binding, of.as_ref())?,
            Target::Reply(address) => {
                let route = self.reply_route(address)?;
                self.observer()?.require_topic(&route.topic, deadline).await?;
                return Ok(route);
            }
            other => return Err(unsupported(other)),
        };
        self.observer()?.require_topic(&topic, deadline).await?;
        Ok(Route { topic, partition: None, owner: None })
    }

    /// A return address is foreign input: it must not lead a reply into any topic that its sender cares to name.
    fn reply_route(&self, address: &Text) -> Result<Route> {
        let config = &self.properties.config;
        if let Some(address) = ReplyAddress::parse(address, &config.reply_topic) {
            let (partition, owner) = (Some(address.partition), Some(address.owner));
            return Ok(Route { topic: address.topic, partition, owner });
        }
        match config.reply_to.iter().any(|allowed| *address == **allowed) {
            true => Ok(Route { topic: address.to_string(), partition: None, owner: None }),
            false => Err(error(ErrorKind::Unauthorized, format!("`{address}` is no return address"))
                .with_help(
                    "name the topics of other requesters in the broker's table: `reply-to = [\"…\"]`",
                )),
        }
    }

    /// The topic, and as whom it is read.
    fn source(&self, from: &Source) -> Result<(String, From)> {
        match from {
            Source::Channel(binding) if binding.channel.kind() == ChannelKind::PointToPoint => {
                Ok((names::topic(binding)?, From::Group { name: names::group(binding)?, made: false }))
            }
            Source::Channel(binding) => {
                let what = format!("`{}` is a publish-subscribe channel", binding.channel.name());
                Err(error(ErrorKind::Unsupported, what).with_help("receive from a subscription to it"))
            }
            Source::Subscription(binding, subscription) => {
                let (topic, start) = (names::topic(binding)?, subscription.start());
                Ok(match names::subscription_group(binding, subscription)? {
                    Some(name) => (topic, From::Group { name, made: true }),
                    None => {
                        let name = format!("{topic}/~{}", unique());
                        (topic, From::Alone { name, only: None, start })
                    }
                })
            }
            Source::DeadLetter(binding, of) => {
                let topic = names::dead_letters(binding, of.as_ref())?;
                Ok((topic.clone(), From::Group { name: topic, made: false }))
            }
            other => Err(unsupported(other)),
        }
    }

    async fn read(&self, topic: Topic, from: From, options: &ReceiverOptions) -> Result<Arc<KafkaReceiver>> {
        let terms = Terms {
            topic: topic.name,
            partitions: topic.partitions,
            from,
            instance: options.instance.clone(),
            deadline: options.deadline,
            clock: Arc::clone(&options.clock),
            events: options.events.clone(),
        };
        let shared = Reader::open(&self.properties, terms).await?;
        let receiver = KafkaReceiver::new(Arc::clone(&shared), Arc::clone(&self.clock));
        // An adapter that was closed meanwhile has a receiver that is dropped here.
        let mut clients = self.clients()?;
        clients.receivers.retain(|receiver| receiver.strong_count() > 0);
        clients.receivers.push(Arc::downgrade(&shared));
        Ok(Arc::new(receiver))
    }

    async fn effective(&self, topic: &str, deadline: Instant) -> Result<Capabilities> {
        let mut capabilities = self.capabilities();
        if let Some(largest) = self.topics()?.largest(topic, deadline).await? {
            capabilities.max_message_bytes = Some(largest);
        }
        Ok(capabilities)
    }
}

#[async_trait]
impl Adapter for KafkaAdapter {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Table::Kafka.capabilities();
        capabilities.max_message_bytes = Some(self.properties.config.max_message);
        capabilities.max_batch_messages = Some(MOST_OF_A_BATCH);
        capabilities
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        let deadline = self.deadline();
        let (topic, like) = match topology {
            Topology::Channel(binding) | Topology::Subscription(binding, _) => {
                (names::topic(binding)?, ChannelConfig::read(&binding.settings)?)
            }
            Topology::DeadLetter(binding, of) => {
                let like = ChannelConfig::read(&binding.settings)?;
                let like = ChannelConfig { replication: like.replication, ..ChannelConfig::default() };
                (names::dead_letters(binding, of.as_ref())?, like)
            }
            other => return Err(unsupported(other)),
        };
        self.topics()?.declare(&topic, &like, mode, deadline).await?;
        let Topology::Subscription(binding, subscription) = topology else { return Ok(()) };
        let Some(group) = names::subscription_group(binding, subscription)? else { return Ok(()) };
        let topic = self.observer()?.require_topic(&topic, deadline).await?;
        let until = Until { deadline, clock: Arc::clone(&self.clock) };
        fix_group(&self.properties, &topic, &group, subscription.start(), mode, until).await
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        let (deadline, topics) = (self.deadline(), self.topics()?);
        match topology {
            Topology::Channel(binding) => {
                // Its group goes with its topic, unless others are in it still.
                topics.delete_topic(&names::topic(binding)?, deadline).await
            }
            Topology::Subscription(binding, subscription) => {
                match names::subscription_group(binding, subscription)? {
                    Some(group) => topics.delete_group(&group, deadline).await,
                    None => Ok(()),
                }
            }
            Topology::DeadLetter(binding, of) => {
                topics.delete_topic(&names::dead_letters(binding, of.as_ref())?, deadline).await
            }
            other => Err(unsupported(other)),
        }
    }

    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        let route = self.route(to, options.deadline).await?;
        let capabilities = self.effective(&route.topic, options.deadline).await?;
        let producer = self.producer()?;
        let told = producer.trouble().tell(options.events.clone());
        let largest = capabilities.max_message_bytes.unwrap_or(usize::MAX);
        let sender = KafkaSender::new(producer, route, told, largest, Arc::clone(&options.clock));
        Ok(Opened::new(Box::new(sender), capabilities))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let (topic, from) = self.source(from)?;
        let topic = self.observer()?.require_topic(&topic, options.deadline).await?;
        let receiver = self.read(topic, from, options).await?;
        Ok(Opened::new(receiver, self.capabilities()))
    }

    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies> {
        let name = &self.properties.config.reply_topic;
        let like = ChannelConfig { retention: Some(REPLY_RETENTION), ..ChannelConfig::default() };
        let mut topic = self.observer()?.topic(name, options.deadline).await?;
        if topic.is_none() {
            self.topics()?.declare(name, &like, Declare::IfMissing, options.deadline).await?;
            topic = Some(self.observer()?.require_topic(name, options.deadline).await?);
        }
        let Some(topic) = topic else {
            return Err(error(ErrorKind::NotFound, format!("there is no topic `{name}`")));
        };
        let owner = unique();
        // Any will do, and not the same for all.
        let chosen =
            u32::from_str_radix(&owner[..8], 16).unwrap_or(0) % topic.partitions.unsigned_abs().max(1);
        let partition = i32::try_from(chosen).unwrap_or(0);
        let address = ReplyAddress { topic: name.clone(), partition, owner: owner.clone() };
        let from = From::Alone {
            name: format!("{name}/~{owner}"),
            only: Some((partition, owner)),
            start: Start::Latest,
        };
        let receiver = self.read(topic, from, options).await?;
        Ok(Replies::new(address.to_text(), receiver))
    }

    async fn health(&self) -> Result<()> {
        self.observer()?.sign_of_life(self.deadline()).await
    }

    async fn close(&self) -> Result<()> {
        let clients = match self.clients() {
            Ok(mut clients) => {
                self.closed.store(true, Ordering::Release);
                std::mem::take(&mut *clients)
            }
            Err(_) => return Ok(()),
        };
        // What is settled is committed, though nobody has closed the receivers.
        let leaving = clients.receivers.iter().filter_map(Weak::upgrade).map(|receiver| {
            let (answer, left) = oneshot::channel();
            receiver.sever(error(ErrorKind::Disconnected, "the adapter is closed"), answer);
            left
        });
        let leaving: Vec<_> = leaving.collect();
        let deadline = self.clock.now() + FAREWELL;
        for left in leaving {
            tokio::select! {
                _ = left => {}
                () = self.clock.sleep_until(deadline) => {}
            }
        }
        if let Some(producer) = &clients.producer {
            producer.close(&*self.clock, self.clock.now() + FAREWELL).await;
        }
        // Ending a client may take a while, and must not hold up the runtime.
        let ending = tokio::task::spawn_blocking(move || drop(clients));
        tokio::select! {
            _ = ending => {}
            () = self.clock.sleep_until(self.clock.now() + FAREWELL) => {}
        }
        Ok(())
    }
}

impl fmt::Debug for KafkaAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaAdapter").field("properties", &self.properties).finish_non_exhaustive()
    }
}

/// The contract may learn new words.
fn unsupported(what: &impl fmt::Debug) -> anybroker_contract::Error {
    error(ErrorKind::Unsupported, format!("not known to the Kafka adapter: {what:?}"))
}
