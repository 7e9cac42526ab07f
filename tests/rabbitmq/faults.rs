//! Nothing accepted is lost and no key gets out of order, while the server is killed, connections fail and consumers come and go.
//!
//! - `FAULTS=500` makes that many faults instead of 50.
//! - `FAULTS_SEED=7` replays the faults of a seed, which every run prints. It fixes them, not how the parties interleave with them.

use crate::brokers::SETTLING;
use crate::parties::{QUEUE, Run, SEND_DEADLINE, consume, produce};
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::schedule::{Fault, HEARTBEAT, PARTIES, Schedule};
use crate::server::{Server, fresh};
use crate::wait::{HANG, now, sleep, until};
use crate::{Part, Tried, part};
use anybroker::channel::ChannelKind;
use anybroker::rabbitmq::lapin;
use anybroker::rabbitmq::lapin::message::DeliveryResult;
use anybroker::rabbitmq::lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use anybroker::rabbitmq::lapin::types::{AMQPValue, FieldTable};
use anybroker::{Broker, Channel, Config, Message};
use libtest_mimic::Failed;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) const PARTS: &[Part] = &[
    part("faults/nothing-lost", |server| Box::pin(nothing_lost(server))).disturbing(),
    part("faults/keys-keep-their-queues", |server| Box::pin(keys_keep_their_queues(server))).disturbing(),
    part("faults/settling", |server| Box::pin(settling(server))).disturbing(),
];

/// From the end of the last fault until all has arrived.
const PATIENCE: Duration = Duration::from_secs(60);

