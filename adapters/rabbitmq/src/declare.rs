//! Making, finding and deleting what channels are made of.

use crate::buckets::of_shard;
use crate::config::ChannelConfig;
use crate::error::{error, operation, within};
use crate::link::Link;
use crate::names::{Place, dead_letters, members, others, shard, short};
use anybroker_contract::{
    Binding, ChannelKind, Clock, Declare, ErrorKind, Result, Subscription, Table, Text,
};
use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Talks to the broker about its objects. RabbitMQ ends the channel with every refusal; then the next question opens another.
pub(crate) struct Registrar {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    deadline: Instant,
    channel: Option<Channel>,
}

/// The queues that hold the messages of a point-to-point channel or subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Queues {
    One(String),
    /// In order: the base of their names, and how many there are.
    Shards(String, usize),
}

/// What a declaration leaves open, and so takes as it is.
struct Unsaid {
    bound: bool,
    delivery_limit: bool,
}

impl Unsaid {
    /// RabbitMQ compares all arguments, and says which one differs.
    fn adopted(&self, declared: Result<()>) -> Result<()> {
        let Err(error) = declared else { return Ok(()) };
        let text = error.to_string();
        let differs = |argument| text.contains(&format!("inequivalent arg '{argument}'"));
        match self.bound && differs("x-max-length") || self.delivery_limit && differs("x-delivery-limit") {
            true => Ok(()),
            false => Err(error),
        }
    }
}

/// A limit that is never reached: RabbitMQ 4 has one of 20 where none is said, and drops what exceeds it where there is no dead-letter queue.
const UNLIMITED: u32 = i32::MAX as u32;

/// How soon it is asked again for a queue that is there and does not answer.
const AGAIN: Duration = Duration::from_millis(100);

impl Registrar {
    pub(crate) const fn new(link: Arc<Link>, clock: Arc<dyn Clock>, deadline: Instant) -> Self {
        Self { link, clock, deadline, channel: None }
    }

    pub(crate) async fn declare_channel(&mut self, binding: &Binding, mode: Declare) -> Result<()> {
        Table::RabbitMq.check(&binding.channel).map_err(|refused| refused.with_adapter(crate::NAME))?;
        let place = Place::of(binding)?;
        if place.foreign {
            return self.verify(&place, binding).await;
        }
        if mode != Declare::IfMissing {
            // What is there is compared below, by declaring it again.
            self.verify(&place, binding).await?;
        }
        if binding.channel.kind() == ChannelKind::PublishSubscribe {
            return self.exchange(&place.exchange, ExchangeKind::Fanout, FieldTable::default()).await;
        }
        let ordered = binding.channel.requirements().order_per_key;
        self.queues(&place.exchange, None, &place.base, place.binding_key(), ordered, binding).await
    }

    pub(crate) async fn declare_subscription(
        &mut self,
        binding: &Binding,
        subscription: &Subscription,
        mode: Declare,
    ) -> Result<()> {
        self.declare_channel(binding, mode).await?;
        let place = Place::of(binding)?;
        if subscription.name().is_none() {
            return Ok(());
        }
        let base = place.subscription(subscription);
        if mode != Declare::IfMissing {
            self.find(&base, binding).await?;
            self.require_queue(&dead_letters(&base)).await?;
        }
        let ordered = binding.channel.requirements().order_per_key;
        let own = short("the subscription's name", &base)?;
        self.queues(&own, Some(&place), &base, place.binding_key(), ordered, binding).await
    }

    pub(crate) async fn declare_dead_letters(
        &mut self,
        binding: &Binding,
        of: Option<&Text>,
        mode: Declare,
    ) -> Result<()> {
        let name = dead_letters_of(binding, of)?;
        if mode != Declare::IfMissing {
            self.require_queue(&name).await?;
        }
        self.queue(&name, dead_letter_arguments()).await
    }

    /// The queues that hold the messages of that base.
    pub(crate) async fn find(&mut self, base: &str, binding: &Binding) -> Result<Queues> {
        let found = self.look(base, binding.channel.requirements().order_per_key).await?;
        found.ok_or_else(|| missing("queue", base))
    }

