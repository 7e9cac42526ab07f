use crate::after::lock;
use crate::config::{ChannelConfig, Config};
use crate::entries::{Content, fitting};
use crate::error;
use crate::queue::{Form, Offer, Queue, Waiter};
use anybroker_contract::{
    Address, Binding, ChannelKind, Clock, ErrorKind, Message, Requirements, Result, Start, Timestamp,
};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex};

/// A channel as it exists at the broker.
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) kind: ChannelKind,
    form: Form,
    retain: usize,
    clock: Arc<dyn Clock>,
    /// The only queue of a point-to-point channel.
    queue: Arc<Queue>,
    topic: Mutex<Topic>,
}

/// The other kind. Its lock makes all subscriptions see one order, and fixes where a new one starts.
#[derive(Default)]
struct Topic {
    subscriptions: Vec<(Option<String>, Arc<Queue>)>,
    retained: VecDeque<(Timestamp, Content)>,
    gone: bool,
}

impl Channel {
    pub(crate) fn new(binding: &Binding, config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<Self>> {
        let name = native_name(binding)?.to_owned();
        let own = ChannelConfig::read(&binding.settings)?;
        let requires = binding.channel.requirements();
        let form = Form {
            shards: requires.order_per_key.then_some(own.shards.unwrap_or(config.shards)),
            bound: requires.bounded,
            largest: config.max_message,
            lease: config.lease,
            counts_attempts: config.counts_attempts(),
            temporary: false,
        };
        Ok(Arc::new(Self {
            kind: binding.channel.kind(),
            form,
            retain: own.retain.unwrap_or(config.retain),
            clock: Arc::clone(clock),
            queue: Queue::new(name.clone(), Arc::clone(clock), form),
            topic: Mutex::default(),
            name,
        }))
    }

    pub(crate) const fn form(&self) -> Form {
        self.form
    }

    /// The queue of a point-to-point channel; none of the other kind.
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        (self.kind == ChannelKind::PointToPoint).then_some(&self.queue)
    }

    /// Whether the channel is of the kind that `binding` says.
    pub(crate) fn admit_kind(&self, binding: &Binding) -> Result<()> {
        let wanted = binding.channel.kind();
        self.admit("kind", self.kind == wanted, &self.kind.as_str(), &wanted.as_str())
    }

    /// Whether the channel is what `binding` says. What it has beyond that is adopted, as is its number of shards.
    pub(crate) fn admit_all(&self, binding: &Binding) -> Result<()> {
        self.admit_kind(binding)?;
        let Requirements { order_per_key, bounded, .. } = binding.channel.requirements();
        let ordered = self.form.shards.is_some();
        self.admit("order-per-key", ordered || !order_per_key, &ordered, &order_per_key)?;
        let bound = |bound: Option<usize>| bound.map_or(String::from("none"), |bound| bound.to_string());
        let fits = bounded.is_none() || bounded == self.form.bound;
        self.admit("bounded", fits, &bound(self.form.bound), &bound(bounded))?;
        match ChannelConfig::read(&binding.settings)?.retain {
            Some(retain) => self.admit("retain", retain == self.retain, &self.retain, &retain),
            None => Ok(()),
        }
    }

    fn admit(&self, what: &str, fits: bool, has: &dyn Display, wants: &dyn Display) -> Result<()> {
        if fits {
            return Ok(());
        }
        let what =
            format!("`{}` exists with {what} = {has}, and is declared with {what} = {wants}", self.name);
        Err(error(ErrorKind::Conflict, what)
            .with_channel(self.name.as_str())
            .with_help("declare it as it exists, bind the channel to another name, or delete it first"))
    }

    /// The queue of that named subscription.
    pub(crate) fn subscription(&self, name: &str) -> Option<Arc<Queue>> {
        let topic = lock(&self.topic);
        let found = topic.subscriptions.iter().find(|(known, _)| known.as_deref() == Some(name));
        found.map(|(_, queue)| Arc::clone(queue))
    }

