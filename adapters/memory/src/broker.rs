use crate::after::lock;
use crate::channel::{Channel, native_name, not_found};
use crate::config::Config;
use crate::gate::Gate;
use crate::queue::{Form, Queue};
use crate::{NAME, error};
use anybroker_contract::{Binding, ChannelKind, Clock, Declare, ErrorKind, Result, Subscription, Text};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// One broker. It lives as long as somebody holds it: adapters, their handles, a [`crate::MemoryBroker`].
pub(crate) struct Broker {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) gate: Gate,
    /// Tells return addresses of this broker from those of another one of the same name, before it or elsewhere.
    incarnation: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<String, Arc<Channel>>,
    dead_letters: BTreeMap<(String, Option<String>), Arc<Queue>>,
    replies: BTreeMap<String, Arc<Queue>>,
    links: Vec<Weak<Link>>,
    counter: u64,
    refusing: bool,
}

/// One connection of one adapter.
pub(crate) struct Link {
    pub(crate) id: u64,
    cut: AtomicBool,
}

impl Link {
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// The named brokers of the process. The only global of the library: a name in a URL is all that two adapters have in common, and a broker outside of
/// the process, whose place this one takes, is as global.
static NAMED: Mutex<BTreeMap<String, Weak<Broker>>> = Mutex::new(BTreeMap::new());

impl Broker {
    pub(crate) fn new(name: String, config: Config, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            name,
            config,
            clock,
            gate: Gate::default(),
            incarnation: RandomState::new().build_hasher().finish(),
            state: Mutex::default(),
        })
    }

    /// The broker of that name; a new one if there is none, or if the name is empty. `config` gives its configuration from the one it has.
    pub(crate) fn named(
        name: String,
        clock: &Arc<dyn Clock>,
        config: impl Fn(Config) -> Result<Config>,
    ) -> Result<Arc<Self>> {
        let new = |name| Ok(Self::new(name, config(Config::default())?, Arc::clone(clock)));
        if name.is_empty() {
            return new(name);
        }
        let mut named = lock(&NAMED);
        named.retain(|_, broker| broker.strong_count() > 0);
        if let Some(broker) = named.get(&name).and_then(Weak::upgrade) {
            let (has, wants) = (&broker.config, config(broker.config.clone())?);
            if *has == wants {
                return Ok(broker);
            }
            let what =
                format!("the memory broker `{name}` is there with {has:?}, and is opened with {wants:?}");
            return Err(
                error(ErrorKind::Conflict, what).with_help("open it with the same settings, or without")
            );
        }
        let broker = new(name.clone())?;
        named.insert(name, Arc::downgrade(&broker));
        Ok(broker)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Arc<Link> {
        let mut state = lock(&self.state);
        state.counter += 1;
        let link = Arc::new(Link { id: state.counter, cut: AtomicBool::new(false) });
        state.links.retain(|link| link.strong_count() > 0);
        state.links.push(Arc::downgrade(&link));
        link
    }

    /// Cuts that connection, or all.
    pub(crate) fn cut(&self, link: Option<&Link>) {
        let queues: Vec<_> = {
            let state = lock(&self.state);
            match link {
                Some(link) => link.cut.store(true, Ordering::Release),
                None => {
                    for link in state.links.iter().filter_map(Weak::upgrade) {
                        link.cut.store(true, Ordering::Release);
                    }
                }
            }
            let channels = state.channels.values().flat_map(|channel| channel.queues());
            let others = state.dead_letters.values().chain(state.replies.values());
            channels.chain(others.map(Arc::clone)).collect()
        };
        for queue in queues {
            queue.cut(link.map(|link| link.id));
        }
        self.gate.wake();
    }

    pub(crate) fn refuse(&self, refusing: bool) {
        lock(&self.state).refusing = refusing;
    }

    pub(crate) fn is_refusing(&self) -> bool {
        lock(&self.state).refusing
    }

    /// The channel of that native name.
    pub(crate) fn channel_named(&self, name: &str) -> Result<Arc<Channel>> {
        let found = lock(&self.state).channels.get(name).map(Arc::clone);
        found.ok_or_else(|| not_found("channel", name))
    }

    /// The channel that `binding` means.
    pub(crate) fn channel(&self, binding: &Binding) -> Result<Arc<Channel>> {
        let channel = self.channel_named(native_name(binding)?)?;
        channel.admit_kind(binding)?;
        Ok(channel)
    }

    pub(crate) fn declare_channel(&self, binding: &Binding, mode: Declare) -> Result<Arc<Channel>> {
        let name = native_name(binding)?;
        if let Some(table) = self.config.like {
            table.check(&binding.channel).map_err(|refused| refused.with_adapter(NAME))?;
        }
        let mut state = lock(&self.state);
        if let Some(channel) = state.channels.get(name) {
            channel.admit_all(binding)?;
            return Ok(Arc::clone(channel));
        }
        if mode != Declare::IfMissing {
            return Err(not_found("channel", name));
        }
        let channel = Channel::new(binding, &self.config, &self.clock)?;
        state.channels.insert(name.to_owned(), Arc::clone(&channel));
        Ok(channel)
    }

    pub(crate) fn declare_subscription(
        &self,
        binding: &Binding,
        subscription: &Subscription,
        mode: Declare,
    ) -> Result<()> {
        let channel = self.declare_channel(binding, mode)?;
        require_topic(&channel)?;
        // An ephemeral subscription begins with its receiver.
        let Some(name) = subscription.name() else {
            return Ok(());
        };
        if mode != Declare::IfMissing && channel.subscription(name).is_none() {
            return Err(not_found("subscription", &format!("{}/{name}", channel.name)));
        }
        channel.subscribe(Some(name), subscription.start())?;
        Ok(())
    }

    pub(crate) fn declare_dead_letters(
        &self,
        binding: &Binding,
        subscription: Option<&Text>,
        mode: Declare,
    ) -> Result<()> {
        let (key, title) = dead_letter_key(binding, subscription)?;
        let mut state = lock(&self.state);
        if state.dead_letters.contains_key(&key) {
            return Ok(());
        }
        if mode != Declare::IfMissing {
            return Err(not_found("dead-letter channel", &title));
        }
        let queue = self.new_queue(title, false);
        state.dead_letters.insert(key, queue);
        Ok(())
    }

    pub(crate) fn dead_letters(&self, binding: &Binding, subscription: Option<&Text>) -> Result<Arc<Queue>> {
        let (key, title) = dead_letter_key(binding, subscription)?;
        let found = lock(&self.state).dead_letters.get(&key).map(Arc::clone);
        found.ok_or_else(|| not_found("dead-letter channel", &title))
    }

    /// The queue of that subscription, which is a new one where it has no name.
    pub(crate) fn subscription(&self, binding: &Binding, subscription: &Subscription) -> Result<Arc<Queue>> {
        let channel = self.channel(binding)?;
        require_topic(&channel)?;
        match subscription.name() {
            None => channel.subscribe(None, subscription.start()),
            Some(name) => channel
                .subscription(name)
                .ok_or_else(|| not_found("subscription", &format!("{}/{name}", channel.name))),
        }
    }

    /// A new return address and its queue.
    pub(crate) fn new_replies(&self) -> (Text, Arc<Queue>) {
        let mut state = lock(&self.state);
        state.counter += 1;
        let address = format!("{}{:016x}-{}", self.reply_namespace(), self.incarnation, state.counter);
        let queue = self.new_queue(address.clone(), true);
        state.replies.retain(|_, queue| !queue.is_gone());
        state.replies.insert(address.clone(), Arc::clone(&queue));
        (address.into(), queue)
    }

    /// The queue of that return address, which may come from anybody.
    pub(crate) fn replies(&self, address: &Text) -> Result<Arc<Queue>> {
        if !address.starts_with(&self.reply_namespace()) {
            let what = format!("`{address}` is no return address of this broker");
            return Err(error(ErrorKind::Unauthorized, what)
                .with_help("answer only requests that were sent through this broker"));
        }
        let found = lock(&self.state).replies.get(&**address).map(Arc::clone);
        found.filter(|queue| !queue.is_gone()).ok_or_else(|| {
            error(ErrorKind::NotFound, format!("nobody waits at the return address `{address}` any more"))
        })
    }

    pub(crate) fn delete_channel(&self, binding: &Binding) -> Result<()> {
        let removed = lock(&self.state).channels.remove(native_name(binding)?);
        if let Some(channel) = removed {
            channel.delete();
        }
        Ok(())
    }

    pub(crate) fn delete_subscription(&self, binding: &Binding, subscription: &Subscription) -> Result<()> {
        let channel = lock(&self.state).channels.get(native_name(binding)?).map(Arc::clone);
        if let (Some(channel), Some(name)) = (channel, subscription.name()) {
            channel.unsubscribe(name);
        }
        Ok(())
    }

    pub(crate) fn delete_dead_letters(&self, binding: &Binding, subscription: Option<&Text>) -> Result<()> {
        let (key, _) = dead_letter_key(binding, subscription)?;
        let removed = lock(&self.state).dead_letters.remove(&key);
        if let Some(queue) = removed {
            queue.delete();
        }
        Ok(())
    }

    fn new_queue(&self, title: String, temporary: bool) -> Arc<Queue> {
        let Config { lease, max_message: largest, .. } = self.config;
        let counts_attempts = self.config.counts_attempts();
        let form = Form { shards: None, bound: None, largest, lease, counts_attempts, temporary };
        Queue::new(title, Arc::clone(&self.clock), form)
    }

    fn reply_namespace(&self) -> String {
        format!("reply:{}:", self.name)
    }
}

fn require_topic(channel: &Channel) -> Result<()> {
    if channel.kind == ChannelKind::PublishSubscribe {
        return Ok(());
    }
    let what = format!("`{}` is a point-to-point channel, which has no subscriptions", channel.name);
    Err(error(ErrorKind::Unsupported, what).with_help("receive from the channel itself"))
}

fn dead_letter_key(
    binding: &Binding,
    subscription: Option<&Text>,
) -> Result<((String, Option<String>), String)> {
    let channel = native_name(binding)?.to_owned();
    let subscription = subscription.map(|name| name.as_str().to_owned());
    let title = match &subscription {
        Some(subscription) => format!("{channel}/{subscription}/dead-letters"),
        None => format!("{channel}/dead-letters"),
    };
    Ok(((channel, subscription), title))
}
