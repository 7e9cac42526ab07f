//! All that is done with librdkafka. The rest of the adapter knows topics, partitions and offsets, and no client library: a second one would have its
//! place beside this.

mod observer;
mod producer;
mod queue;
mod reader;
mod search;
mod start;
mod topics;
mod trouble;

pub(crate) use observer::{Observer, Topic};
pub(crate) use producer::{Destination, MOST_OF_A_BATCH, Producer, Sent};
pub(crate) use reader::{From, Reader, Task, Terms};
pub(crate) use start::{Until, fix_group};
pub(crate) use topics::Topics;

use crate::config::{Config, GroupProtocol};
use crate::error::error;
use anybroker_contract::{Auth, Connection, Error, ErrorKind, Result, Tls};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::fmt;

/// What every client of one adapter is made with.
#[derive(Clone)]
pub(crate) struct Properties {
    common: ClientConfig,
    pub(crate) config: Config,
}

const PORT: u16 = 9092;

impl Properties {
    pub(crate) fn read(connection: &Connection) -> Result<Self> {
        let config = Config::read(connection)?;
        if connection.hosts.is_empty() {
            return Err(error(ErrorKind::Config, "the URL names no broker")
                .with_help("write `kafka://host:9092`, several separated by commas"));
        }
        if !connection.path.is_empty() {
            return Err(error(ErrorKind::Config, "the URL has a path, and Kafka has nothing to name by it")
                .with_help("remove what follows the hosts"));
        }
        let host = |host: &anybroker_contract::Host| {
            let port = host.port.unwrap_or(PORT);
            match host.name.contains(':') {
                true => format!("[{}]:{port}", host.name),
                false => format!("{}:{port}", host.name),
            }
        };
        let servers: Vec<String> = connection.hosts.iter().map(host).collect();
        let mut common = ClientConfig::new();
        // Its log is not read, and each line of it would stand before the errors that are. The default depends on what else the program logs.
        common.set_log_level(RDKafkaLogLevel::Emerg);
        common
            .set("bootstrap.servers", servers.join(","))
            .set("client.id", "anybroker")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            // Messages come whole, with what the topic allows.
            .set("message.max.bytes", "1000000000")
            .set("receive.message.max.bytes", "2147483647");
        secure(&mut common, connection.tls.as_ref(), connection.auth.as_ref(), &config)?;
        Ok(Self { common, config })
    }

    /// The brokers of the URL.
    fn servers(&self) -> &str {
        self.common.get("bootstrap.servers").unwrap_or_default()
    }

    /// Of a client that asks and changes nothing.
    fn asking(&self) -> ClientConfig {
        self.common.clone()
    }

    fn producing(&self) -> ClientConfig {
        let mut config = self.common.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A topic that is not there is an error, also where the cluster would make it.
            .set("allow.auto.create.topics", "false")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", self.config.linger.to_string())
            .set("message.timeout.ms", self.config.delivery_timeout.to_string())
            .set("compression.type", self.config.compression.as_str())
            .set("queue.buffering.max.kbytes", "262144");
        config
    }

    /// Of a client that reads partitions it is told to.
    fn reading(&self) -> ClientConfig {
        let mut config = self.common.clone();
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Taken in batches, the end of a partition counts as a record: librdkafka then goes on one record too far when it resumes a partition
            // that it has paused for a rebalance.
            .set("enable.partition.eof", "false")
            // An offset that the topic does not have any more is for the reader to see.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50")
            // Otherwise it pauses for a second each time that it has read ahead far enough.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384")
            .set("topic.metadata.refresh.interval.ms", "30000");
        config
    }

    /// Of a member of that group.
    fn member(&self, group: &str, instance: &str) -> ClientConfig {
        let mut config = self.reading();
        config.set("group.id", group);
        if self.config.static_membership {
            config.set("group.instance.id", instance);
        }
        match self.config.group_protocol {
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
            GroupProtocol::Classic => config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", self.config.session_timeout.to_string())
                .set(
                    "heartbeat.interval.ms",
                    (self.config.session_timeout / 10).clamp(100, 3000).to_string(),
                ),
        };
        config
    }
}

/// Without its values: the password is among them.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties").field("config", &self.config).finish_non_exhaustive()
    }
}

fn secure(into: &mut ClientConfig, tls: Option<&Tls>, auth: Option<&Auth>, config: &Config) -> Result<()> {
    into.set(
        "security.protocol",
        match (tls.is_some(), auth.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        },
    );
    if let Some(tls) = tls {
        if tls.server_name.is_some() {
            return Err(wrong(
                "`tls.server_name` is set, and each broker of a cluster has a name of its own",
            )
            .with_help(
                "remove it: every broker's certificate has to name the address that the broker gives",
            ));
        }
        // The system's authorities are looked for where the distributions have them.
        into.set("ssl.ca.location", tls.ca.as_deref().unwrap_or("probe"));
        for (property, file) in [("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)] {
            if let Some(file) = file {
                into.set(property, file);
            }
        }
    }
    let Some(auth) = auth else { return Ok(()) };
    let kind = auth.kind.as_deref().or(config.mechanism.as_deref()).unwrap_or("scram-sha-512");
    let mechanism = match kind {
        "plain" => "PLAIN",
        "scram-sha-256" => "SCRAM-SHA-256",
        "scram-sha-512" => "SCRAM-SHA-512",
        _ => {
            return Err(wrong(format!("there is no mechanism `{kind}`"))
                .with_help("`auth.kind` is one of `plain`, `scram-sha-256`, `scram-sha-512`"));
        }
    };
    if auth.token.is_some() {
        return Err(wrong(format!("`auth.token` is set, and {mechanism} takes none"))
            .with_help("set `username` and `password`"));
    }
    let (Some(username), Some(password)) = (&auth.username, &auth.password) else {
        return Err(wrong(format!("{mechanism} takes a name and a password, and one is missing"))
            .with_help("set `auth.username` and `auth.password`"));
    };
    into.set("sasl.mechanism", mechanism)
        .set("sasl.username", username)
        .set("sasl.password", password.expose());
    Ok(())
}

fn wrong(what: impl Into<String>) -> Error {
    error(ErrorKind::Config, what)
}
