use super::reader::{Node, check_adapters, fault, join};
use super::url::{Redacted, Url};
use super::{AdapterTables, SecretSource};
use crate::adapters;
use anybroker_contract::{Auth as Credentials, Clock, Connection, Result, Settings, Tls, Value};
use std::fmt;
use std::sync::Arc;

/// The keys of a broker's table, beside those named after adapters.
const KEYS: &[&str] = &["url", "tls", "auth"];

/// A named broker: how to reach it.
#[derive(Clone, PartialEq)]
pub struct Broker {
    url: SecretSource,
    tls: Option<Switch>,
    auth: Option<Auth>,
    settings: AdapterTables,
}

/// TLS, where configuration speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Switch {
    Off,
    On(Tls),
}

impl Broker {
    /// The broker at that URL, which may be a secret as a whole.
    #[must_use]
    pub fn new(url: impl Into<SecretSource>) -> Self {
        Self { url: url.into(), tls: None, auth: None, settings: AdapterTables::new() }
    }

    /// Turns TLS on; `Tls::default()` trusts the system's authorities.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(Switch::On(tls));
        self
    }

    /// Sets the credentials. They go here or into the URL, not into both.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Sets what only that adapter reads. Applied while the broker is bound to that adapter.
    #[must_use]
    pub fn settings(mut self, adapter: impl Into<String>, settings: Settings) -> Self {
        self.settings.insert(adapter.into(), settings);
        self
    }

    pub(super) fn read(node: Node) -> Result<Self> {
        let path = node.path.clone();
        let table = node.table()?;
        let settings = table.adapter_tables(KEYS)?;
        let Some(url) = table.field("url") else {
            return Err(fault(&path, "the key `url` is missing")
                .with_help("say where the broker is, such as `url = \"memory://main\"`"));
        };
        Ok(Self {
            url: SecretSource::read(url)?,
            tls: table.field("tls").map(Switch::read).transpose()?,
            auth: table.field("auth").map(Auth::read).transpose()?,
            settings,
        })
    }

    /// The connection that this broker, whose table is at `path`, asks for.
    pub(super) fn connection(
        &self,
        path: &str,
        clock: Arc<dyn Clock>,
        adapters: &[&str],
    ) -> Result<Connection> {
        check_adapters(path, &self.settings, KEYS, adapters)?;
        let at_url = join(path, "url");
        let url = self.url.look_up(&at_url)?;
        let url = Url::parse(url.expose()).map_err(|error| error.at(&at_url))?;
        let (adapter, secure) = adapters::find(&url.scheme).map_err(|error| error.at(&at_url))?;

        let mut connection = Connection::new(adapter.name, clock);
        connection.hosts = url.hosts;
        connection.path = url.path;
        connection.query = url.query;
        connection.tls = match &self.tls {
            Some(Switch::Off) if secure => {
                return Err(fault(
                    &join(path, "tls"),
                    format_args!("`false` contradicts the URL's scheme `{}`, which asks for TLS", url.scheme),
                )
                .with_help("change one of them"));
            }
            Some(Switch::On(tls)) => Some(tls.clone()),
            Some(Switch::Off) | None => secure.then(Tls::default),
        };
        let at_auth = join(path, "auth");
        connection.auth = match (&self.auth, url.auth) {
            (Some(_), Some(_)) => {
                return Err(fault(&at_auth, "the URL carries credentials too")
                    .with_help("keep them in one place, best in `auth`"));
            }
            (Some(auth), None) => Some(auth.look_up(&at_auth)?),
            (None, in_url) => in_url,
        };
        connection.settings = self.settings.get(adapter.name).cloned().unwrap_or_default();
        Ok(connection)
    }
}

/// Whether a URL can be read and names an adapter.
pub(super) fn check_url(url: &str) -> Result<()> {
    adapters::find(&Url::parse(url)?.scheme).map(|_| ())
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Broker");
        match &self.url {
            SecretSource::Literal(url) => shown.field("url", &Redacted(url.expose())),
            source => shown.field("url", source),
        }
        .field("tls", &self.tls)
        .field("auth", &self.auth)
        .field("settings", &self.settings)
        .finish()
    }
}

impl Switch {
    fn read(node: Node) -> Result<Self> {
        match node.value {
            Value::Bool(true) => Ok(Self::On(Tls::default())),
            Value::Bool(false) => Ok(Self::Off),
            Value::Table(_) => {
                let path = node.path.clone();
                let table = node.table()?;
                table.only(&["ca", "cert", "key", "server-name"])?;
                let text = |key| table.field(key).map(Node::text).transpose();
                let mut tls = Tls::default();
                tls.ca = text("ca")?;
                tls.cert = text("cert")?;
                tls.key = text("key")?;
                tls.server_name = text("server-name")?;
                match (&tls.cert, &tls.key) {
                    (Some(_), None) => Err(fault(&path, "`cert` without `key`")),
                    (None, Some(_)) => Err(fault(&path, "`key` without `cert`")),
                    _ => Ok(Self::On(tls)),
                }
                .map_err(|error| {
                    error.with_help("a client's certificate and its key go together; they may name one file")
                })
            }
            _ => Err(node.mismatch("`true`, `false` or a table")),
        }
    }
}

/// Credentials of a broker, each looked up when the broker is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    kind: Option<String>,
    username: Option<SecretSource>,
    password: Option<SecretSource>,
    token: Option<SecretSource>,
}

impl Auth {
    /// No credential yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the mechanism, such as `scram-sha-512`, in place of the adapter's default.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Sets the user's name or the access key's id.
    #[must_use]
    pub fn username(mut self, username: impl Into<SecretSource>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Sets the password or the secret key.
    #[must_use]
    pub fn password(mut self, password: impl Into<SecretSource>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the token, for mechanisms that take one.
    #[must_use]
    pub fn token(mut self, token: impl Into<SecretSource>) -> Self {
        self.token = Some(token.into());
        self
    }

    fn read(node: Node) -> Result<Self> {
        let table = node.table()?;
        table.only(&["kind", "username", "password", "token"])?;
        let secret = |key| table.field(key).map(SecretSource::read).transpose();
        Ok(Self {
            kind: table.field("kind").map(Node::text).transpose()?,
            username: secret("username")?,
            password: secret("password")?,
            token: secret("token")?,
        })
    }

    fn look_up(&self, path: &str) -> Result<Credentials> {
        let secret = |key, source: &Option<SecretSource>| match source {
            Some(source) => source.look_up(&join(path, key)).map(Some),
            None => Ok(None),
        };
        let mut credentials = Credentials::none();
        credentials.kind.clone_from(&self.kind);
        credentials.username = secret("username", &self.username)?.map(|name| name.expose().to_owned());
        credentials.password = secret("password", &self.password)?;
        credentials.token = secret("token", &self.token)?;
        Ok(credentials)
    }
}
