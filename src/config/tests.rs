//! What documents become, and what is refused once brokers and channels meet.

use super::resolve::Resolved;
use super::*;

use anybroker_contract::{
    Address, Auth as Credentials, BoxFuture, Channel as Portable, ChannelKind, Clock, Declare, Requirements,
    Secret, Timestamp, Tls,
};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Instant {
        unreachable!("configuration asks for no time")
    }
    fn wall(&self) -> Timestamp {
        unreachable!("configuration asks for no time")
    }
    fn sleep_until(&self, _: Instant) -> BoxFuture<'static, ()> {
        unreachable!("configuration asks for no time")
    }
}

fn resolve_with(given: &[(&str, &str)], toml: &str) -> Result<Resolved> {
    let clock: Arc<dyn Clock> = Arc::new(NoTime);
    Config::from_toml(toml)?.resolve(given, &clock)
}

fn resolve(toml: &str) -> Result<Resolved> {
    resolve_with(&[], toml)
}

/// The error of a document that is well-formed but wrong.
fn refused(toml: &str) -> String {
    resolve(toml).unwrap_err().to_string()
}

/// The error of binding `channel` beside a memory broker.
fn unbound(channel: &Portable, toml: &str) -> String {
    let document = format!("brokers.main.url = 'memory://'\n{toml}");
    resolve(&document).unwrap().bindings.bind(channel).unwrap_err().to_string()
}

fn requirements(code: &Portable, toml: &str) -> Requirements {
    let document = format!("brokers.main.url = 'memory://'\n{toml}");
    let bound = resolve(&document).unwrap().bindings.bind(code).unwrap();
    bound.binding.channel.requirements()
}

/// The document of the design, bound to adapters that the application has given.
const DESIGN: &str = r#"
[brokers.main]
url = "rabbitmq://localhost"
tls  = { ca = "ca.pem", cert = "svc.pem", key = "svc.key" }
auth = { kind = "scram-sha-512", username = "svc", password = { file = "/run/secrets/kafka" } }

[brokers.events]
url = "memory://events"
kafka = { linger = 5 }
memory = { lease = "30s" }

[channels.order-events]
broker = "events"
address = "prod.orders.v1"
declare = "never"
kafka = { partitions = 12 }
headers = { type = "eventType", id = "x-message-id" }
"#;

#[test]
fn a_document_binds_channels_to_brokers() {
    let resolved = resolve_with(&[("main", "rabbitmq")], DESIGN).unwrap();
    let [(name, events)] = &resolved.connections[..] else {
        panic!("one broker is to be connected: {resolved:?}")
    };
    assert_eq!((name.as_str(), events.scheme.as_str()), ("events", "memory"));
    assert_eq!(events.hosts[0].name, "events");
    assert_eq!(events.settings.keys().collect::<Vec<_>>(), ["lease"]);
    assert!(events.tls.is_none() && events.auth.is_none());

    let bound = resolved.bindings.bind(&Portable::publish_subscribe("order-events").durable()).unwrap();
    assert_eq!(bound.broker, "events");
    assert_eq!(bound.declare, Declare::Never);
    assert_eq!(bound.binding.address, Address::Name("prod.orders.v1".to_owned()));
    assert_eq!(bound.binding.channel, Portable::publish_subscribe("order-events").durable());
    assert!(bound.binding.settings.is_empty(), "the table of another adapter is left alone");
    assert_eq!(
        bound.headers.into_iter().collect::<Vec<_>>(),
        [(Field::Type, "eventType".to_owned()), (Field::Id, "x-message-id".to_owned())]
    );

    let unlisted = resolved.bindings.bind(&Portable::point_to_point("orders")).unwrap();
    assert_eq!(unlisted.broker, "main");
    assert_eq!(unlisted.declare, Declare::IfMissing);
    assert_eq!(unlisted.binding.native_name(), "orders");
}

#[test]
fn a_table_is_applied_while_its_adapter_is_bound() {
    let bound = resolve_with(&[("main", "kafka"), ("events", "kafka")], DESIGN).unwrap();
    assert!(bound.connections.is_empty(), "an adapter that is given takes the place of the entry");
    let bound = bound.bindings.bind(&Portable::publish_subscribe("order-events")).unwrap();
    assert_eq!(bound.binding.settings.get("partitions"), Some(&Value::Integer(12)));
}