async fn nothing_lost(server: Arc<Server>) -> Tried {
    let seed = variable("FAULTS_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
    let count = variable("FAULTS").unwrap_or(50);
    let schedule = Schedule::of(seed, usize::try_from(count)?);
    let kinds = kinds(&schedule);
    eprintln!("{}: FAULTS_SEED={seed} FAULTS={count}", server.name);
    let mut proxies = Vec::new();
    for _ in 0..PARTIES {
        proxies.push(Proxy::to(server.address.clone()).await?);
    }
    let proxies: [Proxy; PARTIES] = proxies.try_into().map_err(|_| "as many as asked for")?;
    let channel = Channel::named(ChannelKind::PointToPoint, fresh("faults")).order_per_key().durable();
    let direct = Broker::open(Config::url(&server.url)?).await?;
    direct.producer(&channel).await?;

    let began = now();
    let run = Run::new(channel.clone());
    let mut rng = Rng::new(seed ^ 77);
    let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
    for (number, proxy) in proxies.iter().enumerate() {
        let url = format!("{}?heartbeat={HEARTBEAT}", server.url_at(proxy.address()));
        match number % 2 {
            0 => drop(producers.spawn(produce(Arc::clone(&run), url, format!("p{number}"), rng.fork()))),
            _ => drop(consumers.spawn(consume(Arc::clone(&run), url, format!("c{number}"), rng.fork()))),
        }
    }
    schedule.play(&server, &proxies).await?;
    run.sent.store(true, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended?;
    }
    let patient = now() + PATIENCE;
    while !run.history.is_complete(&[QUEUE]) && now() < patient {
        sleep(Duration::from_millis(250)).await;
    }
    // A little longer, for what is out and not acknowledged.
    let left = wait_until_empty(&server, &channel).await?;
    run.over.store(true, Ordering::Relaxed);
    while let Some(ended) = consumers.join_next().await {
        ended?;
    }
    report(&server, &run, &kinds, began.elapsed());

    let mut faults = run.faults.lock().unwrap().clone();
    faults.extend(run.history.nothing_lost(&[QUEUE]).err());
    faults.extend(run.history.nothing_made_up().err());
    faults.extend(run.accepted.order_per_key().err());
    faults.extend(left);
    if !faults.is_empty() {
        return Err(format!("FAULTS_SEED={seed}:\n    {}", faults.join("\n    ")).into());
    }
    direct.delete(&channel).await?;
    direct.delete(channel.dead_letters()).await?;
    direct.close().await?;
    Ok(())
}

fn report(server: &Server, run: &Run, kinds: &BTreeMap<&str, usize>, took: Duration) {
    let arrivals = run.history.arrivals();
    let distinct = run.history.distinct(QUEUE);
    let retries = run.retries.load(Ordering::Relaxed);
    eprintln!(
        "{}: {:.0} s, faults {kinds:?}, sends {:?}, longest {:.1} s of {SEND_DEADLINE:?}\n    \
         arrivals {arrivals}, messages {distinct}, retries {retries}, duplicates {}, consumers {}; order with failed sends too: {:?}",
        server.name,
        took.as_secs_f64(),
        run.results.lock().unwrap(),
        run.longest_send.lock().unwrap().as_secs_f64(),
        (arrivals - distinct).saturating_sub(retries),
        run.lives.load(Ordering::Relaxed),
        run.history.order_per_key().err(),
    );
}

/// What is wrong with the queues when all has been received: nothing may be left in them, and nothing may have died.
async fn wait_until_empty(server: &Server, channel: &Channel) -> Result<Option<String>, Failed> {
    let lapin = server.lapin().await?;
    let patient = now() + Duration::from_secs(15);
    let queues = (0..8).map(|shard| format!("{}#{shard}", channel.name()));
    for queue in queues.chain([format!("{}#dead-letters", channel.name())]) {
        let count = async || {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = lapin.queue_declare(queue.clone().into(), options, FieldTable::default()).await?;
            lapin::Result::Ok(queue.message_count())
        };
        while count().await? > 0 {
            if now() > patient {
                return Ok(Some(format!("{queue} still has {} messages", count().await?)));
            }
            sleep(Duration::from_millis(250)).await;
        }
    }
    Ok(None)
}

/// What [`SETTLING`] is for. How much is lost without it is reported; with it, nothing may be.
async fn settling(server: Arc<Server>) -> Tried {
    const MESSAGES: u32 = 100;
    let mut left = Vec::new();
    for wait in [Duration::ZERO, SETTLING] {
        let name = fresh("settling");
        let lapin = server.lapin().await?;
        lapin.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        lapin.queue_declare(name.clone().into(), QueueDeclareOptions::durable(), arguments).await?;
        sleep(wait).await;
        for _ in 0..MESSAGES {
            let (options, properties) = (BasicPublishOptions::default(), lapin::BasicProperties::default());
            lapin.basic_publish("".into(), name.clone().into(), options, b"x", properties).await?.await?;
        }
        server.kill_and_restart(Duration::ZERO).await?;
        let lapin = server.lapin().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = lapin.queue_declare(name.clone().into(), options, FieldTable::default()).await;
        left.push(queue.map_or(0, |queue| queue.message_count()));
        // It may be gone, and then so is the channel.
        let _ = server.lapin().await?.queue_delete(name.into(), QueueDeleteOptions::default()).await;
        sleep(SETTLING).await;
    }
    eprintln!(
        "{}: of {MESSAGES} confirmed messages, a kill at once leaves {}, a kill after {SETTLING:?} {}",
        server.name, left[0], left[1]
    );
    match left[1] {
        MESSAGES => Ok(()),
        left => Err(format!("{left} of {MESSAGES} confirmed messages are left").into()),
    }
}

/// A server that starts makes its bindings anew: a key that then led to another queue would overtake what it has in the old one.
async fn keys_keep_their_queues(server: Arc<Server>) -> Tried {
    const KEYS: usize = 300;
    const SHARDS: usize = 12;
    let name = fresh("keys");
    let config =
        format!("[brokers.main]\nurl = \"{}\"\n[channels.{name}]\nrabbitmq.shards = {SHARDS}\n", server.url);
    let broker = Broker::open(Config::from_toml(&config)?).await?;
    let channel = Channel::named(ChannelKind::PointToPoint, name.clone()).order_per_key();
    let mut places = Vec::new();
    for _ in 0..2 {
        let messages = (0..KEYS)
            .map(|key| Message::new("x").with_key(format!("key {key}")).with_id(format!("id of key {key}")));
        broker
            .producer(&channel)
            .await?
            .send_all(messages)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        let lapin = server.lapin().await?;
        let place = Arc::new(Mutex::new(BTreeMap::new()));
        for number in 0..SHARDS {
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let queue = format!("{name}#{number}").into();
            let consumer = lapin.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
            let place = Arc::clone(&place);
            consumer.set_delegate(move |delivery: DeliveryResult| {
                if let Ok(Some(delivery)) = delivery {
                    place.lock().unwrap().insert(delivery.properties.message_id().clone(), number);
                }
                std::future::ready(())
            });
        }
        assert!(until(HANG, || place.lock().unwrap().len() == KEYS).await, "some do not arrive");
        let place = place.lock().unwrap().clone();
        places.push(place);
        sleep(SETTLING).await;
        server.kill_and_restart(Duration::ZERO).await?;
    }
    let moved = places[0].iter().filter(|(key, number)| places[1].get(*key) != Some(number)).count();
    assert_eq!(moved, 0, "of {KEYS} keys have another queue");
    sleep(SETTLING).await;
    broker.delete(&channel).await?;
    broker.delete(channel.dead_letters()).await?;
    broker.close().await?;
    Ok(())
}

fn kinds(schedule: &Schedule) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for (fault, _) in &schedule.faults {
        let kind = match fault {
            Fault::Kill(_) => "kill",
            Fault::Cut => "cut",
            Fault::Stall(_) => "stall",
            Fault::Swallow(_) => "swallow",
            Fault::Alarm(_) => "alarm",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name}={text} is not a number");
    number
}
