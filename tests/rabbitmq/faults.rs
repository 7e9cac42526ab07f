//! Nothing accepted is lost and no key gets out of order, whatever is done to the server: see [`crate::disturbed`].

use crate::brokers::SETTLING;
use crate::disturbed::{self, Mix, PARTIES, Run, Victim};
use crate::proxy::Proxy;
use crate::server::Server;
use crate::trials::fresh;
use crate::wait::{HANG, now, sleep, until};
use crate::{Part, Tried, part};
use anybroker::adapter::async_trait;
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
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const PARTS: &[Part] = &[
    part("faults/nothing-lost", |server| Box::pin(nothing_lost(server))).disturbing(),
    part("faults/keys-keep-their-queues", |server| Box::pin(keys_keep_their_queues(server))).disturbing(),
    part("faults/settling", |server| Box::pin(settling(server))).disturbing(),
];

/// Seconds between two signs of life; after two missed ones a client ends the connection.
const HEARTBEAT: u64 = 1;

async fn nothing_lost(server: Arc<Server>) -> Tried {
    let mut proxies = Vec::new();
    for _ in 0..PARTIES {
        proxies.push(Proxy::to(server.address.clone()).await?);
    }
    let proxies: [Proxy; PARTIES] = proxies.try_into().map_err(|_| "as many as asked for")?;
    let channel = Channel::named(ChannelKind::PointToPoint, fresh("faults")).order_per_key().durable();
    let direct = Broker::open(Config::url(&server.url)?).await?;
    direct.producer(&channel).await?;
    let run = Run::new(channel.clone());
    let url = |proxy: &Proxy| format!("{}?heartbeat={HEARTBEAT}", server.url_at(proxy.address()));
    disturbed::nothing_lost(server.name, &*server, &run, &proxies, url).await?;
    direct.delete(&channel).await?;
    direct.delete(channel.dead_letters()).await?;
    direct.close().await?;
    Ok(())
}

#[async_trait]
impl Victim for Server {
    fn mix(&self) -> Mix {
        let longer_than_the_heartbeat = 2500 * HEARTBEAT;
        Mix {
            kills: 4,
            cuts: 7,
            stalls: 6,
            long_stalls: (2, longer_than_the_heartbeat..2 * longer_than_the_heartbeat),
            swallows: 5,
            ailments: (1, 300..1500),
        }
    }

    fn settling(&self) -> Duration {
        SETTLING
    }

    async fn kill_and_restart(&self, after: Duration) -> Result<Instant, Failed> {
        Self::kill_and_restart(self, after).await
    }

    /// It is short of memory, and reads nothing from those who publish.
    async fn ail(&self, lasting: Duration) -> Tried {
        self.memory_alarm(lasting).await
    }

    async fn left(&self, run: &Run) -> Result<Vec<String>, Failed> {
        Ok(wait_until_empty(self, &run.channel).await?.into_iter().collect())
    }
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
