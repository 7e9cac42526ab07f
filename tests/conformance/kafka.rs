//! The Kafka adapter on a real server, behind proxies that fail on command.

use crate::brokers::brokers;
use crate::proxy::Proxy;
use crate::topics::{self, Admin};
use anybroker::adapter::{
    Adapter, Binding, BoxFuture, Bytes, Channel, ChannelKind, Connection, Error, ErrorKind, Host, Result,
    Settings, SystemClock, Value, async_trait,
};
use anybroker::conformance::{Fixture, Hook, Timing};
use anybroker::kafka;
use anybroker::kafka::rdkafka::ClientConfig;
use anybroker::kafka::rdkafka::message::{Header, OwnedHeaders};
use anybroker::kafka::rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// One server that `scripts/brokers` has started, and one way to use it.
pub(crate) struct Kafka {
    /// The name in reports.
    name: &'static str,
    /// The name of the server.
    server: &'static str,
    /// Where it listens itself, for clients that nothing disturbs.
    direct: String,
    /// Where it asks for a login.
    login: String,
    protocol: &'static str,
    faults: Faults,
    admin: Admin,
    /// Of the next client that is to be killed.
    mortal: AtomicU16,
    proxy: Proxy,
    /// The proxy's own: every check has another.
    runtime: Runtime,
}

/// The listeners for clients behind a proxy, which tell them to come to the proxy's port.
struct Faults {
    listens: u16,
    /// Where it sends clients.
    sends_to: u16,
}

/// Each fixture has that many of the eight, and the first of them is for all that is not killed.
const SHARE: u16 = 4;

/// How the names of the suite's channels begin.
const NAMES: &str = "cf-";

impl Kafka {
    /// The server whose variables in the environment begin so, with its first or its second four listeners.
    pub(crate) fn new(
        name: &'static str,
        (server, prefix): (&'static str, &str),
        protocol: &'static str,
        share: u16,
    ) -> Result<Self> {
        let direct = host(&variable(prefix, "URL")?)?;
        let login = host(&variable(prefix, "SASL_URL")?)?;
        let faults = Faults {
            listens: port(&variable(prefix, "FAULT_PORT")?)? + share * SHARE,
            sends_to: port(&variable(prefix, "PROXY_PORT")?)? + share * SHARE,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let proxy = runtime.block_on(faults.proxy(0)).map_err(|e| failed(e.to_string()))?;
        let admin = ClientConfig::new().set("bootstrap.servers", &direct).create();
        let admin = Arc::new(admin.map_err(|e| failed(e.to_string()))?);
        // What earlier runs have left. The server may not be there, and then the first check says so.
        let _ = runtime.block_on(topics::delete(Arc::clone(&admin), |name| name.starts_with(NAMES)));
        let mortal = AtomicU16::new(1);
        Ok(Self { name, server, direct, login, protocol, faults, admin, mortal, proxy, runtime })
    }

    fn open(&self, proxy: &Proxy) -> Result<Arc<dyn Adapter>> {
        let mut connection = Connection::new("kafka", Arc::new(SystemClock::new()));
        connection.hosts = vec![Host::new("127.0.0.1", Some(proxy.address().port()))];
        // A killed client is waited for.
        let query = [("group-protocol", self.protocol), ("session-timeout", "6000")];
        connection.query = query.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        // What is settled and not committed comes again after a failure, and copies are counted.
        connection.settings.insert("commit-interval", Value::Integer(10));
        kafka::open(&connection)
    }

    /// Sends as any client does.
    async fn publish(&self, to: &Binding, headers: OwnedHeaders, payload: Bytes) -> Result<()> {
        let (server, topic) = (self.direct.clone(), to.native_name().to_owned());
        let sending = tokio::task::spawn_blocking(move || {
            let producer: BaseProducer =
                ClientConfig::new().set("bootstrap.servers", server).set("acks", "all").create()?;
            let record = BaseRecord::<(), [u8]>::to(&topic).payload(&payload).headers(headers);
            producer.send(record).map_err(|(error, _)| error)?;
            producer.flush(Duration::from_secs(10))
        });
        sending.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
    }
}

impl Faults {
    fn proxy(&self, number: u16) -> impl Future<Output = std::io::Result<Proxy>> + Send + use<> {
        Proxy::at(self.sends_to + number, format!("127.0.0.1:{}", self.listens + number))
    }
}

#[async_trait]
impl Fixture for Kafka {
    fn name(&self) -> &str {
        self.name
    }

    async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        self.open(&self.proxy)
    }

    fn timing(&self) -> Timing {
        Timing::new(Duration::from_secs(60), Duration::from_millis(300))
    }

    fn url(&self) -> Option<String> {
        let password = super::memory::PASSWORD.replace('/', "%2F");
        Some(format!("kafka://suite:{password}@{}", self.login))
    }

    fn conflicting(&self, name: &str) -> Option<[Binding; 2]> {
        Some([2, 3].map(|partitions| {
            let settings = Settings::from_iter([(String::from("partitions"), Value::Integer(partitions))]);
            Binding::new(Channel::named(ChannelKind::PointToPoint, name)).with_settings(settings)
        }))
    }

    /// A server that was killed looks through every partition before it answers.
    async fn tidy(&self, names: &str) {
        // What is left is deleted when the next run begins.
        let _ = topics::delete(Arc::clone(&self.admin), |name| name.starts_with(names)).await;
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Restart, Hook::Cut, Hook::Stall, Hook::Kill, Hook::Foreign, Hook::Undecodable]
    }

