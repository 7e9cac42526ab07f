//! A message that fails again and again holds up its key and nothing else, and what waits behind it is not all read into memory.

use crate::alone::{Scene, play};
use crate::server::Server;
use crate::trials::fresh;
use crate::wait::{HANG, now, within};
use crate::{Part, Tried, part};
use anybroker::channel::ChannelKind;
use anybroker::kafka::rdkafka::error::{KafkaError, RDKafkaErrorCode};
use anybroker::kafka::rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use anybroker::{Broker, Channel, Config, Message};
use libtest_mimic::Failed;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const PARTS: &[Part] = &[part("poison/holds-up-its-key-alone", |server| Box::pin(poison(server)))];

pub(crate) const SCENES: &[Scene] = &[("poisoned", |server, channel| Box::pin(poisoned(server, channel)))];

/// Small messages behind it, in the same partition.
const BEHIND: usize = 1_000_000;

/// Of its own key: they come after it, whatever becomes of it.
const FOLLOWERS: usize = 5;

const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(500);

/// How far a partition is read ahead of its oldest unsettled record, and what may be on its way beyond.
const AHEAD: usize = 10_000 + 2_000;

/// How much more memory a process may have than before it received anything, in bytes. Librdkafka alone may keep 16 MiB of records, and as much on their way.
const MEMORY: u64 = 64 << 20;

async fn poison(server: Arc<Server>) -> Tried {
    let channel = Channel::named(ChannelKind::PointToPoint, fresh("poison"));
    let broker = open(&server, channel.name()).await?;
    let producer = broker.producer(&channel).await?;
    for number in 0..=FOLLOWERS {
        producer.send(Message::new(format!("poison {number}")).with_key("poison")).await?;
    }
    let (config, topic) = (server.client(), channel.name().to_owned());
    tokio::task::spawn_blocking(move || {
        let client: BaseProducer = config.clone().set("linger.ms", "20").create()?;
        for number in 0..BEHIND {
            let (key, value) = (format!("key {}", number % 1000), number.to_string());
            let mut record = BaseRecord::to(&topic).key(&key).payload(&value);
            while let Err((error, again)) = client.send(record) {
                match error {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => record = again,
                    other => return Err(other),
                }
                client.poll(Duration::from_millis(20));
            }
        }
        client.flush(Duration::from_secs(60))
    })
    .await??;

    let figures = play(&server, "poisoned", channel.name()).await?;
    eprintln!("{}: {}", server.name, figures.trim_end());
    let dead = server.records(&format!("{}..dead-letters", channel.name())).await?;
    assert_eq!(dead.len(), 1, "dead letters: {dead:?}");
    assert_eq!(dead[0].value.as_deref(), Some(&b"poison 0"[..]));
    assert_eq!(dead[0].header("anybroker-dead-letter-attempts").as_deref(), Some("5"));
    let end = i64::try_from(BEHIND + FOLLOWERS + 1)?;
    assert_eq!(server.positions(channel.name(), channel.name()).await?, [(end, Some(end))]);
    broker.delete(channel.dead_letters()).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

/// Receives all of it, alone in its process.
async fn poisoned(server: Arc<Server>, name: String) -> Tried {
    let channel = Channel::named(ChannelKind::PointToPoint, name).order_per_key().dead_letter_after(ATTEMPTS);
    let broker = open(&server, channel.name()).await?;
    let began = now();
    let before = memory("VmRSS")?;
    let mut consumer = broker.consumer(&channel).prefetch(500).await?;
    let mut seen = vec![false; BEHIND];
    let (mut others, mut followers) = (0, 0);
    let mut failures: Vec<(Instant, usize)> = Vec::new();
    while others < BEHIND || followers < FOLLOWERS {
        let received = within(HANG, consumer.receive()).await;
        let delivery = received.ok_or_else(|| format!("nothing came after {others}"))??.ok_or("closed")?;
        let text = std::str::from_utf8(delivery.message().body())?;
        match text.strip_prefix("poison ") {
            Some("0") => {
                failures.push((now(), others));
                assert_eq!(usize::try_from(delivery.attempt())?, failures.len(), "its attempts");
                drop(delivery.retry(BACKOFF));
            }
            Some(number) => {
                assert_eq!(failures.len(), 5, "it overtook what failed");
                followers += 1;
                assert_eq!(number, followers.to_string(), "of its key");
                delivery.ack();
            }
            None => {
                let number: usize = text.parse()?;
                assert!(!std::mem::replace(&mut seen[number], true), "{number} came twice");
                others += 1;
                if failures.len() < 5 {
                    assert!(others <= AHEAD, "{others} came beside what is not settled");
                }
                delivery.ack();
            }
        }
    }
    let took = began.elapsed();
    let closed = broker.close().await?;
    assert_eq!(closed.given_back, 0, "all was handled");
    let most = memory("VmHWM")?;
    for between in failures.windows(2) {
        let [(one, beside), (other, more)] = between else { continue };
        assert!(*other >= *one + BACKOFF, "it was tried again before its time");
        assert!(more > beside || *more >= AHEAD / 2, "nothing else came while it waited");
    }
    let (most, before) = (most >> 20, before >> 20);
    let beside: Vec<_> = failures.iter().map(|(_, others)| *others).collect();
    eprintln!(
        "{BEHIND} messages behind a poisoned one in {:.0} s; others before each of its attempts: {beside:?}; memory {before} MiB before, {most} MiB at most",
        took.as_secs_f64()
    );
    assert!(most - before <= MEMORY >> 20, "too much memory");
    Ok(())
}

async fn open(server: &Server, name: &str) -> Result<Broker, Failed> {
    let config =
        format!("[brokers.main]\nurl = \"{}\"\n[channels.{name}]\nkafka.partitions = 1\n", server.url);
    Ok(Broker::open(Config::from_toml(&config)?).await?)
}

/// What the kernel says of this process, in bytes.
fn memory(what: &str) -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("the kernel does not say")?;
    Ok(kibibytes.trim().parse::<u64>()? << 10)
}
