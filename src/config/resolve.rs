//! Configuration as the broker uses it.

use super::reader::{fault, join, list};
use super::{Channel, Config, Field, check_name};
use crate::adapters;
use crate::spelling::did_you_mean;
use anybroker_contract::{Adapter, Binding, Channel as Portable, Clock, Connection, Declare, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that configuration says, checked.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The brokers to connect, by name. Without those that the application has given an adapter for.
    pub(crate) connections: Vec<(String, Connection)>,
    /// Where each channel goes.
    pub(crate) bindings: Bindings,
}

/// Where each channel goes. Holds no secret.
#[derive(Debug)]
pub(crate) struct Bindings {
    /// The adapter of each broker.
    brokers: BTreeMap<String, String>,
    default: Option<String>,
    channels: BTreeMap<String, Channel>,
}

/// A channel bound to a broker.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The broker's name.
    pub(crate) broker: String,
    /// The channel with the requirements of code and configuration, its address, and the settings for the broker's adapter.
    pub(crate) binding: Binding,
    /// How far declaring may go.
    pub(crate) declare: Declare,
    /// The headers in which foreign clients have fields.
    pub(crate) headers: BTreeMap<Field, String>,
}

impl Config {
    /// Looks up all secrets and checks all that can be checked before a channel is opened.
    ///
    /// `given` names the brokers that the application has an adapter for, with the adapter's name: such a broker needs no entry, and takes the place of
    /// the entry that has its name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](anybroker_contract::ErrorKind::Config), naming the path of the field.
    pub(crate) fn resolve(self, given: &[(&str, &str)], clock: &Arc<dyn Clock>) -> Result<Resolved> {
        let mut known: Vec<&str> = adapters::names().collect();
        known.extend(
            given.iter().map(|(_, adapter)| *adapter).filter(|name| !adapters::names().any(|n| n == *name)),
        );

        let mut brokers: BTreeMap<String, String> = BTreeMap::new();
        for (name, adapter) in given {
            check_name("broker", name)?;
            brokers.insert((*name).to_owned(), (*adapter).to_owned());
        }
        let mut connections = Vec::new();
        for (name, broker) in &self.brokers {
            let path = join("brokers", name);
            check_name("broker", name).map_err(|error| error.at(&path))?;
            if !brokers.contains_key(name) {
                connections.push((name.clone(), broker.connection(&path, Arc::clone(clock), &known)?));
            }
        }
        for (name, connection) in &connections {
            brokers.insert(name.clone(), connection.scheme.clone());
        }
        if brokers.is_empty() {
            return Err(fault("brokers", "there is no broker")
                .with_help("add a table `[brokers.main]` with a key `url`"));
        }
        if let Some(name) = &self.default {
            known_broker("default", name, &brokers)?;
        }
        for (name, channel) in &self.channels {
            let path = join("channels", name);
            check_name("channel", name).map_err(|error| error.at(&path))?;
            channel.check(&path, &known)?;
            if let Some(name) = &channel.broker {
                known_broker(&join(&path, "broker"), name, &brokers)?;
            }
        }
        Ok(Resolved {
            connections,
            bindings: Bindings { brokers, default: self.default, channels: self.channels },
        })
    }
}

impl Resolved {
    /// Makes the adapter of each connection, by the broker's name; connects nothing.
    ///
    /// # Errors
    /// What an adapter finds wrong with its connection, with the path of the broker.
    pub(crate) fn adapters(&self) -> Result<Vec<(String, Arc<dyn Adapter>)>> {
        self.connections
            .iter()
            .map(|(name, connection)| match adapters::open(connection) {
                Ok(adapter) => Ok((name.clone(), adapter)),
                Err(error) => Err(error.at(join("brokers", name))),
            })
            .collect()
    }
}

impl Bindings {
    /// Binds a channel of the code.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](anybroker_contract::ErrorKind::Config) for a name that not every broker can carry, a kind or requirement that contradicts the code, and when there are several
    /// brokers to choose from.
    pub(crate) fn bind(&self, channel: &Portable) -> Result<Bound> {
        let name = channel.name();
        check_name("channel", name)?;
        let Some(entry) = self.channels.get(name) else {
            return Ok(Bound {
                broker: self.default_broker(name)?.to_owned(),
                binding: Binding::new(channel.clone()),
                declare: Declare::default(),
                headers: BTreeMap::new(),
            });
        };
        let broker = match &entry.broker {
            Some(broker) => broker,
            None => self.default_broker(name)?,
        };
        let adapter = self.brokers.get(broker).map_or("", String::as_str);
        Ok(Bound {
            broker: broker.to_owned(),
            binding: Binding::new(entry.apply(&join("channels", name), channel)?)
                .at(entry.address.clone())
                .with_settings(entry.settings_for(adapter)),
            declare: entry.declare,
            headers: entry.headers.clone(),
        })
    }

    /// The broker of channels that name none: the configured default, the only one, or `main`.
    fn default_broker(&self, channel: &str) -> Result<&str> {
        const MAIN: &str = "main";
        match (&self.default, self.brokers.keys().next()) {
            (Some(name), _) => Ok(name),
            (None, Some(only)) if self.brokers.len() == 1 => Ok(only),
            _ if self.brokers.contains_key(MAIN) => Ok(MAIN),
            _ => Err(fault(
                &join("channels", channel),
                format_args!(
                    "the channel names no broker, and there are several: {}",
                    list(self.brokers.keys().map(String::as_str))
                ),
            )
            .with_help(
                "give it a key `broker`, or name one for all such channels in the key `default` at the top",
            )),
        }
    }
}

fn known_broker(path: &str, name: &str, brokers: &BTreeMap<String, String>) -> Result<()> {
    if brokers.contains_key(name) {
        return Ok(());
    }
    let names = || brokers.keys().map(String::as_str);
    Err(fault(path, format_args!("there is no broker `{name}`")).with_help(format!(
        "{}the brokers are: {}",
        did_you_mean(name, names()),
        list(names())
    )))
}
