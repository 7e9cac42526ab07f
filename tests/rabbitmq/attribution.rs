//! Every confirm belongs to its message, whatever came back or was refused before, beside and behind it.

use crate::rng::Rng;
use crate::server::Server;
use crate::wait::{HANG, now, within};
use crate::{Part, Tried, part};
use anybroker::adapter::{
    Address, Binding, Clock, Events, SenderOptions, Settings, SystemClock, Target, Value,
};
use anybroker::channel::ChannelKind;
use anybroker::message::{Receipt, SendOutcome};
use anybroker::rabbitmq::lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use anybroker::rabbitmq::lapin::types::{AMQPValue, FieldTable};
use anybroker::rabbitmq::lapin::{self, BasicProperties, Confirmation, ExchangeKind};
use anybroker::{Broker, Channel, Config, ErrorKind, Message, config};
use futures_core::Stream;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) const PARTS: &[Part] = &[
    part("attribution/one-sender", |server| Box::pin(one_sender(server))),
    part("attribution/one-producer", |server| Box::pin(one_producer(server))),
];

/// Publishes of one sender, and tasks that they come from.
const MESSAGES: usize = 100_000;
const TASKS: usize = 16;

/// Batches of one sender whose confirms nobody has awaited yet.
const PIPELINE: usize = 32;

/// Messages that are large, in bytes.
const LARGE: usize = 60_000;
const LARGE_PERCENT: u64 = 2;

/// What has to become of a message, which its routing key decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Accepted,
    /// No queue is bound for it.
    Unroutable,
    /// Its queue is full.
    Full,
}

/// The bare contract: batches of all sizes, many on their way at once.
async fn one_sender(server: Arc<Server>) -> Tried {
    let house = House::build(&server).await?;
    let adapter = server.adapter()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = SenderOptions::new(now() + HANG, clock, Events::ignored());
    let mut address = Settings::default();
    address.insert("exchange", Value::String(house.name.clone()));
    let binding = Binding::new(house.channel()).at(Address::Table(address));
    let mut sender = adapter.open_sender(&Target::Channel(Arc::new(binding)), &options).await?.handle;
    let (feed, mut fed) = mpsc::channel(1024);
    for task in 0..TASKS {
        let feed = feed.clone();
        tokio::spawn(async move {
            for (fate, message) in messages(task, MESSAGES / TASKS, Rng::thirds) {
                feed.send((fate, message)).await.unwrap();
            }
        });
    }
    drop(feed);
    let began = now();
    let mut verdicts = Verdicts::default();
    let mut confirms = JoinSet::new();
    let mut rng = Rng::new(1);
    let mut gathered = Vec::new();
    while fed.recv_many(&mut gathered, 1 + rng.below_usize(300)).await > 0 {
        let (fates, batch): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        let confirm = sender.send_batch(&batch).await?;
        confirms.spawn(async move { (confirm.await.into_results(batch.len()), fates, batch) });
        while confirms.len() >= PIPELINE {
            let (results, fates, batch) = confirms.join_next().await.ok_or("the confirms have ended")??;
            verdicts.take(&results, fates, batch);
        }
    }
    while let Some(answered) = confirms.join_next().await {
        let (results, fates, batch) = answered?;
        verdicts.take(&results, fates, batch);
    }
    let took = began.elapsed();
    sender.close().await?;
    adapter.close().await?;
    verdicts.report(&format!("{}: one sender", server.name), took);
    house.close(&verdicts).await
}

/// What users get. A full queue is no part of it, since the portable layer tries again until there is room.
async fn one_producer(server: Arc<Server>) -> Tried {
    let house = House::build(&server).await?;
    let mut address = Settings::default();
    address.insert("exchange", Value::String(house.name.clone()));
    let bound = config::Channel::new().address(Address::Table(address));
    let broker = Broker::open(Config::url(&server.url)?.channel(house.name.clone(), bound)).await?;
    let producer = broker.producer(&house.channel()).await?;
    let began = now();
    let mut sending = JoinSet::new();
    for task in 0..TASKS {
        let producer = producer.clone();
        sending.spawn(async move {
            let mut rng = Rng::new(task as u64);
            let mut all = messages(task, MESSAGES / TASKS / 2, Rng::halves);
            let mut answered = Vec::new();
            loop {
                let batch: Vec<_> = all.by_ref().take(1 + rng.below_usize(60)).collect();
                if batch.is_empty() {
                    return answered;
                }
                let (fates, batch): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                answered.push((producer.send_all(batch.clone()).await, fates, batch));
            }
        });
    }
    let mut verdicts = Verdicts::default();
    while let Some(answered) = sending.join_next().await {
        for (results, fates, batch) in answered? {
            verdicts.take(&results, fates, batch);
        }
    }
    verdicts.report(&format!("{}: one producer", server.name), began.elapsed());
    broker.close().await?;
    house.close(&verdicts).await
}

/// Their text is nobody else's. Some have no id to be known by.
fn messages(task: usize, count: usize, fate: fn(&mut Rng) -> Fate) -> impl Iterator<Item = (Fate, Message)> {
    let mut rng = Rng::new(1000 + task as u64);
    (0..count).map(move |n| {
        let fate = fate(&mut rng);
        let text = format!("{task}-{n}");
        // A large one holds up its batch on the wire, while the first of the batch are answered already.
        let size = if fate != Fate::Accepted && rng.chance(LARGE_PERCENT) { LARGE } else { 0 };
        let mut message = Message::new(format!("{text:size$}")).with_key(fate.routing_key());
        if !rng.chance(10) {
            message = message.with_id(text);
        }
        (fate, message)
    })
}

