use crate::balance::{Membership, Share, balance};
use crate::config::Config;
use crate::declare::{Queues, Registrar, dead_letters_of};
use crate::error::{error, operation, within};
use crate::link::{Link, Links, Purpose};
use crate::names::{DIRECT_REPLIES, Place, REPLIES, members, shard, short, unique};
use crate::receiver::RabbitReceiver;
use crate::sender::{RabbitSender, Route, Routing, To};
use crate::server::Server;
use crate::shard::{Shard, Terms};
use anybroker_contract::{
    Adapter, Binding, Capabilities, ChannelKind, Clock, Connection, Declare, ErrorKind, Level, Opened,
    Receiver, ReceiverOptions, Replies, Result, Sender, SenderOptions, Source, Table, Target, Text, Topology,
    async_trait,
};
use lapin::options::ConfirmSelectOptions;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// One user of one broker or cluster: a connection to send on and one for all else, made when they are needed.
pub(crate) struct RabbitAdapter {
    links: Arc<Links>,
    native: crate::Native,
    config: Config,
    clock: Arc<dyn Clock>,
    /// Numbers the scopes: one that comes back is another.
    scopes: Arc<AtomicU64>,
}

/// How long what has no deadline of its own may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many messages RabbitMQ sends ahead from a queue in order: as many to every consumer, of whatever prefetch and release. What a consumer leaves
/// unsettled goes to a line of its own, and the next consumer takes from its head as many as are sent ahead; if those were fewer, and that one left as
/// well, they would go to the end of that line, behind what followed them.
const AHEAD: usize = 32;

