//! The adapters of this project: the only place of the portable layer that names them.

use crate::spelling::did_you_mean;
use anybroker_contract::{Adapter, Connection, Error, ErrorKind, Result};
use std::sync::Arc;

/// Makes an adapter out of what configuration says; connects nothing.
type Open = fn(&Connection) -> Result<Arc<dyn Adapter>>;

/// One row of the table below.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name, which is the URL scheme, the cargo feature and the table in configuration.
    pub(crate) name: &'static str,
    /// Other schemes that providers hand out, and whether they mean TLS.
    aliases: &'static [(&'static str, bool)],
    /// Whether this version of the project has the adapter at all.
    written: bool,
    /// The constructor, when the adapter is compiled in.
    open: Option<Open>,
}

const ENTRIES: &[Entry] = &[
    Entry { written: true, open: Some(anybroker_memory::open), ..planned("memory") },
    Entry {
        aliases: &[("amqp", false), ("amqps", true)],
        written: true,
        open: RABBITMQ,
        ..planned("rabbitmq")
    },
    planned("activemq"),
    Entry { written: true, open: KAFKA, ..planned("kafka") },
    planned("aws"),
    planned("sqs"),
    planned("sns"),
    planned("kinesis"),
    planned("tcp"),
    planned("uds"),
    planned("multicast"),
];

#[cfg(feature = "rabbitmq")]
const RABBITMQ: Option<Open> = Some(anybroker_rabbitmq::open);
#[cfg(not(feature = "rabbitmq"))]
const RABBITMQ: Option<Open> = None;

#[cfg(feature = "kafka")]
const KAFKA: Option<Open> = Some(anybroker_kafka::open);
#[cfg(not(feature = "kafka"))]
const KAFKA: Option<Open> = None;

/// An adapter that has its name reserved and is not written yet.
const fn planned(name: &'static str) -> Entry {
    Entry { name, aliases: &[], written: false, open: None }
}

/// The adapter that a URL scheme names, and whether the scheme turns TLS on.
///
/// # Errors
/// [`ErrorKind::Config`] for a scheme that is unknown, not written yet or not compiled in.
pub(crate) fn find(scheme: &str) -> Result<(&'static Entry, bool)> {
    let (entry, tls) = lookup(scheme).ok_or_else(|| unknown(scheme))?;
    entry.constructor()?;
    Ok((entry, tls))
}

/// Makes the adapter of a resolved connection.
///
/// # Errors
/// What [`find`] gives, and what the adapter finds wrong with the connection.
pub(crate) fn open(connection: &Connection) -> Result<Arc<dyn Adapter>> {
    let (entry, _) = find(&connection.scheme)?;
    entry.constructor()?(connection)
}

/// The names of all adapters, those that are not compiled in included.
pub(crate) fn names() -> impl Iterator<Item = &'static str> + Clone {
    ENTRIES.iter().map(|entry| entry.name)
}

/// The adapter that has `scheme` as another name.
pub(crate) fn alias_of(scheme: &str) -> Option<&'static str> {
    ENTRIES
        .iter()
        .find(|entry| entry.aliases.iter().any(|(alias, _)| *alias == scheme))
        .map(|entry| entry.name)
}

impl Entry {
    fn constructor(&self) -> Result<Open> {
        let name = self.name;
        match self.open {
            Some(open) => Ok(open),
            None if self.written => Err(Error::new(
                ErrorKind::Config,
                format!("the adapter `{name}` is not compiled in"),
            )
            .with_help(format!(
                "add its cargo feature: `anybroker = {{ version = \"{}.{}\", features = [\"{name}\"] }}`",
                env!("CARGO_PKG_VERSION_MAJOR"),
                env!("CARGO_PKG_VERSION_MINOR"),
            ))),
            None => Err(Error::new(
                ErrorKind::Config,
                format!("anybroker {} has no adapter `{name}` yet", env!("CARGO_PKG_VERSION")),
            )
            .with_help(format!(
                "this version has: {}",
                ENTRIES
                    .iter()
                    .filter(|entry| entry.written)
                    .map(|entry| entry.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }
}

fn lookup(scheme: &str) -> Option<(&'static Entry, bool)> {
    let (base, suffix) = match scheme.strip_suffix("+tls") {
        Some(base) => (base, true),
        None => (scheme, false),
    };
    ENTRIES.iter().find_map(|entry| {
        let alias = entry.aliases.iter().find(|(alias, _)| *alias == base);
        match alias {
            Some((_, tls)) => Some((entry, suffix || *tls)),
            None => (entry.name == base).then_some((entry, suffix)),
        }
    })
}

fn unknown(scheme: &str) -> Error {
    let with_tls: Vec<String> = names().map(|name| format!("{name}+tls")).collect();
    let aliases = ENTRIES.iter().flat_map(|entry| entry.aliases.iter().map(|(alias, _)| *alias));
    let schemes: Vec<&str> = names().chain(aliases).collect();
    let near = did_you_mean(scheme, schemes.iter().copied().chain(with_tls.iter().map(String::as_str)));
    Error::new(ErrorKind::Config, format!("no adapter has the scheme `{scheme}`"))
        .with_help(format!("{near}the schemes are: {}; each may end in `+tls`", schemes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_names_an_adapter_and_tls() {
        let named = |scheme| lookup(scheme).map(|(entry, tls)| (entry.name, tls));
        assert_eq!(named("memory"), Some(("memory", false)));
        assert_eq!(named("kafka+tls"), Some(("kafka", true)));
        assert_eq!(named("amqp"), Some(("rabbitmq", false)));
        assert_eq!(named("amqps"), Some(("rabbitmq", true)));
        assert_eq!(named("amqp+tls"), Some(("rabbitmq", true)));
        assert_eq!(named("+tls"), None);
        assert_eq!(alias_of("amqps"), Some("rabbitmq"));
        assert_eq!(alias_of("rabbitmq"), None);
    }

    #[test]
    fn an_adapter_that_is_not_compiled_in_names_its_feature() {
        let entry = Entry { written: true, ..planned("carrier-pigeon") };
        let version = env!("CARGO_PKG_VERSION");
        let minor = &version[..version.rfind('.').unwrap()];
        assert_eq!(
            entry.constructor().unwrap_err().to_string(),
            format!(
                "the adapter `carrier-pigeon` is not compiled in\n  = help: add its cargo feature: \
                 `anybroker = {{ version = \"{minor}\", features = [\"carrier-pigeon\"] }}`"
            )
        );
    }

    #[test]
    fn an_adapter_that_is_not_written_says_so() {
        for (scheme, name) in [("sqs", "sqs"), ("kinesis+tls", "kinesis")] {
            assert_eq!(
                find(scheme).unwrap_err().to_string(),
                format!(
                    "anybroker {} has no adapter `{name}` yet\n  = help: this version has: memory, rabbitmq, kafka",
                    env!("CARGO_PKG_VERSION")
                )
            );
        }
    }

    #[test]
    fn an_unknown_scheme_names_the_nearest_and_all() {
        let all = "the schemes are: memory, rabbitmq, activemq, kafka, aws, sqs, sns, kinesis, tcp, uds, multicast, \
                   amqp, amqps; each may end in `+tls`";
        for (scheme, help) in [
            ("kafak", "did you mean `kafka`? "),
            ("kafka+ssl", "did you mean `kafka+tls`? "),
            ("ampq", "did you mean `amqp`? "),
            ("nats", ""),
        ] {
            assert_eq!(
                find(scheme).unwrap_err().to_string(),
                format!("no adapter has the scheme `{scheme}`\n  = help: {help}{all}")
            );
        }
    }
}
