//! Whoever is connected goes on when the server comes back from a crash, and so does who connects meanwhile. For a moment the server says then that the
//! cluster has no brokers, and a client that believes it has nobody left to ask: see `adapters/kafka/src/client/search.rs`.

use crate::server::Server;
use crate::trials::fresh;
use crate::wait::{until, within};
use crate::{Part, Tried, part};
use anybroker::channel::ChannelKind;
use anybroker::{Broker, Channel, Config, Consumer, Message, Producer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) const PARTS: &[Part] =
    &[part("restarts/all-go-on", |server| Box::pin(all_go_on(server))).disturbing()];

/// How many of each kind are connected, and how many connect again and again: few are unlucky each time.
const OF_EACH: usize = 4;
const COMERS: usize = 16;
const KILLS: usize = 2;

/// By when everybody is at work again, once the server is.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often those who connect try again: they are to be there when the server comes.
const AGAIN: Duration = Duration::from_millis(500);

async fn all_go_on(server: Arc<Server>) -> Tried {
    let channel = Channel::named(ChannelKind::PublishSubscribe, fresh("faults")).durable();
    let mut brokers = Vec::new();
    let mut all = All::default();
    for number in 0..OF_EACH {
        let broker = open(&server, "", &mut brokers).await?;
        all.producers.push(broker.producer(&channel).deadline(PATIENCE).await?);
        let mut kinds = vec![
            ("alone", "", channel.ephemeral()),
            ("classic", "", channel.subscription(format!("classic-{number}"))),
        ];
        if server.name != "kafka3" {
            let subscription = channel.subscription(format!("consumer-{number}"));
            kinds.push(("consumer", "&group-protocol=consumer", subscription));
        }
        for (kind, options, from) in kinds {
            let broker = open(&server, options, &mut brokers).await?;
            all.consumers.push((format!("{kind} {number}"), broker.consumer(from).await?));
        }
    }
    let (starts, seen) = watch::channel(0);
    let mut comers = JoinSet::new();
    let mut opened = Vec::new();
    for _ in 0..COMERS {
        let (opens, last) = watch::channel(None);
        opened.push(last);
        comers.spawn(come_and_go(Arc::clone(&server), channel.clone(), seen.clone(), opens));
    }
    for round in 0..=KILLS {
        if round > 0 {
            server.kill_and_restart(Duration::ZERO).await?;
            starts.send_replace(round);
        }
        all.work(&server, &channel, round).await?;
        let late = || opened.iter().filter(|last| *last.borrow() != Some(round)).count();
        if !until(PATIENCE, || late() == 0).await {
            let ended = comers.try_join_next();
            return Err(format!("after {round} restarts {} have not opened; ended: {ended:?}", late()).into());
        }
    }
    drop(starts);
    let all_came = within(PATIENCE, comers.join_all()).await.ok_or("those who come do not end")?;
    let came: usize = all_came.into_iter().sum::<anybroker::Result<_>>()?;
    eprintln!("{}: {KILLS} kills, {came} came and went", server.name);
    drop(all);
    for broker in brokers {
        broker.close().await?;
    }
    let direct = server.open().await?;
    direct.delete(&channel).await?;
    direct.close().await?;
    Ok(())
}

async fn open(server: &Server, options: &str, brokers: &mut Vec<Broker>) -> anybroker::Result<Broker> {
    let broker = Broker::connect(&format!("{}?session-timeout=6000{options}", server.url)).await?;
    brokers.push(broker.clone());
    Ok(broker)
}

/// Opens a producer after another, as long as the server is started again, and says after which start the last one was opened. Says how many in the end.
async fn come_and_go(
    server: Arc<Server>,
    channel: Channel,
    starts: watch::Receiver<usize>,
    opened: watch::Sender<Option<usize>>,
) -> anybroker::Result<usize> {
    let mut came = 0;
    while starts.has_changed().is_ok() {
        let start = *starts.borrow();
        let broker = Broker::builder().config(Config::url(&server.url)?).backoff(AGAIN, AGAIN).open_lazy()?;
        broker.producer(&channel).await?;
        opened.send_replace(Some(start));
        broker.close().await?;
        came += 1;
    }
    Ok(came)
}

#[derive(Default)]
struct All {
    producers: Vec<Producer>,
    consumers: Vec<(String, Consumer)>,
}

impl All {
    /// Each sends one, and everybody receives all of them.
    async fn work(&mut self, server: &Server, channel: &Channel, round: usize) -> Tried {
        let bodies: BTreeSet<String> =
            (0..self.producers.len()).map(|number| format!("{round}/{number}")).collect();
        let mut sending = JoinSet::new();
        for (producer, body) in self.producers.iter().zip(&bodies) {
            let (producer, body) = (producer.clone(), body.clone());
            sending.spawn(async move { producer.send(Message::new(body)).await });
        }
        let mut receiving = JoinSet::new();
        for (name, mut consumer) in self.consumers.drain(..) {
            let mut missing = bodies.clone();
            receiving.spawn(async move {
                let received = within(PATIENCE, receive(&mut consumer, &mut missing)).await;
                let done = matches!(received, Some(Ok(()))) && missing.is_empty();
                let wrong = (!done).then(|| format!("{name}: {received:?}, missing {missing:?}"));
                ((name, consumer), wrong)
            });
        }
        let mut wrong = Vec::new();
        while let Some(sent) = sending.join_next().await {
            wrong.extend(sent?.err().map(|error| format!("a producer: {error}")));
        }
        while let Some(received) = receiving.join_next().await {
            let ((name, consumer), left) = received?;
            if let Some(left) = left {
                wrong.push(format!("{left}; {:?}", consumer.status()));
                if let Some(group) = group(channel, &name) {
                    wrong.extend(seen(server, &group).await);
                }
            }
            self.consumers.push((name, consumer));
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!("after {round} restarts:\n    {}", wrong.join("\n    ")).into()),
        }
    }
}

/// The group of that consumer, if it is in one.
fn group(channel: &Channel, consumer: &str) -> Option<String> {
    let subscription = consumer.replace(' ', "-");
    (!consumer.starts_with("alone")).then(|| format!("{}/{subscription}", channel.name()))
}

/// What the server says of the group: whether the fault is on this side.
async fn seen(server: &Server, group: &str) -> Vec<String> {
    let mut said = Vec::new();
    for what in ["--state", "--members", "--offsets"] {
        let arguments = ["consumer-groups", "--group", group, "--describe", what];
        said.push(match server.tool(&arguments, String::new()).await {
            Ok(text) => text,
            Err(failed) => failed.message().unwrap_or_default().to_owned(),
        });
    }
    said
}

async fn receive(consumer: &mut Consumer, missing: &mut BTreeSet<String>) -> anybroker::Result<()> {
    while !missing.is_empty() {
        let Some(delivery) = consumer.receive().await? else { break };
        missing.remove(&*String::from_utf8_lossy(delivery.message().body()));
        delivery.ack().await?;
    }
    Ok(())
}