impl RabbitAdapter {
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let config = Config::read(connection)?;
        let server = Server::new(connection, config.clone())?;
        let clock = Arc::clone(&connection.clock);
        let links = Arc::new(Links::new(server, String::from("anybroker"), Arc::clone(&clock)));
        Ok(Self {
            native: crate::Native(Arc::clone(&links)),
            links,
            config,
            clock,
            scopes: Arc::new(AtomicU64::new(1)),
        })
    }

    fn deadline(&self) -> Instant {
        self.clock.now() + PATIENCE
    }

    async fn registrar(&self, deadline: Instant) -> Result<(Arc<Link>, Registrar)> {
        let link = self.links.get(Purpose::Receive, deadline).await?;
        Ok((Arc::clone(&link), Registrar::new(link, Arc::clone(&self.clock), deadline)))
    }

    /// What holds on a channel whose queues are like that.
    fn effective(&self, binding: Option<&Binding>, ordered: bool) -> Capabilities {
        let bounded = binding.is_some_and(|binding| binding.channel.requirements().bounded.is_some());
        Table::RabbitMq.on(self.capabilities(), ordered, bounded)
    }

    /// Where the target is, with what holds there. Nothing is made.
    async fn route(
        &self,
        to: &Target,
        link: &Link,
        registrar: &mut Registrar,
    ) -> Result<(Route, Capabilities)> {
        let route = |exchange, routing, to, level| Route {
            exchange,
            routing,
            to,
            level,
            bounded: false,
            frame_max: usize::try_from(link.connection.configuration().frame_max()).unwrap_or(usize::MAX),
        };
        match to {
            Target::Channel(binding) => {
                let place = Place::of(binding)?;
                registrar.require_exchange(&place.exchange).await?;
                let routing = match (place.routing_key, place.foreign) {
                    (Some(key), _) => Routing::Fixed(key),
                    (None, true) => Routing::Key,
                    // Some of the subscriptions may be in order.
                    (None, false) => Routing::Bucket,
                };
                if binding.channel.kind() == ChannelKind::PublishSubscribe {
                    let route = route(place.exchange, routing, To::Subscriptions, Level::Durable);
                    return Ok((route, self.effective(None, true)));
                }
                // The queues of an exchange that was named are whoever's: each key may lead to another.
                let ordered = match place.foreign && !place.exchange.as_str().is_empty() {
                    true => matches!(routing, Routing::Key),
                    false => matches!(registrar.find(&place.base, binding).await?, Queues::Shards(..)),
                };
                let routing = if ordered && !place.foreign { Routing::Bucket } else { routing };
                let mut route = route(place.exchange, routing, To::Queue, Level::Durable);
                route.bounded = binding.channel.requirements().bounded.is_some();
                Ok((route, self.effective(Some(binding), ordered)))
            }
            Target::DeadLetter(binding, of) => {
                let name = dead_letters_of(binding, of.as_ref())?;
                registrar.require_queue(&name).await?;
                let name = short("the queue's name", &name)?;
                Ok((
                    route("".into(), Routing::Fixed(name), To::Queue, Level::Durable),
                    self.effective(None, false),
                ))
            }
            Target::Reply(address) => {
                self.admit(address)?;
                let name = short("the return address", address)?;
                let to = match address.starts_with(DIRECT_REPLIES) {
                    false => To::Requester,
                    true if registrar.has_queue(address).await? => To::DirectRequester,
                    true => {
                        return Err(error(
                            ErrorKind::NotFound,
                            format!("nobody waits at `{address}` any more"),
                        ));
                    }
                };
                Ok((route("".into(), Routing::Fixed(name), to, Level::Broker), self.effective(None, false)))
            }
            other => Err(unsupported(other)),
        }
    }

    /// A return address is foreign input: it must not lead a reply into any queue that its sender cares to name.
    fn admit(&self, address: &Text) -> Result<()> {
        let known =
            [REPLIES, DIRECT_REPLIES].into_iter().chain(self.config.reply_to.iter().map(String::as_str));
        match known.into_iter().any(|beginning| address.starts_with(beginning)) {
            true => Ok(()),
            false => Err(error(ErrorKind::Unauthorized, format!("`{address}` is no return address"))
                .with_help("name the beginnings of other return addresses in the broker's table: `reply-to = [\"…\"]`")),
        }
    }

    async fn source(&self, from: &Source, registrar: &mut Registrar) -> Result<(Queues, Capabilities)> {
        let (binding, base) = match from {
            Source::Channel(binding) => match binding.channel.kind() {
                ChannelKind::PointToPoint => (binding, Place::of(binding)?.base),
                _ => {
                    let what = format!("`{}` is a publish-subscribe channel", binding.channel.name());
                    return Err(
                        error(ErrorKind::Unsupported, what).with_help("receive from a subscription to it")
                    );
                }
            },
            Source::Subscription(binding, subscription) => {
                let place = Place::of(binding)?;
                let base = place.subscription(subscription);
                if subscription.name().is_none() {
                    registrar.require_exchange(&place.exchange).await?;
                    let name = short("the subscription's name", &base)?;
                    registrar.exclusive_queue(&name, Some((&place.exchange, place.binding_key()))).await?;
                    // One consumer alone has it, and so it is in order.
                    return Ok((Queues::One(base), self.effective(None, true)));
                }
                (binding, base)
            }
            Source::DeadLetter(binding, of) => {
                let name = dead_letters_of(binding, of.as_ref())?;
                registrar.require_queue(&name).await?;
                return Ok((Queues::One(name), self.effective(None, false)));
            }
            other => return Err(unsupported(other)),
        };
        let queues = registrar.find(&base, binding).await?;
        let ordered = matches!(queues, Queues::Shards(..));
        let point_to_point = matches!(from, Source::Channel(_)).then_some(&**binding);
        Ok((queues, self.effective(point_to_point, ordered)))
    }

    /// Consumes from those queues, on a channel each.
    async fn consume(
        &self,
        link: Arc<Link>,
        queues: Queues,
        options: &ReceiverOptions,
    ) -> Result<Arc<RabbitReceiver>> {
        let messages = options.prefetch.messages;
        let (names, prefetch, members) = match queues {
            Queues::One(name) => (vec![name], messages, None),
            Queues::Shards(base, count) => {
                let names = (0..count).map(|number| shard(&base, number)).collect();
                (names, AHEAD, Some(members(&base)))
            }
        };
        let prefetch = u16::try_from(prefetch.max(1)).unwrap_or(u16::MAX);
        let ordered = members.is_some();
        let mut terms = Vec::with_capacity(names.len());
        for name in &names {
            let (queue, scopes) = (short("the queue's name", name)?, Arc::clone(&self.scopes));
            terms.push(Terms { queue, prefetch, ordered, scopes });
        }
        let mut shards = Vec::with_capacity(names.len());
        for terms in &terms {
            let channel = link.channel(options.deadline).await?;
            let what = format!("consuming from `{}`", terms.queue);
            let opening = Shard::open(channel, terms.clone());
            let opened = within(&*self.clock, options.deadline, &what, opening).await?;
            shards.push(opened.map_err(|e| operation(&what, &e))?);
        }
        let receiver = RabbitReceiver::new(Arc::clone(&link), Arc::clone(&self.clock), shards, ordered);
        let receiver = Arc::new(receiver);
        if let Some(members) = members {
            let what = "joining the consumers";
            let channel = link.channel(options.deadline).await?;
            let joining = Membership::begin(channel, short("the queue's name", &members)?);
            let joined = within(&*self.clock, options.deadline, what, joining).await?;
            let membership = joined.map_err(|e| operation(what, &e))?;
            let (clock, events) = (Arc::clone(&self.clock), options.events.clone());
            let share = Share { membership, link, clock, events, terms };
            tokio::spawn(balance(Arc::downgrade(&receiver), share));
        }
        Ok(receiver)
    }
}

