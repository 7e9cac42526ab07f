use crate::error;
use anybroker_contract::{Capability, Connection, Error, ErrorKind, Level, Result, Settings, Table, Value};
use std::time::Duration;

/// What a memory broker is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How long a delivery belongs to its receiver unless extended; `None` is for ever.
    pub lease: Option<Duration>,
    /// The largest message, in bytes as [`anybroker_contract::Message::size`] counts.
    pub max_message: usize,
    /// The number of key-hashed shards of an ordered channel, which is the most consumers that can share its work.
    pub shards: usize,
    /// How many messages a publish-subscribe channel keeps for subscriptions that start in the past.
    pub retain: usize,
    /// The broker that it can do no more than.
    pub like: Option<Table>,
}

impl Default for Config {
    fn default() -> Self {
        Self { like: None, lease: None, max_message: 64 * 1024 * 1024, shards: 16, retain: 1000 }
    }
}

const KEYS: [&str; 5] = ["like", "lease", "max-message", "shards", "retain"];
const MOST_SHARDS: usize = 4096;

impl Config {
    /// This configuration with what the connection's URL and settings say.
    pub(crate) fn with(mut self, connection: &Connection) -> Result<Self> {
        connection.deny_unknown_query(&KEYS)?;
        let mut pairs = connection.query.clone();
        for key in connection.settings.keys() {
            pairs.push((key.into(), text_of(&connection.settings, key)?));
        }
        // First that which changes what the others begin with.
        pairs.sort_by_key(|(key, _)| key != "like");
        for (key, value) in &pairs {
            self.set(key, value)?;
        }
        if let (Some(table), Some(_)) = (self.like, self.lease) {
            let what =
                format!("`lease` is set, and there are none on `{}`, which it is to be like", table.name());
            return Err(wrong(&what).with_help("remove one of the two"));
        }
        Ok(self)
    }

    /// This configuration, able to do what the broker of that name can do, and no more: `kafka` or `rabbitmq`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for any other name.
    pub fn like(mut self, broker: &str) -> Result<Self> {
        let Some(table) = Table::named(broker) else {
            let known = Table::ALL.map(Table::name).join(", ");
            return Err(wrong(&format!("`like` is `{broker}`, of which memory has no table"))
                .with_help(format!("known are: {known}")));
        };
        if self.like != Some(table) {
            self.like = Some(table);
            self.max_message = table.largest_message();
        }
        Ok(self)
    }

    /// The level of receipts.
    pub(crate) fn level(&self) -> Level {
        self.like.map_or(Level::PeerMemory, Table::level)
    }

    /// Whether deliveries say which attempt they are.
    pub(crate) fn counts_attempts(&self) -> bool {
        self.like.is_none_or(|table| table.capabilities().has(Capability::AttemptCount))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "like" => *self = self.clone().like(value)?,
            "lease" => self.lease = Some(duration(key, value)?),
            "max-message" => self.max_message = number(key, value, usize::MAX)?,
            "shards" => self.shards = number(key, value, MOST_SHARDS)?,
            "retain" => self.retain = whole(key, value)?,
            _ => return Err(unknown(key, &KEYS)),
        }
        Ok(())
    }
}

/// What one channel's settings say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelConfig {
    pub(crate) shards: Option<usize>,
    pub(crate) retain: Option<usize>,
}

impl ChannelConfig {
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let mut config = Self::default();
        for key in settings.keys() {
            let value = text_of(settings, key)?;
            match key {
                "shards" => config.shards = Some(number(key, &value, MOST_SHARDS)?),
                "retain" => config.retain = Some(whole(key, &value)?),
                _ => return Err(unknown(key, &["shards", "retain"])),
            }
        }
        Ok(config)
    }
}

/// The name of the broker that the URL names; empty for a private one.
pub(crate) fn name(connection: &Connection) -> Result<String> {
    let refuse = |what: &str, help: &str| Err(wrong(what).with_help(help));
    if !connection.path.is_empty() {
        return refuse("the URL has a path", "write `memory://name`, without anything behind the name");
    }
    if connection.tls.is_some() {
        return refuse("`tls` is set, and nothing leaves the process", "remove `tls`");
    }
    if connection.auth.is_some() {
        return refuse("`auth` is set, and whoever is in the process may use the broker", "remove `auth`");
    }
    match &connection.hosts[..] {
        [] => Ok(String::new()),
        [host] if host.port.is_none() => Ok(host.name.clone()),
        [_] => refuse("the URL has a port", "write `memory://name`, without a port"),
        _ => refuse("the URL names several hosts", "write `memory://name`, with one name"),
    }
}

fn text_of(settings: &Settings, key: &str) -> Result<String> {
    match settings.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Integer(number)) => Ok(number.to_string()),
        _ => Err(wrong(&format!("`{key}` is neither text nor a whole number"))
            .with_help("write it as in the URL, such as `lease = \"30s\"` or `shards = 16`")),
    }
}

fn duration(key: &str, value: &str) -> Result<Duration> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = count.parse::<u64>().ok().zip(millis).and_then(|(count, millis)| count.checked_mul(millis));
    match millis {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => Err(wrong(&format!("`{key}` is `{value}`, which is no duration above zero"))
            .with_help("write a number and `ms`, `s`, `m` or `h`, such as `30s`")),
    }
}

fn whole(key: &str, value: &str) -> Result<usize> {
    value.parse().map_err(|_| {
        wrong(&format!("`{key}` is `{value}`, which is no whole number"))
            .with_help("write one, such as `1000`")
    })
}