#[test]
fn an_application_brings_its_own_adapter_and_its_table() {
    let document = "channels.orders.nats.subject = 'o'";
    let bound = resolve_with(&[("main", "nats")], document).unwrap();
    let bound = bound.bindings.bind(&Portable::point_to_point("orders")).unwrap();
    assert_eq!(bound.binding.settings.get("subject"), Some(&Value::String("o".to_owned())));
    assert_eq!(
        resolve_with(&[("main", "nats")], "channels.orders.natz.subject = 'o'").unwrap_err().to_string(),
        "channels.orders.natz: unknown key\n  = help: did you mean `nats`? the keys are: broker, address, declare, headers, \
         kind, order-per-key, durable, delayed-retry, expired-to-dead-letter, dead-letter-after, largest-message, bounded; \
         tables of adapters: memory, rabbitmq, activemq, kafka, aws, sqs, sns, kinesis, tcp, uds, multicast, nats"
    );
}

#[test]
fn url_tls_and_credentials_come_together() {
    let connection = |toml: &str| resolve(&format!("[brokers.b]\n{toml}")).unwrap().connections.remove(0).1;
    let c = connection("url = 'memory+tls://u:p%40@a:1,b/x?like=sqs'");
    assert_eq!((c.hosts.len(), c.path.as_str()), (2, "x"));
    assert_eq!(c.query, [("like".to_owned(), "sqs".to_owned())]);
    assert_eq!(c.tls, Some(Tls::default()));
    assert_eq!(c.auth, Some(Credentials::password("u", Secret::new("p@"))));

    let c = connection("url = 'memory://'\ntls = true");
    assert_eq!(c.tls, Some(Tls::default()));
    let c = connection("url = 'memory://'\ntls = false");
    assert_eq!(c.tls, None);
    let c =
        connection("url = 'memory+tls://'\ntls = { ca = 'ca', cert = 'c', key = 'k', server-name = 's' }");
    let mut tls = Tls::default();
    tls.ca = Some("ca".to_owned());
    tls.cert = Some("c".to_owned());
    tls.key = Some("k".to_owned());
    tls.server_name = Some("s".to_owned());
    assert_eq!(c.tls, Some(tls));

    let c = connection("url = 'memory://'\nauth = { kind = 'plain', username = 'u', token = 't' }");
    let mut auth = Credentials::none();
    auth.kind = Some("plain".to_owned());
    auth.username = Some("u".to_owned());
    auth.token = Some(Secret::new("t"));
    assert_eq!(c.auth, Some(auth));
}

