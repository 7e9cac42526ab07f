//! Where the broker is and who asks: all that a new connection needs.

use crate::config::Config;
use crate::error::{connecting, error, within};
use anybroker_contract::{Clock, Connection, Error, ErrorKind, Host, Result, Tls};
use async_compat::Compat;
use lapin::ConnectionProperties;
use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// One broker or cluster.
pub(crate) struct Server {
    hosts: Vec<Host>,
    /// The host that answered last; it is asked first.
    first: AtomicUsize,
    user: AMQPUserInfo,
    vhost: String,
    tls: Option<(RustlsConnector, Option<String>)>,
    config: Config,
}

/// A new connection, and its socket: closing that ends all that waits for the broker, whatever state it is in.
pub(crate) struct Connected {
    pub(crate) connection: lapin::Connection,
    pub(crate) socket: TcpStream,
}

impl Server {
    pub(crate) fn new(connection: &Connection, config: Config) -> Result<Self> {
        let mut hosts = connection.hosts.clone();
        if hosts.is_empty() {
            hosts.push(Host::new("localhost", None));
        }
        let user = match &connection.auth {
            None => AMQPUserInfo { username: "guest".into(), password: "guest".into() },
            Some(auth) => match (&auth.kind, &auth.username, &auth.password) {
                (kind, Some(username), Some(password)) if kind.as_deref().is_none_or(|k| k == "plain") => {
                    AMQPUserInfo { username: username.clone(), password: password.expose().to_owned() }
                }
                (Some(kind), ..) if kind != "plain" => {
                    return Err(error(ErrorKind::Config, format!("`auth` is of kind `{kind}`"))
                        .with_help("RabbitMQ is asked with `plain`: a user name and a password"));
                }
                _ => {
                    return Err(error(ErrorKind::Config, "`auth` lacks the user name or the password")
                        .with_help("write both, or neither for RabbitMQ's guest"));
                }
            },
        };
        let vhost = if connection.path.is_empty() { "/" } else { &connection.path }.to_owned();
        let tls =
            connection.tls.as_ref().map(|tls| Ok::<_, Error>((connector(tls)?, tls.server_name.clone())));
        Ok(Self { hosts, first: AtomicUsize::new(0), user, vhost, tls: tls.transpose()?, config })
    }

    /// Asks each host once, the one that answered last before the others, with the time left shared among them.
    pub(crate) async fn connect(
        &self,
        name: &str,
        clock: &dyn Clock,
        deadline: Instant,
    ) -> Result<Connected> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failed = None;
        for n in 0..self.hosts.len() {
            let at = (first + n) % self.hosts.len();
            let now = clock.now();
            let share =
                deadline.saturating_duration_since(now) / u32::try_from(self.hosts.len() - n).unwrap_or(1);
            match self.connect_to(&self.hosts[at], name, clock, now + share).await {
                Ok(connected) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                // A cluster has one set of users.
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| error(ErrorKind::Config, "the URL names no host")))
    }

    async fn connect_to(
        &self,
        host: &Host,
        name: &str,
        clock: &dyn Clock,
        deadline: Instant,
    ) -> Result<Connected> {
        let port = host.port.unwrap_or(if self.tls.is_some() { 5671 } else { 5672 });
        let place = format!("{}:{port}", host.name);
        let unreachable = |e: std::io::Error| {
            error(ErrorKind::Unavailable, format!("cannot reach {place}: {e}"))
                .with_help("check host and port, and that RabbitMQ runs there")
                .with_source(e)
        };
        let reaching = tokio::net::TcpStream::connect((host.name.as_str(), port));
        let stream =
            within(clock, deadline, &format!("reaching {place}"), reaching).await?.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let stream = stream.into_std().map_err(unreachable)?;
        let socket = stream.try_clone().map_err(unreachable)?;
        let stream = tokio::net::TcpStream::from_std(stream).map_err(unreachable)?;
        let opening = async {
            let plain = AsyncTcpStream::Plain(Compat::new(stream));
            let stream = match &self.tls {
                None => plain,
                Some((connector, server_name)) => {
                    let name = server_name.as_deref().unwrap_or(&host.name);
                    plain.into_rustls(connector, name).await.map_err(|e| untrusted(&place, e))?
                }
            };
            self.shake_hands(stream, host, port, name).await.map_err(|e| connecting(&place, e))
        };
        match within(clock, deadline, &format!("opening a connection to {place}"), opening).await {
            Ok(Ok(connection)) => Ok(Connected { connection, socket }),
            Ok(Err(error)) | Err(error) => {
                // A handshake that is given up would keep lapin's thread for as long as the broker says nothing.
                let _ = socket.shutdown(Shutdown::Both);
                Err(error)
            }
        }
    }

    async fn shake_hands(
        &self,
        stream: AsyncTcpStream<Compat<tokio::net::TcpStream>>,
        host: &Host,
        port: u16,
        name: &str,
    ) -> lapin::Result<lapin::Connection> {
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority { userinfo: self.user.clone(), host: host.name.clone(), port },
            vhost: self.vhost.clone(),
            query: AMQPQueryString { heartbeat: Some(self.config.heartbeat), ..AMQPQueryString::default() },
        };
        // Recovery stays off: the portable layer opens again, with what was unconfirmed, in order.
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let stream = Mutex::new(Some(stream));
        let once = async move |_, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
        };
        lapin::Connection::connector(uri, lapin::runtime::default_runtime()?, once, properties).await
    }
}

/// Trusts the authorities of the configuration alone, or else the system's.
fn connector(tls: &Tls) -> Result<RustlsConnector> {
    let config = match &tls.ca {
        Some(file) => RustlsConnectorConfig::default().with_parsable_certificates(certificates("ca", file)?),
        None => RustlsConnectorConfig::default().with_native_certs().map_err(|e| {
            wrong("the system's certificates cannot be read", e)
                .with_help("name a file: `tls = { ca = \"ca.pem\" }`")
        })?,
    };
    let built = match (&tls.cert, &tls.key) {
        (None, None) => config.connector_with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates("cert", cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| wrong(&format!("`tls.key`: no key in {key}"), e))?;
            config.connector_with_single_cert(chain, key)
        }
        (cert, _) => {
            let (there, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            return Err(error(ErrorKind::Config, format!("`tls.{there}` is set and `tls.{missing}` is not"))
                .with_help("a client certificate needs both"));
        }
    };
    built.map_err(|e| wrong("TLS cannot be set up", e))
}

fn certificates(field: &str, file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(error(ErrorKind::Config, format!("`tls.{field}`: no certificate in {file}")))
        }
        read => read.map_err(|e| wrong(&format!("`tls.{field}`: cannot read {file}"), e)),
    }
    .map_err(|e| if e.help().is_some() { e } else { e.with_help("name a PEM file") })
}

fn wrong(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    error(ErrorKind::Config, format!("{what}: {cause}")).with_source(cause)
}

fn untrusted(place: &str, failed: std::io::Error) -> Error {
    let what = format!("no TLS with {place}: {failed}");
    match failed.kind() {
        std::io::ErrorKind::InvalidData => error(ErrorKind::Unauthorized, what)
            .with_help("name the authority that signed the broker's certificate (`tls.ca`), and the name it was made for (`tls.server_name`)")
            .with_source(failed),
        _ => error(ErrorKind::Unavailable, what).with_help("check that this port speaks TLS").with_source(failed),
    }
}
