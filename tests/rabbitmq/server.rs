//! One server, and whatever a test does to it.

use crate::brokers::brokers;
use crate::trials::{Running, Tried, variable};
use crate::wait::now;
use anybroker::adapter::{Adapter, Auth, Connection, Host, Result, Secret, SystemClock};
use anybroker::rabbitmq::{self, lapin};
use libtest_mimic::Failed;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// A server that `scripts/brokers` has started.
pub(crate) struct Server {
    /// Its name there.
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// Of a user without any right.
    pub(crate) limited_url: String,
    pub(crate) tls_url: String,
    /// Its TLS by an address that its certificate does not name.
    pub(crate) misnamed_url: String,
    /// The authority that has signed its certificate.
    pub(crate) authority: PathBuf,
    pub(crate) user: String,
    pub(crate) password: String,
    /// `host:port`.
    pub(crate) address: String,
    /// Those that use it share the lock, who stops it has it alone.
    pub(crate) users: RwLock<()>,
}

impl Server {
    pub(crate) fn from_environment(name: &'static str, prefix: &str) -> Result<Arc<Self>, String> {
        let variable = |name: &str| variable(name, "rabbitmq rabbitmq4");
        let url = variable(&format!("{prefix}_URL"))?;
        let parts = url.strip_prefix("amqp://").and_then(|rest| {
            let (user, rest) = rest.split_once('@')?;
            Some((user.split_once(':')?, rest.split_once('/')?.0))
        });
        let ((user, password), address) =
            parts.ok_or_else(|| format!("{prefix}_URL has another form than expected"))?;
        let [user, password, address] = [user, password, address].map(String::from);
        Ok(Arc::new(Self {
            name,
            limited_url: variable(&format!("{prefix}_LIMITED_URL"))?,
            tls_url: variable(&format!("{prefix}_TLS_URL"))?,
            misnamed_url: variable(&format!("{prefix}_MISNAMED_URL"))?,
            authority: PathBuf::from(variable("ANYBROKER_CERTIFICATES")?).join("ca.pem"),
            url,
            user,
            password,
            address,
            users: RwLock::default(),
        }))
    }

    /// The same server by another address.
    pub(crate) fn url_at(&self, address: impl std::fmt::Display) -> String {
        self.url.replace(&self.address, &address.to_string())
    }

    /// The bare adapter.
    pub(crate) fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        let mut connection = Connection::new("rabbitmq", Arc::new(SystemClock::new()));
        let port = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        connection.hosts = vec![Host::new("127.0.0.1", port)];
        connection.auth = Some(Auth::password(&self.user, Secret::new(&self.password)));
        rabbitmq::open(&connection)
    }

    /// A broker with connections of its own.
    pub(crate) async fn open(&self) -> Result<anybroker::Broker> {
        anybroker::Broker::connect(&self.url).await
    }

    /// A client as anybody has it.
    pub(crate) async fn lapin(&self) -> lapin::Result<lapin::Channel> {
        let connection =
            lapin::Connection::connect(&self.url, lapin::ConnectionProperties::default()).await?;
        connection.create_channel().await
    }

    /// SIGKILL, and after that time a start. Gives when it was there again.
    pub(crate) async fn kill_and_restart(&self, after: Duration) -> std::result::Result<Instant, Failed> {
        brokers(&["kill", self.name]).await?;
        crate::wait::sleep(after).await;
        brokers(&["restart", self.name]).await?;
        Ok(now())
    }

    /// Lets it run short of memory, as it believes, for that long; it recovers also if this process does not.
    pub(crate) async fn memory_alarm(&self, lasting: Duration) -> Tried {
        let alarm = format!(
            "Old = vm_memory_monitor:get_vm_memory_high_watermark(), vm_memory_monitor:set_vm_memory_high_watermark(0.00001), \
             timer:sleep({}), vm_memory_monitor:set_vm_memory_high_watermark(Old).",
            lasting.as_millis(),
        );
        Ok(brokers(&["run", self.name, "rabbitmqctl", "eval", &alarm]).await?)
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
