//! The RabbitMQ adapter on a real server, behind a proxy that fails on command.

use crate::brokers::{SETTLING, brokers};
use crate::proxy::Proxy;
use anybroker::adapter::{
    Adapter, Auth, Binding, BoxFuture, Bytes, ChannelKind, Clock, Connection, Error, ErrorKind, Host, Result,
    Secret, SystemClock, async_trait,
};
use anybroker::conformance::{Fixture, Hook, Timing};
use anybroker::rabbitmq;
use anybroker::rabbitmq::lapin::options::BasicPublishOptions;
use anybroker::rabbitmq::lapin::types::{AMQPValue, FieldTable};
use anybroker::rabbitmq::lapin::{BasicProperties, ConnectionProperties};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// One server that `scripts/brokers` has started.
pub(crate) struct Rabbit {
    /// Its name there, and in reports.
    name: &'static str,
    /// Where it listens itself.
    server: String,
    user: String,
    password: String,
    proxy: Proxy,
    /// The proxy's own: every check has another.
    runtime: Runtime,
}

impl Rabbit {
    /// The server whose URL is in that variable of the environment.
    pub(crate) fn new(name: &'static str, variable: &str) -> Result<Self> {
        let url = std::env::var(variable).map_err(|_| {
            failed(format!("{variable} is not set")).with_help(
                "run `scripts/test`, or `scripts/brokers up rabbitmq rabbitmq4` and `eval \"$(scripts/brokers env)\"` before",
            )
        })?;
        let parts = url.strip_prefix("amqp://").and_then(|rest| {
            let (user, rest) = rest.split_once('@')?;
            Some((user.split_once(':')?, rest.split_once('/')?.0))
        });
        let ((user, password), server) =
            parts.ok_or_else(|| failed(format!("{variable} has another form than expected")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let proxy = runtime.block_on(Proxy::to(server)).map_err(|e| failed(e.to_string()))?;
        let [server, user, password] = [server, user, password].map(String::from);
        Ok(Self { name, server, user, password, proxy, runtime })
    }

    fn open(&self, proxy: &Proxy) -> Result<Arc<dyn Adapter>> {
        let mut connection = Connection::new("rabbitmq", Arc::new(SystemClock::new()));
        connection.hosts = vec![Host::new("127.0.0.1", Some(proxy.address().port()))];
        connection.auth = Some(Auth::password(&self.user, Secret::new(&self.password)));
        rabbitmq::open(&connection)
    }

    /// Publishes as any client does.
    async fn publish(&self, to: &Binding, properties: BasicProperties, payload: &[u8]) -> Result<()> {
        let url = format!("amqp://{}:{}@{}/%2f", self.user, self.password, self.server);
        let client = async {
            let connection =
                rabbitmq::lapin::Connection::connect(&url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let exchange = to.native_name().into();
            let key = match to.channel.kind() {
                ChannelKind::PointToPoint => to.native_name(),
                _ => "",
            };
            let options = BasicPublishOptions::default();
            channel.basic_publish(exchange, key.into(), options, payload, properties).await?;
            connection.close(200, "done".into()).await
        };
        client.await.map_err(|e| failed(e.to_string()))
    }
}

#[async_trait]
impl Fixture for Rabbit {
    fn name(&self) -> &str {
        self.name
    }

    async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        self.open(&self.proxy)
    }

    fn timing(&self) -> Timing {
        Timing::new(Duration::from_secs(30), Duration::from_millis(200))
    }

    fn url(&self) -> Option<String> {
        let password = super::memory::PASSWORD.replace('/', "%2F");
        Some(format!("rabbitmq://suite:{password}@{}", self.server))
    }

    fn hooks(&self) -> &[Hook] {
        &[Hook::Restart, Hook::Cut, Hook::Stall, Hook::Kill, Hook::Foreign, Hook::Undecodable]
    }

    async fn restart(&self) -> Result<()> {
        let clock = SystemClock::new();
        clock.sleep_until(clock.now() + SETTLING).await;
        for command in ["kill", "restart"] {
            brokers(&[command, self.name]).await.map_err(failed)?;
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

    async fn mortal(&self) -> Result<(Arc<dyn Adapter>, BoxFuture<'static, ()>)> {
        let making = Proxy::to(self.server.clone());
        let proxy = self.runtime.spawn(making).await.map_err(|e| failed(e.to_string()))?;
        let proxy = proxy.map_err(|e| failed(e.to_string()))?;
        let adapter = self.open(&proxy)?;
        Ok((adapter, Box::pin(async move { drop(proxy) })))
    }

    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        self.publish(to, BasicProperties::default(), &payload).await
    }

    async fn send_undecodable(&self, to: &Binding) -> Result<Bytes> {
        let mut headers = FieldTable::default();
        headers.insert("cloudEvents:time".into(), AMQPValue::LongString("yesterday".into()));
        let raw = Bytes::from_static(b"\xff no time of ours \xfe");
        self.publish(to, BasicProperties::default().with_headers(headers), &raw).await?;
        Ok(raw)
    }
}

fn failed(what: String) -> Error {
    Error::new(ErrorKind::Other, what)
}
