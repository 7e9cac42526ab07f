//! Nothing accepted is lost and no key gets out of order, whatever is done to the server: see [`crate::disturbed`]. And no position is committed beyond
//! what was settled.

use crate::disturbed::{self, Mix, PARTIES, Run, Victim};
use crate::proxy::Proxy;
use crate::server::{Record, Server};
use crate::trials::fresh;
use crate::wait::{now, sleep};
use crate::{Part, Tried, part};
use anybroker::adapter::async_trait;
use anybroker::channel::ChannelKind;
use anybroker::kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use anybroker::kafka::rdkafka::error::KafkaResult;
use anybroker::kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use anybroker::{Broker, Channel};
use libtest_mimic::Failed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Of a cluster, a node is away or stands still nearly all the time, and the others go on without it.
pub(crate) const PARTS: &[Part] =
    &[part("faults/nothing-lost", |server| Box::pin(nothing_lost(server, "classic"))).disturbing()];

/// Kafka 3 has no such groups.
pub(crate) const PARTS_IN_GROUPS_OF_THE_BROKER: &[Part] =
    &[part("faults/nothing-lost-in-groups-of-the-broker", |server| {
        Box::pin(nothing_lost(server, "consumer"))
    })
    .disturbing()];

/// Milliseconds until a member without a sign of life is taken for dead: what the servers have for groups of their own.
const SESSION: u64 = 3000;

async fn nothing_lost(server: Arc<Server>, protocol: &str) -> Tried {
    let mut proxies = Vec::new();
    for number in 0..8 {
        proxies.push(server.proxy(number).await?);
    }
    let proxies: [Proxy; PARTIES] = proxies.try_into().map_err(|_| "as many as asked for")?;
    let channel = Channel::named(ChannelKind::PointToPoint, fresh("faults")).order_per_key().durable();
    let direct = Broker::connect(&server.url).await?;
    direct.producer(&channel).await?;
    let run = Run::new(channel.clone());
    let url = |proxy: &Proxy| {
        // From a proxy, a client of a cluster would be sent past it.
        let address = match server.is_cluster() {
            true => server.address().to_owned(),
            false => proxy.address().to_string(),
        };
        format!("kafka://{address}?group-protocol={protocol}&session-timeout={SESSION}")
    };
    let watching = Watching::start(&server, &channel);
    let name = format!("{}, {protocol}", server.name);
    let disturbed = disturbed::nothing_lost(&name, &*server, &run, &proxies, url).await;
    let (seen, looks) = watching.end().await?;
    disturbed?;
    settled_before_committed(&seen, &server.records(channel.name()).await?, &run)?;
    eprintln!("{name}: {} positions seen in {looks} looks, none beyond what was settled", seen.len());
    direct.delete(&channel).await?;
    direct.delete(channel.dead_letters()).await?;
    direct.close().await?;
    Ok(())
}

#[async_trait]
impl Victim for Server {
    fn mix(&self) -> Mix {
        let ailing = 200..SESSION + 1500;
        if self.is_cluster() {
            let (cuts, stalls, swallows, long_stalls) = (0, 0, 0, (0, 0..1));
            return Mix { kills: 13, cuts, stalls, long_stalls, swallows, ailments: (12, ailing) };
        }
        Mix {
            kills: 4,
            cuts: 7,
            stalls: 5,
            long_stalls: (2, SESSION + 500..2 * SESSION),
            swallows: 5,
            ailments: (2, ailing),
        }
    }

    fn settling(&self) -> Duration {
        Duration::ZERO
    }

    async fn kill_and_restart(&self, after: Duration) -> Result<Instant, Failed> {
        Self::kill_and_restart(self, after).await
    }

    /// Its process stands still.
    async fn ail(&self, lasting: Duration) -> Tried {
        self.freeze(lasting).await
    }

    async fn left(&self, run: &Run) -> Result<Vec<String>, Failed> {
        let (topic, patient) = (run.channel.name(), now() + Duration::from_secs(15));
        let mut left = Vec::new();
        loop {
            let positions = self.positions(topic, topic).await?;
            // A partition of which nothing was ever read has no position, and an empty one needs none.
            match positions.iter().all(|(end, committed)| committed.unwrap_or(0) == *end) {
                true => break,
                false if now() < patient => sleep(Duration::from_millis(250)).await,
                false => {
                    left.push(format!("ends of partitions and what is committed: {positions:?}"));
                    break;
                }
            }
        }
        let dead = self.records(&format!("{topic}..dead-letters")).await?;
        if !dead.is_empty() {
            left.push(format!("{} dead letters", dead.len()));
        }
        Ok(left)
    }
}

/// What was committed of each partition when it was looked at.
type Seen = Vec<(Instant, i32, i64)>;

/// Looks at what is committed all the time, past the proxies.
struct Watching {
    over: Arc<AtomicBool>,
    seen: tokio::task::JoinHandle<KafkaResult<(Seen, usize)>>,
}

impl Watching {
    fn start(server: &Server, channel: &Channel) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (mut config, topic) = (server.client(), channel.name().to_owned());
        config.set("group.id", &topic);
        let until = Arc::clone(&over);
        let seen = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = config.create()?;
            let (mut seen, mut looks) = (Seen::new(), 0);
            let mut last = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                looks += 1;
                let mut asked = TopicPartitionList::new();
                asked.add_partition_range(&topic, 0, 5);
                // It fails while the server is away. An answer takes a while, so that this asks some times a second.
                let Ok(committed) = consumer.committed_offsets(asked, Duration::from_secs(1)) else {
                    continue;
                };
                for element in committed.elements() {
                    if let Offset::Offset(offset) = element.offset()
                        && last.insert(element.partition(), offset) != Some(offset)
                    {
                        seen.push((now(), element.partition(), offset));
                    }
                }
                let _ = consumer.poll(Duration::from_millis(100));
            }
            Ok((seen, looks))
        });
        Self { over, seen }
    }

    /// What was seen, and how often it was looked.
    async fn end(self) -> Result<(Seen, usize), Failed> {
        self.over.store(true, Ordering::Relaxed);
        Ok(self.seen.await??)
    }
}

/// All before a position was acknowledged before that position was seen.
fn settled_before_committed(seen: &Seen, records: &[Record], run: &Run) -> Tried {
    let acknowledged = run.acknowledged();
    // When each record was acknowledged, and all before it.
    let mut settled: BTreeMap<i32, Vec<Option<Instant>>> = BTreeMap::new();
    for record in records {
        let partition = settled.entry(record.partition).or_default();
        if usize::try_from(record.offset)? != partition.len() {
            return Err(format!("there is a gap before offset {}", record.offset).into());
        }
        let before = partition.last().copied().unwrap_or_else(|| seen.first().map(|(at, ..)| *at));
        let own = record.header("ce_id").and_then(|id| acknowledged.get(&id).copied());
        partition.push(before.zip(own).map(|(before, own)| before.max(own)));
    }
    for (at, partition, position) in seen {
        let Some(last) = usize::try_from(*position)?.checked_sub(1) else { continue };
        let settled = settled.get(partition).and_then(|all| all.get(last)).copied().flatten();
        if settled.is_none_or(|settled| settled > *at) {
            return Err(format!(
                "{position} was committed of partition {partition} before all below it was acknowledged"
            )
            .into());
        }
    }
    match seen.is_empty() {
        true => Err("no position was ever seen".into()),
        false => Ok(()),
    }
}
