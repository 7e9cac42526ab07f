//! One server, and whatever a test does to it or asks of it.

use crate::Tried;
use crate::brokers::brokers;
use crate::proxy::Proxy;
use crate::topics::{self, Admin};
use crate::trials::{Running, variable};
use crate::wait::{now, sleep};
use anybroker::Result;
use anybroker::kafka::rdkafka::config::ClientConfig;
use anybroker::kafka::rdkafka::consumer::{BaseConsumer, Consumer as _};
use anybroker::kafka::rdkafka::error::{KafkaError, KafkaResult};
use anybroker::kafka::rdkafka::message::{Headers as _, Message as _};
use anybroker::kafka::rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use libtest_mimic::Failed;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// A server that `scripts/brokers` has started, or a cluster of several.
pub(crate) struct Server {
    /// Its name there.
    pub(crate) name: &'static str,
    /// The names of its nodes there.
    nodes: Vec<&'static str>,
    /// Which of them is disturbed next.
    turn: AtomicUsize,
    /// Without a login.
    pub(crate) url: String,
    /// By SCRAM and nothing else.
    pub(crate) sasl_url: String,
    /// The same of a user without any right.
    pub(crate) limited_url: String,
    /// By PLAIN and nothing else.
    pub(crate) plain_url: String,
    pub(crate) tls_url: String,
    /// By a certificate and nothing else.
    pub(crate) mutual_tls_url: String,
    /// Its TLS by an address that its certificate does not name.
    pub(crate) misnamed_url: String,
    /// Certificates and keys, and the authority that has signed them.
    pub(crate) certificates: PathBuf,
    /// The first of the ports for clients behind a proxy, and of those where they are sent.
    fault_port: u16,
    proxy_port: u16,
    users: RwLock<()>,
}

/// A record as any client reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The last value of that header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rfind(|(known, _)| known == name)?;
        String::from_utf8(value.clone()?).ok()
    }
}

/// How long a question may take while nothing is wrong with the server.
const PATIENCE: Duration = Duration::from_secs(10);

impl Server {
    pub(crate) fn from_environment(
        name: &'static str,
        prefix: &str,
    ) -> std::result::Result<Arc<Self>, String> {
        let any = |name: &str| variable(name, "kafka kafka3");
        let its = |name: &str| any(&format!("{prefix}_{name}"));
        let port = |name: &str| {
            let text = its(name)?;
            text.parse().map_err(|_| format!("{prefix}_{name}={text} is no port"))
        };
        Ok(Arc::new(Self {
            name,
            nodes: vec![name],
            turn: AtomicUsize::new(0),
            url: its("URL")?,
            sasl_url: its("SASL_URL")?,
            limited_url: its("LIMITED_URL")?,
            plain_url: its("PLAIN_URL")?,
            tls_url: its("TLS_URL")?,
            mutual_tls_url: its("MUTUAL_TLS_URL")?,
            misnamed_url: its("MISNAMED_URL")?,
            certificates: PathBuf::from(any("ANYBROKER_CERTIFICATES")?),
            fault_port: port("FAULT_PORT")?,
            proxy_port: port("PROXY_PORT")?,
            users: RwLock::default(),
        }))
    }

    /// The cluster of three, where it is up. What is not asked of it goes to its first node.
    pub(crate) fn cluster_from_environment() -> std::result::Result<Option<Arc<Self>>, String> {
        if std::env::var_os("ANYBROKER_KAFKA_A_URL").is_none() {
            return Ok(None);
        }
        let nodes = [("kafka-a", "_A"), ("kafka-b", "_B"), ("kafka-c", "_C")];
        let each =
            nodes.map(|(name, letter)| Self::from_environment(name, &format!("ANYBROKER_KAFKA{letter}")));
        let each = each.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
        let addresses: Vec<_> = each.iter().map(|node| node.address()).collect();
        let url = format!("kafka://{}", addresses.join(","));
        let mut cluster = Self::from_environment("kafka-a", "ANYBROKER_KAFKA_A")?;
        let it = Arc::get_mut(&mut cluster).expect("it was just made");
        (it.name, it.nodes, it.url) = ("cluster", nodes.map(|(name, _)| name).into(), url);
        Ok(Some(cluster))
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    /// One node after another.
    fn next_node(&self) -> &'static str {
        self.nodes[self.turn.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }

    /// Deletes what the trials of earlier runs have left when they failed. The server may not be there, and then the first trial says so.
    pub(crate) fn clear(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let admin = self.client().create().map(Admin::new);
        if let (Ok(runtime), Ok(admin)) = (runtime, admin) {
            let ours = ["faults-", "foreign-", "poison-", "refusals-"];
            let clearing = topics::delete(admin, |name| ours.iter().any(|prefix| name.starts_with(prefix)));
            let _ = runtime.block_on(clearing);
        }
    }

    /// `host:port`, without a login.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("kafka://")
    }