fn number(key: &str, value: &str, most: usize) -> Result<usize> {
    match whole(key, value)? {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(wrong(&format!("`{key}` is `{value}`")).with_help(format!("choose from 1 to {most}"))),
    }
}

fn unknown(key: &str, known: &[&str]) -> Error {
    wrong(&format!("the setting `{key}` is not known")).with_help(format!("known are: {}", known.join(", ")))
}

fn wrong(what: &str) -> Error {
    error(ErrorKind::Config, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anybroker_contract::{Auth, BoxFuture, Clock, Host, Timestamp, Tls};
    use std::sync::Arc;
    use std::time::Instant;

    #[derive(Debug)]
    struct NoClock;

    impl Clock for NoClock {
        fn now(&self) -> Instant {
            panic!("reading a configuration takes no time")
        }
        fn wall(&self) -> Timestamp {
            panic!("reading a configuration takes no time")
        }
        fn sleep_until(&self, _: Instant) -> BoxFuture<'static, ()> {
            panic!("reading a configuration takes no time")
        }
    }

    fn connection(query: &[(&str, &str)]) -> Connection {
        let mut connection = Connection::new("memory", Arc::new(NoClock));
        connection.query = query.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        connection
    }

    fn refused(connection: &Connection) -> String {
        let error = Config::default().with(connection).and(name(connection).map(drop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.help().is_some(), "{error}");
        error.to_string().replace(" (adapter: memory)", "")
    }

    #[test]
    fn query_and_settings_take_the_same_keys() {
        let query = connection(&[("lease", "90s"), ("max-message", "10"), ("shards", "3"), ("retain", "0")]);
        let mut settings = connection(&[]);
        settings.settings.insert("lease", Value::String("1500ms".into()));
        settings.settings.insert("shards", Value::Integer(3));
        let mut expected = Config::default();
        assert_eq!(Config::default().with(&connection(&[])).unwrap(), expected);
        expected.shards = 3;
        expected.lease = Some(Duration::from_millis(1500));
        assert_eq!(Config::default().with(&settings).unwrap(), expected);
        (expected.lease, expected.max_message, expected.retain) = (Some(Duration::from_secs(90)), 10, 0);
        assert_eq!(Config::default().with(&query).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_key_the_problem_and_the_fix() {
        let cases = [
            (("lease", "30"), "`lease` is `30`, which is no duration above zero", "write a number and"),
            (("lease", "0s"), "`lease` is `0s`, which is no duration above zero", "write a number and"),
            (("lease", "99999999999999999h"), "`lease` is", "write a number and"),
            (("max-message", "0"), "`max-message` is `0`", "choose from 1 to"),
            (("shards", "5000"), "`shards` is `5000`", "choose from 1 to 4096"),
            (("retain", "-1"), "`retain` is `-1`, which is no whole number", "write one"),
            (
                ("leese", "1s"),
                "the URL's parameter `leese` is not known to `memory`",
                "it knows: like, lease, max-message",
            ),
            (("like", "pulsar"), "`like` is `pulsar`, of which memory has no table", "known are: kafka"),
        ];
        for (pair, problem, fix) in cases {
            let text = refused(&connection(&[pair]));
            assert!(text.starts_with(problem) && text.contains(&format!("= help: {fix}")), "{text}");
        }
        let mut table = connection(&[]);
        table.settings.insert("retain", Value::Bool(true));
        assert!(refused(&table).starts_with("`retain` is neither text nor a whole number"));
        table.settings = [(String::from("retian"), Value::Integer(1))].into_iter().collect();
        assert!(refused(&table).starts_with("the setting `retian` is not known\n  = help: known are: like"));
    }

    #[test]
    fn a_broker_like_another_begins_with_its_limits() {
        let with = |query: &[(&str, &str)]| Config::default().with(&connection(query)).unwrap();
        let (kafka, raised) = (with(&[("like", "kafka")]), with(&[("max-message", "9"), ("like", "kafka")]));
        assert_eq!((kafka.like, kafka.max_message), (Some(Table::Kafka), Table::Kafka.largest_message()));
        assert_eq!(raised.max_message, 9);
        // Said again, it changes nothing.
        assert_eq!(raised.clone().with(&connection(&[("like", "kafka")])).unwrap(), raised);
        let both = refused(&connection(&[("lease", "1s"), ("like", "kafka")]));
        assert!(both.starts_with("`lease` is set, and there are none on `kafka`"), "{both}");
    }

    #[test]
    fn a_url_has_one_name_and_nothing_else() {
        type Change = fn(&mut Connection);
        let changes: [(Change, &str); 5] = [
            (|c| c.path = "x".into(), "the URL has a path"),
            (|c| c.hosts = vec![Host::new("a", Some(1))], "the URL has a port"),
            (|c| c.hosts = vec![Host::new("a", None), Host::new("b", None)], "the URL names several hosts"),
            (|c| c.tls = Some(Tls::default()), "`tls` is set"),
            (|c| c.auth = Some(Auth::none()), "`auth` is set"),
        ];
        for (change, problem) in changes {
            let mut connection = connection(&[]);
            change(&mut connection);
            assert!(refused(&connection).starts_with(problem));
        }
        let mut named = connection(&[]);
        assert_eq!(name(&named).unwrap(), "");
        named.hosts.push(Host::new("main", None));
        assert_eq!(name(&named).unwrap(), "main");
    }
}