    async fn restart(&self) -> Result<()> {
        for command in ["kill", "restart"] {
            brokers(&[command, self.server]).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn cut(&self) -> Result<()> {
        self.proxy.cut();
        Ok(())
    }

    async fn stall(&self) -> Result<()> {
        self.proxy.stall();
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        self.proxy.resume();
        Ok(())
    }

    /// Each has a listener that no other had: a killed client tries to come back to its own for as long as the test lets it.
    async fn mortal(&self) -> Result<(Arc<dyn Adapter>, BoxFuture<'static, ()>)> {
        let number = self.mortal.fetch_add(1, Ordering::Relaxed);
        if number >= SHARE {
            return Err(failed(format!("all {} listeners for clients that are killed were used", SHARE - 1)));
        }
        let making = self.faults.proxy(number);
        let proxy = self.runtime.spawn(making).await.map_err(|e| failed(e.to_string()))?;
        let proxy = proxy.map_err(|e| failed(e.to_string()))?;
        let adapter = self.open(&proxy)?;
        Ok((adapter, Box::pin(async move { drop(proxy) })))
    }

    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        self.publish(to, OwnedHeaders::new(), payload).await
    }

    async fn send_undecodable(&self, to: &Binding) -> Result<Bytes> {
        let headers = OwnedHeaders::new().insert(Header { key: "ce_time", value: Some("yesterday") });
        let raw = Bytes::from_static(b"\xff no time of ours \xfe");
        self.publish(to, headers, raw.clone()).await?;
        Ok(raw)
    }
}

fn variable(prefix: &str, name: &str) -> Result<String> {
    std::env::var(format!("{prefix}_{name}")).map_err(|_| {
        failed(format!("{prefix}_{name} is not set")).with_help(
            "run `scripts/test`, or `scripts/brokers up kafka kafka3` and `eval \"$(scripts/brokers env)\"` before",
        )
    })
}

fn host(url: &str) -> Result<String> {
    let host = url.rsplit(['/', '@']).next().filter(|host| host.contains(':'));
    host.map(String::from).ok_or_else(|| failed(String::from("a URL has another form than expected")))
}

fn port(text: &str) -> Result<u16> {
    text.parse().map_err(|_| failed(format!("{text:?} is no port")))
}

fn failed(what: String) -> Error {
    Error::new(ErrorKind::Other, what)
}