    /// A target that does not exist is an error before anything is published: the broker would end the channel for it.
    pub(crate) async fn require_exchange(&mut self, exchange: &ShortString) -> Result<()> {
        match exchange.as_str().is_empty() || self.has_exchange(exchange).await? {
            true => Ok(()),
            false => Err(missing("exchange", exchange.as_str())),
        }
    }

    pub(crate) async fn has_queue(&mut self, name: &str) -> Result<bool> {
        let name = short("the queue's name", name)?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        found(self.declare_queue(name, passive, FieldTable::default()).await)
    }

    /// A queue of this connection alone, gone with it.
    pub(crate) async fn exclusive_queue(
        &mut self,
        name: &ShortString,
        from: Option<(&ShortString, ShortString)>,
    ) -> Result<()> {
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let channel = self.channel().await?;
        self.answer(channel.queue_declare(name.clone(), options, FieldTable::default())).await?;
        match from {
            Some((exchange, key)) => self.bind(name, exchange, key).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn delete_channel(&mut self, binding: &Binding) -> Result<()> {
        let place = Place::of(binding)?;
        refuse_foreign(&place)?;
        if binding.channel.kind() == ChannelKind::PointToPoint {
            self.delete_queues(&place.base).await?;
        }
        self.delete_exchange(&place.exchange).await
    }

    pub(crate) async fn delete_subscription(
        &mut self,
        binding: &Binding,
        subscription: &Subscription,
    ) -> Result<()> {
        let place = Place::of(binding)?;
        let base = place.subscription(subscription);
        self.delete_queues(&base).await?;
        self.delete_exchange(&short("the subscription's name", &base)?).await
    }

    pub(crate) async fn delete_dead_letters(&mut self, binding: &Binding, of: Option<&Text>) -> Result<()> {
        self.delete_queue(&dead_letters_of(binding, of)?).await
    }

    /// Makes the queues that `exchange` leads to, the dead-letter queue first, so that no queue is without its target. Those that exist are adopted,
    /// in order or not.
    async fn queues(
        &mut self,
        exchange: &ShortString,
        from: Option<&Place>,
        base: &str,
        key: ShortString,
        ordered: bool,
        binding: &Binding,
    ) -> Result<()> {
        let config = ChannelConfig::read(&binding.settings)?;
        let (shards, complete) = self.planned(base, ordered, binding, &config).await?;
        self.queue(&dead_letters(base), dead_letter_arguments()).await?;
        let bounded = binding.channel.requirements().bounded.is_some();
        let unsaid =
            Unsaid { bound: !bounded, delivery_limit: binding.settings.get("delivery-limit").is_none() };
        let arguments = arguments(base, &config, binding.channel.requirements().bounded, shards.is_some());
        let Some(shards) = shards else {
            unsaid.adopted(self.queue(base, arguments).await)?;
            let name = short("the queue's name", base)?;
            return match from {
                Some(place) => self.bind(&name, &place.exchange, key).await,
                None => {
                    self.exchange(exchange, ExchangeKind::Direct, FieldTable::default()).await?;
                    self.bind(&name, exchange, key).await
                }
            };
        };
        let others = short("the exchange's name", &others(base))?;
        self.exchange(&others, ExchangeKind::Fanout, FieldTable::default()).await?;
        let mut alternate = FieldTable::default();
        alternate.insert("alternate-exchange".into(), AMQPValue::LongString(others.as_str().into()));
        self.exchange(exchange, ExchangeKind::Direct, alternate).await?;
        for number in 0..shards {
            let name = shard(base, number);
            unsaid.adopted(self.queue(&name, arguments.clone()).await)?;
            if !complete {
                self.bind_all(&short("the queue's name", &name)?, exchange, of_shard(number, shards)).await?;
            }
        }
        self.bind(&short("the queue's name", &shard(base, 0))?, &others, ShortString::default()).await?;
        if let Some(place) = from {
            self.bind_exchange(exchange, &place.exchange, key).await?;
        }
        // Made last: where it is, all is.
        self.queue(&members(base), dead_letter_arguments()).await
    }

    /// How many queues in order there are or shall be, none where it is one without order; and whether all is there.
    async fn planned(
        &mut self,
        base: &str,
        ordered: bool,
        binding: &Binding,
        config: &ChannelConfig,
    ) -> Result<(Option<usize>, bool)> {
        match self.look(base, ordered).await? {
            Some(Queues::One(_)) => Ok((None, true)),
            Some(Queues::Shards(_, there)) => match binding.settings.get("shards") {
                Some(_) if there != config.shards => {
                    let what =
                        format!("`{base}` has {there} shards, and `shards` asks for {}", config.shards);
                    Err(error(ErrorKind::Conflict, what).with_help(
                        "other numbers would move keys to other queues: leave it out, or delete the channel",
                    ))
                }
                _ => Ok((Some(there), true)),
            },
            None if ordered => match self.shards(base).await? {
                left if left > config.shards => {
                    let what = format!("`{base}` has {left} shards of a declaration that was interrupted");
                    Err(error(ErrorKind::Conflict, what).with_help("delete the channel"))
                }
                _ => Ok((Some(config.shards), false)),
            },
            None => Ok((None, false)),
        }
    }

    /// Which queues of that base there are; asks first for what is expected, as RabbitMQ ends the channel for what is not there.
    async fn look(&mut self, base: &str, ordered: bool) -> Result<Option<Queues>> {
        for ordered in [ordered, !ordered] {
            if !ordered && self.has_queue(base).await? {
                return Ok(Some(Queues::One(base.to_owned())));
            }
            if ordered && self.has_queue(&members(base)).await? {
                match self.shards(base).await? {
                    0 => {}
                    count => return Ok(Some(Queues::Shards(base.to_owned(), count))),
                }
            }
        }
        Ok(None)
    }

    async fn shards(&mut self, base: &str) -> Result<usize> {
        let mut count = 0;
        while self.has_queue(&shard(base, count)).await? {
            count += 1;
        }
        Ok(count)
    }

    /// All of it is there.
    async fn verify(&mut self, place: &Place, binding: &Binding) -> Result<()> {
        self.require_exchange(&place.exchange).await?;
        if binding.channel.kind() == ChannelKind::PublishSubscribe {
            return Ok(());
        }
        if !place.foreign {
            self.require_queue(&dead_letters(&place.base)).await?;
        }
        // An exchange that was named may lead to any queues.
        match place.foreign && !place.exchange.as_str().is_empty() {
            true => Ok(()),
            false => self.find(&place.base, binding).await.map(drop),
        }
    }

    pub(crate) async fn require_queue(&mut self, name: &str) -> Result<()> {
        match self.has_queue(name).await? {
            true => Ok(()),
            false => Err(missing("queue", name)),
        }
    }

    async fn has_exchange(&mut self, name: &ShortString) -> Result<bool> {
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let (channel, kind) = (self.channel().await?, ExchangeKind::Direct);
        found(self.answer(channel.exchange_declare(name.clone(), kind, passive, FieldTable::default())).await)
    }

    async fn exchange(
        &mut self,
        name: &ShortString,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> Result<()> {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let channel = self.channel().await?;
        self.answer(channel.exchange_declare(name.clone(), kind, durable, arguments)).await
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> Result<()> {
        let name = short("the queue's name", name)?;
        self.declare_queue(name, QueueDeclareOptions::durable(), arguments).await
    }

    /// One that somebody else is making just now is said to be down, and is not for long.
    async fn declare_queue(
        &mut self,
        name: ShortString,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<()> {
        loop {
            let channel = self.channel().await?;
            let declaring = channel.queue_declare(name.clone(), options, arguments.clone());
            match self.answer(declaring).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    let again = self.clock.now() + AGAIN;
                    if again > self.deadline {
                        return Err(error);
                    }
                    self.clock.sleep_until(again).await;
                }
                declared => return declared.map(drop),
            }
        }
    }

    async fn bind(&mut self, queue: &ShortString, exchange: &ShortString, key: ShortString) -> Result<()> {
        let (queue, exchange, options) = (queue.clone(), exchange.clone(), QueueBindOptions::default());
        let channel = self.channel().await?;
        self.answer(channel.queue_bind(queue, exchange, key, options, FieldTable::default())).await
    }

    /// With each of the keys. Only what is asked next tells whether it went well.
    async fn bind_all(
        &mut self,
        queue: &ShortString,
        exchange: &ShortString,
        keys: impl Iterator<Item = ShortString>,
    ) -> Result<()> {
        let channel = self.channel().await?;
        for key in keys {
            let (queue, exchange, options) =
                (queue.clone(), exchange.clone(), QueueBindOptions { nowait: true });
            self.answer(channel.queue_bind(queue, exchange, key, options, FieldTable::default())).await?;
        }
        Ok(())
    }

    async fn bind_exchange(&mut self, to: &ShortString, from: &ShortString, key: ShortString) -> Result<()> {
        let (to, from, options) = (to.clone(), from.clone(), ExchangeBindOptions::default());
        let channel = self.channel().await?;
        self.answer(channel.exchange_bind(to, from, key, options, FieldTable::default())).await
    }

    async fn delete_queues(&mut self, base: &str) -> Result<()> {
        // It goes first: without it, there are none. The others go from the last to the first, so that after an interruption the rest is found again.
        self.delete_queue(&members(base)).await?;
        for number in (0..self.shards(base).await?).rev() {
            self.delete_queue(&shard(base, number)).await?;
        }
        self.delete_exchange(&short("the exchange's name", &others(base))?).await?;
        self.delete_queue(base).await
    }

    async fn delete_queue(&mut self, name: &str) -> Result<()> {
        let name = short("the queue's name", name)?;
        let channel = self.channel().await?;
        self.answer(channel.queue_delete(name, QueueDeleteOptions::default())).await.map(drop)
    }

    async fn delete_exchange(&mut self, name: &ShortString) -> Result<()> {
        let channel = self.channel().await?;
        self.answer(channel.exchange_delete(name.clone(), ExchangeDeleteOptions::default())).await
    }

    /// The channel, or another where the broker has ended it.
    async fn channel(&mut self) -> Result<Channel> {
        match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(channel) => Ok(self.channel.insert(channel).clone()),
            None => Ok(self.channel.insert(self.link.channel(self.deadline).await?).clone()),
        }
    }

    async fn answer<T>(&self, question: impl Future<Output = lapin::Result<T>>) -> Result<T> {
        let what = "declaring";
        within(&*self.clock, self.deadline, what, question).await?.map_err(|e| operation(what, &e))
    }
}

/// The name of the dead-letter queue of a point-to-point channel, or of a subscription.
pub(crate) fn dead_letters_of(binding: &Binding, of: Option<&Text>) -> Result<String> {
    let base = Place::of(binding)?.base;
    Ok(match of {
        None => dead_letters(&base),
        Some(subscription) => dead_letters(&format!("{base}/{subscription}")),
    })
}

fn arguments(base: &str, config: &ChannelConfig, bound: Option<usize>, ordered: bool) -> FieldTable {
    let mut table = quorum(config.delivery_limit);
    // The target of the broker's own limit, and of other clients' rejections. Refusing what is too much lets the dead letters be confirmed.
    for (name, value) in [
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-routing-key", &dead_letters(base)),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        table.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    if let Some(bound) = bound {
        // A quorum queue begins to refuse once it holds more than that.
        let length = i64::try_from(bound.saturating_sub(1)).unwrap_or(i64::MAX);
        table.insert("x-max-length".into(), AMQPValue::LongLongInt(length));
    }
    if ordered {
        table.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    table
}

fn dead_letter_arguments() -> FieldTable {
    quorum(UNLIMITED)
}

fn quorum(delivery_limit: u32) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    table.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(delivery_limit.into()));
    table
}

fn found<T>(asked: Result<T>) -> Result<bool> {
    match asked {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        // It belongs to another connection, and so it is there.
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(true),
        Err(e) => Err(e),
    }
}

fn missing(what: &str, name: &str) -> anybroker_contract::Error {
    error(ErrorKind::NotFound, format!("there is no {what} `{name}`"))
        .with_help("let it be declared (`declare = \"if-missing\"`), or correct the address")
}

fn refuse_foreign(place: &Place) -> Result<()> {
    match place.foreign {
        false => Ok(()),
        true => Err(error(ErrorKind::Unsupported, "an address of several parts belongs to others")
            .with_help("delete it with RabbitMQ's own tools")),
    }
}