impl Rng {
    fn thirds(&mut self) -> Fate {
        [Fate::Accepted, Fate::Unroutable, Fate::Full][self.below_usize(3)]
    }

    fn halves(&mut self) -> Fate {
        [Fate::Accepted, Fate::Unroutable][self.below_usize(2)]
    }
}

impl Fate {
    const fn routing_key(self) -> &'static str {
        match self {
            Self::Accepted => "open",
            Self::Unroutable => "nowhere",
            Self::Full => "full",
        }
    }

    fn agrees(self, result: &anybroker::Result<Receipt>) -> bool {
        let said = result.as_ref().err().map(|error| (error.kind(), error.outcome()));
        said == match self {
            Self::Accepted => None,
            Self::Unroutable => Some((ErrorKind::NotFound, Some(SendOutcome::Refused))),
            Self::Full => Some((ErrorKind::Throttled, Some(SendOutcome::Refused))),
        }
    }
}

/// What was answered, message by message.
#[derive(Default)]
struct Verdicts {
    /// How many there are of each fate.
    counts: BTreeMap<Fate, usize>,
    accepted: Vec<String>,
    wrong: Vec<String>,
}

impl Verdicts {
    fn take(&mut self, results: &[anybroker::Result<Receipt>], fates: Vec<Fate>, batch: Vec<Message>) {
        assert_eq!(results.len(), fates.len());
        for ((result, fate), message) in results.iter().zip(fates).zip(batch) {
            *self.counts.entry(fate).or_default() += 1;
            let text = text(message.body());
            if !fate.agrees(result) {
                self.wrong.push(format!("{text} was to be {fate:?}: {result:?}"));
            }
            if fate == Fate::Accepted {
                self.accepted.push(text);
            }
        }
    }

    fn report(&self, who: &str, took: Duration) {
        eprintln!("{who}: {:?}, {} wrong, {:.1} s", self.counts, self.wrong.len(), took.as_secs_f64());
    }
}

/// An exchange that leads to a queue with room, and to one without.
struct House {
    name: String,
    lapin: lapin::Channel,
}

impl House {
    async fn build(server: &Server) -> Result<Self, libtest_mimic::Failed> {
        let lapin = server.lapin().await?;
        let name = crate::trials::fresh("attribution");
        let exchange = ExchangeDeclareOptions::default();
        lapin
            .exchange_declare(name.clone().into(), ExchangeKind::Direct, exchange, FieldTable::default())
            .await?;
        let house = Self { name, lapin };
        for fate in [Fate::Accepted, Fate::Full] {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            if fate == Fate::Full {
                arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
                arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
            }
            let queue = house.queue(fate);
            let (key, bind) = (fate.routing_key().into(), QueueBindOptions::default());
            let durable = QueueDeclareOptions::durable();
            house.lapin.queue_declare(queue.clone().into(), durable, arguments).await?;
            let exchange = house.name.clone().into();
            house.lapin.queue_bind(queue.into(), exchange, key, bind, FieldTable::default()).await?;
        }
        house.fill().await?;
        Ok(house)
    }

    fn channel(&self) -> Channel {
        Channel::named(ChannelKind::PointToPoint, self.name.clone())
    }

    fn queue(&self, fate: Fate) -> String {
        format!("{}.{}", self.name, fate.routing_key())
    }

    /// A queue takes some more than its bound before it refuses.
    async fn fill(&self) -> Tried {
        self.lapin.confirm_select(ConfirmSelectOptions::default()).await?;
        for _ in 0..100 {
            let (exchange, key) = (self.name.clone().into(), Fate::Full.routing_key().into());
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = self.lapin.basic_publish(exchange, key, options, b"", properties).await?;
            if matches!(published.await?, Confirmation::Nack(_)) {
                return Ok(());
            }
        }
        Err("the bounded queue is never full".into())
    }

    /// Every answer was right, and the queue has exactly what it was said to have.
    async fn close(self, verdicts: &Verdicts) -> Tried {
        let mut there = self.drain(verdicts.accepted.len()).await?;
        let mut accepted = verdicts.accepted.clone();
        there.sort_unstable();
        accepted.sort_unstable();
        for fate in [Fate::Accepted, Fate::Full] {
            self.lapin.queue_delete(self.queue(fate).into(), QueueDeleteOptions::default()).await?;
        }
        self.lapin.exchange_delete(self.name.clone().into(), ExchangeDeleteOptions::default()).await?;
        if let Some(first) = verdicts.wrong.first() {
            return Err(format!("{} results are wrong, first {first}", verdicts.wrong.len()).into());
        }
        match there == accepted {
            true => Ok(()),
            false => {
                Err(format!("{} were accepted, {} are in the queue", accepted.len(), there.len()).into())
            }
        }
    }

    async fn drain(&self, count: usize) -> Result<Vec<String>, libtest_mimic::Failed> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let queue = self.queue(Fate::Accepted).into();
        let mut consumer =
            self.lapin.basic_consume(queue, "drain".into(), options, FieldTable::default()).await?;
        let mut there = Vec::with_capacity(count);
        loop {
            // What comes behind the last would be one too many.
            let patience = if there.len() < count { HANG } else { Duration::from_millis(300) };
            let next = poll_fn(|cx| Pin::new(&mut consumer).poll_next(cx));
            match within(patience, next).await {
                Some(Some(delivery)) => there.push(text(&delivery?.data)),
                _ => return Ok(there),
            }
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end().to_owned()
}