#[test]
fn secrets_come_from_the_environment_and_from_files() {
    // Cargo sets the variable for tests; setting one of our own is unsafe.
    let file = std::env::temp_dir().join(format!("anybroker-config-{}", std::process::id()));
    for (content, secret) in [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), ("pw\n\n", "pw\n"), ("\n", "")]
    {
        std::fs::write(&file, content).unwrap();
        let document = format!(
            "brokers.b = {{ url = 'memory://', auth = {{ username = {{ env = 'CARGO_PKG_NAME' }}, password = {{ file = \
             '{}' }} }} }}",
            file.display()
        );
        let connection = resolve(&document).unwrap().connections.remove(0).1;
        assert_eq!(connection.auth, Some(Credentials::password("anybroker", Secret::new(secret))));
    }
    std::fs::write(&file, "memory://u:hunter2@host\n").unwrap();
    let document = format!("brokers.b.url = {{ file = '{}' }}", file.display());
    let resolved = resolve(&document).unwrap();
    assert_eq!(resolved.connections[0].1.hosts[0].name, "host");
    assert!(!format!("{resolved:?}").contains("hunter2"));
    std::fs::write(&file, "hunter2").unwrap();
    assert_eq!(
        refused(&document),
        "brokers.b.url: this is not a URL\n  = help: write `scheme://host`, such as `memory://main`"
    );
    std::fs::write(&file, [0xff]).unwrap();
    assert_eq!(refused(&document), format!("brokers.b.url: the file `{}` is not UTF-8", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(refused(&document), format!("brokers.b.url: the file `{}` does not exist", file.display()));
}

#[test]
fn brokers_that_cannot_be_opened_say_why() {
    let version = env!("CARGO_PKG_VERSION");
    for (document, text) in [
        ("", "brokers: there is no broker\n  = help: add a table `[brokers.main]` with a key `url`".to_owned()),
        (
            "brokers.main.url = 'memory'",
            "brokers.main.url: this is not a URL\n  = help: write `scheme://host`, such as `memory://main`".to_owned(),
        ),
        (
            "brokers.main.url = 'memori://'",
            "brokers.main.url: no adapter has the scheme `memori`\n  = help: did you mean `memory`? the schemes are: memory, \
             rabbitmq, activemq, kafka, aws, sqs, sns, kinesis, tcp, uds, multicast, amqp, amqps; each may end in `+tls`"
                .to_owned(),
        ),
        (
            "brokers.main.url = 'multicast://'",
            format!(
                "brokers.main.url: anybroker {version} has no adapter `multicast` yet\n  = help: this version has: memory, rabbitmq, kafka"
            ),
        ),
        (
            "brokers.main = { url = 'memory+tls://', tls = false }",
            "brokers.main.tls: `false` contradicts the URL's scheme `memory+tls`, which asks for TLS\n  = help: change one of \
             them"
                .to_owned(),
        ),
        (
            "brokers.main = { url = 'memory://u:hunter2@h', auth = { username = 'u', password = 'hunter2' } }",
            "brokers.main.auth: the URL carries credentials too\n  = help: keep them in one place, best in `auth`".to_owned(),
        ),
        (
            "brokers.'a b'.url = 'memory://'",
            "brokers.\"a b\": the broker name \"a b\" contains ' '\n  = help: a name has 1 to 200 ASCII letters, digits, `.`, \
             `-` and `_`, which every broker can carry"
                .to_owned(),
        ),
        (
            "brokers.main = { url = 'memory://', auth = { password = { env = 'ANYBROKER_NOT_SET' } } }",
            "brokers.main.auth.password: the environment variable `ANYBROKER_NOT_SET` is not set".to_owned(),
        ),
        (
            "brokers.main = { url = 'memory://', amqp = { heartbeat = 1 } }",
            "brokers.main.amqp: unknown key\n  = help: did you mean `rabbitmq`? the keys are: url, tls, auth; tables of \
             adapters: memory, rabbitmq, activemq, kafka, aws, sqs, sns, kinesis, tcp, uds, multicast"
                .to_owned(),
        ),
        (
            "default = 'mian'\nbrokers.main.url = 'memory://'\nbrokers.other.url = 'memory://'",
            "default: there is no broker `mian`\n  = help: did you mean `main`? the brokers are: main, other".to_owned(),
        ),
        (
            "brokers.main.url = 'memory://'\nchannels.'prod.orders'.broker = 'events'",
            "channels.\"prod.orders\".broker: there is no broker `events`\n  = help: the brokers are: main".to_owned(),
        ),
        (
            "brokers.main.url = 'memory://'\nchannels.'or/ders'.durable = true",
            "channels.\"or/ders\": the channel name \"or/ders\" contains '/'\n  = help: a name has 1 to 200 ASCII letters, \
             digits, `.`, `-` and `_`, which every broker can carry"
                .to_owned(),
        ),
        (
            "brokers.main.url = 'memory://'\nchannels.orders.address = ''",
            "channels.orders.address: the address is empty\n  = help: remove the key to use the channel's own name".to_owned(),
        ),
        (
            "brokers.main.url = 'memory://'\nchannels.orders.headers = { id = 'x', type = 'x' }",
            "channels.orders.headers.id: `x` is the header of `type` already".to_owned(),
        ),
        (
            "brokers.main.url = 'memory://'\nchannels.orders.headers.id = ''",
            "channels.orders.headers.id: the name of a header is empty".to_owned(),
        ),
    ] {
        assert_eq!(refused(document), text, "{document}");
    }
}

#[test]
fn what_an_adapter_refuses_names_the_broker() {
    let resolved = resolve("brokers.main.url = 'memory://main?no-such-parameter=1'").unwrap();
    let error = resolved.adapters().unwrap_err().to_string();
    assert!(error.starts_with("brokers.main: "), "{error}");
}

#[test]
fn the_default_broker_is_named_only_or_main() {
    let broker = |toml: &str| {
        let bindings = resolve(toml).unwrap().bindings;
        bindings.bind(&Portable::point_to_point("orders")).map(|bound| bound.broker)
    };
    let several = "brokers.a.url = 'memory://'\nbrokers.main.url = 'memory://'";
    assert_eq!(broker("brokers.a.url = 'memory://'").unwrap(), "a");
    assert_eq!(broker(several).unwrap(), "main");
    assert_eq!(broker(&format!("default = 'a'\n{several}")).unwrap(), "a");
    let ambiguous = "brokers.a.url = 'memory://'\nbrokers.b.url = 'memory://'";
    assert_eq!(broker(&format!("{ambiguous}\nchannels.orders.broker = 'b'")).unwrap(), "b");
    assert_eq!(
        broker(ambiguous).unwrap_err().to_string(),
        "channels.orders: the channel names no broker, and there are several: a, b\n  = help: give it a key `broker`, or \
         name one for all such channels in the key `default` at the top"
    );
}

#[test]
fn configuration_adds_requirements() {
    let bare = Portable::point_to_point("orders");
    let all = "[channels.orders]\nkind = 'point-to-point'\norder-per-key = true\ndurable = true\ndelayed-retry = true\n\
               expired-to-dead-letter = true\ndead-letter-after = 3\nlargest-message = 1000\nbounded = 10";
    let expected = bare
        .clone()
        .order_per_key()
        .durable()
        .delayed_retry()
        .expired_to_dead_letter()
        .dead_letter_after(3)
        .largest_message(1000)
        .bounded(10);
    assert_eq!(requirements(&bare, all), expected.requirements());
    assert_eq!(requirements(&expected, all), expected.requirements(), "the same again changes nothing");
    assert_eq!(requirements(&expected, ""), expected.requirements());
    assert_eq!(requirements(&bare, "channels.orders.durable = false"), Requirements::NONE);
    let stronger = requirements(&expected, "channels.orders = { largest-message = 2000, bounded = 5 }");
    assert_eq!((stronger.largest_message, stronger.bounded), (Some(2000), Some(5)));
    let config = Config::new()
        .broker("main", Broker::new("memory://"))
        .channel("orders", Channel::new().kind(ChannelKind::PointToPoint).require(expected.requirements()));
    let clock: Arc<dyn Clock> = Arc::new(NoTime);
    let built = config.resolve(&[], &clock).unwrap().bindings.bind(&bare).unwrap();
    assert_eq!(built.binding.channel, expected);
}

#[test]
fn configuration_never_weakens() {
    let weaken = "configuration may add to what the code requires, never weaken it: remove the key, or change the code";
    let orders = Portable::point_to_point("orders")
        .order_per_key()
        .durable()
        .delayed_retry()
        .expired_to_dead_letter()
        .dead_letter_after(5)
        .largest_message(1000)
        .bounded(10);
    for key in ["order-per-key", "durable", "delayed-retry", "expired-to-dead-letter"] {
        assert_eq!(
            unbound(&orders, &format!("channels.orders.{key} = false")),
            format!(
                "channels.orders.{key}: `false` is weaker than what the code requires, `true`\n  = help: {weaken}"
            )
        );
    }
    for (line, text) in [
        (
            "largest-message = 999",
            format!(
                "channels.orders.largest-message: `999` is weaker than what the code requires, `1000`\n  = help: {weaken}"
            ),
        ),
        (
            "bounded = 11",
            format!("channels.orders.bounded: `11` is weaker than what the code requires, `10`\n  = help: {weaken}"),
        ),
        (
            "dead-letter-after = 6",
            "channels.orders.dead-letter-after: configuration says `6`, the code says `5`\n  = help: where the code names \
             the attempts, it decides: change or remove the key"
                .to_owned(),
        ),
        (
            "kind = 'publish-subscribe'",
            "channels.orders.kind: configuration says `publish-subscribe`, the code says `point-to-point`\n  = help: a \
             channel has one kind, and the code decides it: change or remove the key"
                .to_owned(),
        ),
    ] {
        assert_eq!(unbound(&orders, &format!("channels.orders.{line}")), text);
    }
}

#[test]
fn a_name_in_the_code_is_checked_too() {
    assert_eq!(
        unbound(&Portable::point_to_point("or ders"), ""),
        "the channel name \"or ders\" contains ' '\n  = help: a name has 1 to 200 ASCII letters, digits, `.`, `-` and `_`, \
         which every broker can carry"
    );
}

#[test]
fn nothing_resolved_shows_a_secret() {
    let document = "[brokers.main]\nurl = 'memory://'\nauth = { username = 'u', password = 'hunter2', token = 'hunter2' }\n\
                    memory.password = 'hunter2'\n[channels.orders]\naddress.password = 'hunter2'\nmemory.password = 'hunter2'";
    let resolved = resolve(document).unwrap();
    let bound = resolved.bindings.bind(&Portable::point_to_point("orders")).unwrap();
    let shown = format!("{resolved:?} {bound:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
