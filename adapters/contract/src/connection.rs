use crate::{Clock, Error, ErrorKind, Result, Settings};
use std::fmt;
use std::sync::Arc;

/// A credential. Neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The credential itself, to hand to a client library and to nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// All that an adapter needs to connect: the parts of the URL, TLS, credentials, its own settings, and the clock.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connection {
    /// The scheme without `+tls`, aliases resolved.
    pub scheme: String,
    /// Hosts with their ports, in order. Empty where the scheme has none.
    pub hosts: Vec<Host>,
    /// What follows the hosts, without the leading slash, percent-decoded.
    pub path: String,
    /// The query, percent-decoded, in order.
    pub query: Vec<(String, String)>,
    /// TLS, when it is on.
    pub tls: Option<Tls>,
    /// Credentials, when there are any.
    pub auth: Option<Auth>,
    /// The adapter's own table of the broker's configuration.
    pub settings: Settings,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Connection {
    /// A connection by that scheme and nothing else.
    #[must_use]
    pub fn new(scheme: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self {
            scheme: scheme.into(),
            hosts: Vec::new(),
            path: String::new(),
            query: Vec::new(),
            tls: None,
            auth: None,
            settings: Settings::default(),
            clock,
        }
    }

    /// Refuses query parameters that the adapter does not know.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the parameter and those that are known.
    pub fn deny_unknown_query(&self, known: &[&str]) -> Result<()> {
        match self.query.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => Err(Error::new(
                ErrorKind::Config,
                format!("the URL's parameter `{key}` is not known to `{}`", self.scheme),
            )
            .with_help(if known.is_empty() {
                String::from("it takes none: remove it")
            } else {
                format!("it knows: {}", known.join(", "))
            })),
        }
    }
}

/// One host of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// Name or address, without the brackets of an IPv6 one.
    pub name: String,
    /// The port, if the URL names one.
    pub port: Option<u16>,
}

impl Host {
    /// That host, at that port.
    #[must_use]
    pub fn new(name: impl Into<String>, port: Option<u16>) -> Self {
        Self { name: name.into(), port }
    }
}

/// TLS, in one shape for all adapters. Certificates are always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// PEM file of the authorities to trust, in place of the system's.
    pub ca: Option<String>,
    /// PEM file of the client's certificate chain.
    pub cert: Option<String>,
    /// PEM file of the client's key.
    pub key: Option<String>,
    /// The name to ask for and to check, in place of the host's.
    pub server_name: Option<String>,
}

/// Credentials, in one shape for all adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth {
    /// The mechanism, such as `plain` or `scram-sha-512`; `None` leaves the adapter's default.
    pub kind: Option<String>,
    /// The user's name or the access key's id.
    pub username: Option<String>,
    /// The password or the secret key.
    pub password: Option<Secret>,
    /// A token, for mechanisms that take one.
    pub token: Option<Secret>,
}

impl Auth {
    /// A name and a password.
    #[must_use]
    pub fn password(username: impl Into<String>, password: Secret) -> Self {
        Self { kind: None, username: Some(username.into()), password: Some(password), token: None }
    }

    /// No credential yet.
    #[must_use]
    pub const fn none() -> Self {
        Self { kind: None, username: None, password: None, token: None }
    }
}