    /// A broker with clients of its own.
    pub(crate) async fn open(&self) -> Result<anybroker::Broker> {
        anybroker::Broker::connect(&self.url).await
    }

    /// What any client is made with.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
        config
    }

    /// One of the eight listeners behind a proxy of this test's, which has to be the only one that uses it.
    pub(crate) async fn proxy(&self, number: u16) -> std::io::Result<Proxy> {
        Proxy::at(self.proxy_port + number, format!("127.0.0.1:{}", self.fault_port + number)).await
    }

    /// All that the topic has, in the order of each partition; nothing where there is no such topic.
    pub(crate) async fn records(&self, topic: &str) -> std::result::Result<Vec<Record>, Failed> {
        let (config, topic) = (self.client(), topic.to_owned());
        Ok(tokio::task::spawn_blocking(move || read(&config, &topic)).await??)
    }

    /// The end of each partition, and what the group has committed there.
    pub(crate) async fn positions(
        &self,
        topic: &str,
        group: &str,
    ) -> std::result::Result<Vec<(i64, Option<i64>)>, Failed> {
        let (mut config, topic) = (self.client(), topic.to_owned());
        config.set("group.id", group);
        Ok(tokio::task::spawn_blocking(move || positions(&config, &topic)).await??)
    }

    /// What a tool of Kafka's writes when it is given that input.
    pub(crate) async fn tool(
        &self,
        arguments: &[&str],
        input: String,
    ) -> std::result::Result<String, Failed> {
        let mut command = Command::new("scripts/brokers");
        command.args(["run", self.name]).args(arguments);
        let running = tokio::task::spawn_blocking(move || {
            let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut tool = piped.spawn()?;
            // It reads all before it writes. One that ends early says why.
            let _ = tool.stdin.take().expect("it was asked for").write_all(input.as_bytes());
            tool.wait_with_output()
        });
        let output = running.await??;
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout)?),
            false => Err(format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    /// SIGKILL, and after that time a start. Gives when it was there again.
    pub(crate) async fn kill_and_restart(&self, after: Duration) -> std::result::Result<Instant, Failed> {
        let node = self.next_node();
        brokers(&["kill", node]).await?;
        sleep(after).await;
        brokers(&["restart", node]).await?;
        Ok(now())
    }

    /// Its process stands still for that long.
    pub(crate) async fn freeze(&self, lasting: Duration) -> Tried {
        Ok(brokers(&["freeze", self.next_node(), &format!("{:.3}", lasting.as_secs_f64())]).await?)
    }
}

impl Running for Server {
    fn name(&self) -> &str {
        self.name
    }

    fn users(&self) -> &RwLock<()> {
        &self.users
    }
}

fn read(config: &ClientConfig, topic: &str) -> KafkaResult<Vec<Record>> {
    let consumer: BaseConsumer = config.clone().set("group.id", "nobody").create()?;
    let mut open = TopicPartitionList::new();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        open.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    let mut left = open.count();
    consumer.assign(&open)?;
    let mut records = Vec::new();
    while left > 0 {
        match consumer.poll(PATIENCE) {
            Some(Ok(record)) => records.push(Record {
                partition: record.partition(),
                offset: record.offset(),
                key: record.key().map(<[u8]>::to_vec),
                value: record.payload().map(<[u8]>::to_vec),
                headers: record.headers().map(named).unwrap_or_default(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::Canceled),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

fn named(headers: &anybroker::kafka::rdkafka::message::BorrowedHeaders) -> Vec<(String, Option<Vec<u8>>)> {
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

fn positions(config: &ClientConfig, topic: &str) -> KafkaResult<Vec<(i64, Option<i64>)>> {
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let count: usize = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
    let count = i32::try_from(count).unwrap_or(0);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, count - 1);
    let committed = consumer.committed_offsets(asked, PATIENCE)?;
    let each = (0..count).map(|number| {
        let (_, end) = consumer.fetch_watermarks(topic, number, PATIENCE)?;
        let committed = committed.find_partition(topic, number).map(|element| element.offset());
        let committed = committed.and_then(|offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        Ok((end, committed))
    });
    each.collect()
}