#[async_trait]
impl Adapter for RabbitAdapter {
    fn name(&self) -> &'static str {
        crate::NAME
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Table::RabbitMq.capabilities();
        capabilities.max_message_bytes = Some(self.config.max_message);
        capabilities
    }

    async fn declare(&self, topology: &Topology, mode: Declare) -> Result<()> {
        let (_, mut registrar) = self.registrar(self.deadline()).await?;
        match topology {
            Topology::Channel(binding) => registrar.declare_channel(binding, mode).await,
            Topology::Subscription(binding, subscription) => {
                registrar.declare_subscription(binding, subscription, mode).await
            }
            Topology::DeadLetter(binding, of) => {
                registrar.declare_dead_letters(binding, of.as_ref(), mode).await
            }
            other => Err(unsupported(other)),
        }
    }

    async fn delete(&self, topology: &Topology) -> Result<()> {
        let (_, mut registrar) = self.registrar(self.deadline()).await?;
        match topology {
            Topology::Channel(binding) => registrar.delete_channel(binding).await,
            Topology::Subscription(binding, subscription) => {
                registrar.delete_subscription(binding, subscription).await
            }
            Topology::DeadLetter(binding, of) => registrar.delete_dead_letters(binding, of.as_ref()).await,
            other => Err(unsupported(other)),
        }
    }

    async fn open_sender(&self, to: &Target, options: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        let (_, mut registrar) = self.registrar(options.deadline).await?;
        let link = self.links.get(Purpose::Send, options.deadline).await?;
        let (route, capabilities) = self.route(to, &link, &mut registrar).await?;
        let channel = link.channel(options.deadline).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        let what = "opening a channel that confirms";
        within(&*self.clock, options.deadline, what, confirms).await?.map_err(|e| operation(what, &e))?;
        let told = link.tell(options.events.clone());
        let sender = RabbitSender::new(channel, route, told, Arc::clone(&self.clock));
        Ok(Opened::new(Box::new(sender), capabilities))
    }

    async fn open_receiver(
        &self,
        from: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let (link, mut registrar) = self.registrar(options.deadline).await?;
        let (queues, capabilities) = self.source(from, &mut registrar).await?;
        let receiver = self.consume(link, queues, options).await?;
        Ok(Opened::new(receiver, capabilities))
    }

    async fn open_replies(&self, options: &ReceiverOptions) -> Result<Replies> {
        let (link, mut registrar) = self.registrar(options.deadline).await?;
        let address = format!("{REPLIES}{}", unique());
        // A queue of our own, not RabbitMQ's direct replies: those are tied to the channel that sends the request, and hold nothing back.
        registrar.exclusive_queue(&short("the return address", &address)?, None).await?;
        let receiver = self.consume(link, Queues::One(address.clone()), options).await?;
        Ok(Replies::new(address.into(), receiver))
    }

    async fn health(&self) -> Result<()> {
        let deadline = self.deadline();
        let link = self.links.get(Purpose::Receive, deadline).await?;
        let channel = link.channel(deadline).await?;
        within(&*self.clock, deadline, "health", channel.close(200, "healthy".into()))
            .await?
            .map_err(|e| operation("health", &e))
    }

    async fn close(&self) -> Result<()> {
        self.links.close().await;
        Ok(())
    }

    fn native(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&self.native)
    }
}

impl fmt::Debug for RabbitAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitAdapter").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The contract may learn new words.
fn unsupported(what: &impl fmt::Debug) -> anybroker_contract::Error {
    error(ErrorKind::Unsupported, format!("not known to the RabbitMQ adapter: {what:?}"))
}