    /// The queue of that subscription; a new one if there is none, starting there. Without a name it is always new and goes with its consumer.
    pub(crate) fn subscribe(&self, name: Option<&str>, start: Start) -> Result<Arc<Queue>> {
        let mut topic = lock(&self.topic);
        topic.subscriptions.retain(|(_, queue)| !queue.is_gone());
        if topic.gone {
            return Err(not_found("channel", &self.name));
        }
        let known = topic.subscriptions.iter().find(|(known, _)| name.is_some() && known.as_deref() == name);
        if let Some((_, queue)) = known {
            return Ok(Arc::clone(queue));
        }
        let title = format!("{}/{}", self.name, name.unwrap_or("(ephemeral)"));
        let form = Form { temporary: name.is_none(), ..self.form };
        let queue = Queue::new(title, Arc::clone(&self.clock), form);
        let missed = topic.retained.iter().filter(|(accepted, _)| match start {
            Start::Earliest => true,
            Start::At(time) => *accepted >= time,
            _ => false,
        });
        queue.push(missed.map(|(_, content)| content.clone()));
        topic.subscriptions.push((name.map(str::to_owned), Arc::clone(&queue)));
        Ok(queue)
    }

    pub(crate) fn unsubscribe(&self, name: &str) {
        lock(&self.topic).subscriptions.retain(|(known, queue)| {
            let stays = known.as_deref() != Some(name);
            if !stays {
                queue.delete();
            }
            stays
        });
    }

    /// As [`Queue::offer`], to the one queue or to every subscription.
    pub(crate) fn offer(&self, batch: &[Message], at_least: usize, waiter: Waiter<'_>) -> Offer {
        if let Some(queue) = self.queue() {
            return queue.offer(batch, at_least, waiter);
        }
        let mut topic = lock(&self.topic);
        if topic.gone {
            return Offer::Gone;
        }
        // Only takes and returns of consumers can come in between, and those may exceed the bound anyway.
        let room = topic.subscriptions.iter().map(|(_, queue)| queue.room(waiter)).min();
        let contents = fitting(batch, room.unwrap_or(usize::MAX), self.form.largest);
        topic.publish(contents, at_least, self.retain, &*self.clock)
    }

    /// Stores one thing as it is, whatever the bound.
    pub(crate) fn push(&self, content: Content) {
        match self.queue() {
            Some(queue) => {
                queue.push(std::iter::once(content));
            }
            None => {
                lock(&self.topic).publish(std::iter::once(content), 1, self.retain, &*self.clock);
            }
        }
    }

    pub(crate) fn queues(&self) -> Vec<Arc<Queue>> {
        let topic = lock(&self.topic);
        let subscriptions = topic.subscriptions.iter().map(|(_, queue)| queue);
        self.queue().into_iter().chain(subscriptions).map(Arc::clone).collect()
    }

    pub(crate) fn delete(&self) {
        lock(&self.topic).gone = true;
        self.queues().iter().for_each(|queue| queue.delete());
    }
}

impl Topic {
    /// Gives every subscription what comes, if that is so many at least. All of it is retained at first, so that it is copied and measured once.
    fn publish(
        &mut self,
        contents: impl Iterator<Item = Content>,
        at_least: usize,
        retain: usize,
        clock: &dyn Clock,
    ) -> Offer {
        let (before, now) = (self.retained.len(), clock.wall());
        self.retained.extend(contents.map(|content| (now, content)));
        let taken = self.retained.len() - before;
        if taken < at_least {
            self.retained.truncate(before);
            return Offer::Full;
        }
        let new = self.retained.range(before..).map(|(_, content)| content);
        self.subscriptions.retain(|(_, queue)| queue.push(new.clone().cloned()));
        self.retained.drain(..self.retained.len().saturating_sub(retain));
        Offer::Taken(taken)
    }
}

/// The name that `binding` gives.
pub(crate) fn native_name(binding: &Binding) -> Result<&str> {
    match binding.address {
        Address::Table(_) => Err(error(ErrorKind::Config, "`address` is a table")
            .with_channel(binding.channel.name())
            .with_help("a channel in memory has one name: write `address = \"name\"`, or leave it out")),
        _ => Ok(binding.native_name()),
    }
}

pub(crate) fn not_found(what: &str, name: &str) -> anybroker_contract::Error {
    error(ErrorKind::NotFound, format!("there is no {what} `{name}`"))
        .with_channel(name)
        .with_help("declare it first, or leave `declare` at \"if-missing\"")
}
