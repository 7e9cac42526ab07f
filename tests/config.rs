//! Configuration as users write it: what they are told when they get it wrong, and that it tells nobody their secrets.
#![cfg(all(feature = "toml", feature = "json"))]

use anybroker::adapter::{Address, ChannelKind, Declare, Settings, Tls, Value};
use anybroker::config::{Auth, Broker, Channel, Config, Field, SecretSource};
use anybroker::{Error, ErrorKind};
use std::fs;
use std::path::PathBuf;

fn refused(toml: &str) -> String {
    Config::from_toml(toml).map_or_else(|error| told(&error), |_| format!("accepted: {toml}"))
}

fn told(error: &Error) -> String {
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

const ADAPTERS: &str = "memory, rabbitmq, activemq, kafka, aws, sqs, sns, kinesis, tcp, uds, multicast";

#[test]
fn unknown_keys_are_named_at_every_level() {
    let broker = format!("the keys are: url, tls, auth; tables of adapters: {ADAPTERS}");
    let channel = format!(
        "the keys are: broker, address, declare, headers, kind, order-per-key, durable, delayed-retry, \
         expired-to-dead-letter, dead-letter-after, largest-message, bounded; tables of adapters: {ADAPTERS}"
    );
    for (document, path, help) in [
        (
            "broker.main.url = ''",
            "broker",
            "did you mean `brokers`? the keys are: default, brokers, channels",
        ),
        ("zzz = 1", "zzz", "the keys are: default, brokers, channels"),
        ("brokers.main.ulr = 'x'", "brokers.main.ulr", &format!("did you mean `url`? {broker}")),
        ("brokers.main.kafak = 1", "brokers.main.kafak", &format!("did you mean `kafka`? {broker}")),
        ("brokers.main.amqps = 1", "brokers.main.amqps", &format!("did you mean `rabbitmq`? {broker}")),
        (
            "brokers.main = { url = 'x', tls = { server_name = 'x' } }",
            "brokers.main.tls.server_name",
            "did you mean `server-name`? the keys are: ca, cert, key, server-name",
        ),
        (
            "brokers.main = { url = 'x', tls = { insecure = true } }",
            "brokers.main.tls.insecure",
            "the keys are: ca, cert, key, server-name",
        ),
        (
            "brokers.main = { url = 'x', auth = { user = 'x' } }",
            "brokers.main.auth.user",
            "the keys are: kind, username, password, token",
        ),
        (
            "brokers.main.url = { envi = 'x' }",
            "brokers.main.url.envi",
            "did you mean `env`? the keys are: env, file",
        ),
        (
            "channels.'a.b'.order_per_key = true",
            "channels.\"a.b\".order_per_key",
            &format!("did you mean `order-per-key`? {channel}"),
        ),
        (
            "channels.a.headers.content-typ = 'x'",
            "channels.a.headers.content-typ",
            "did you mean `content-type`? the keys are: type, id, key, correlation-id, reply-to, time, kind, content-type",
        ),
    ] {
        assert_eq!(refused(document), format!("{path}: unknown key\n  = help: {help}"));
    }
}

#[test]
fn wrong_types_and_values_are_named() {
    for (document, text) in [
        ("default = 1", "default: expected text, found a whole number"),
        ("brokers = 1.5", "brokers: expected a table, found a number"),
        ("brokers.main = 'hunter2'", "brokers.main: expected a table, found text"),
        (
            "brokers.main.url = ['hunter2']",
            "brokers.main.url: expected text, `{ env = \"NAME\" }` or `{ file = \"path\" }`, found a list",
        ),
        (
            "brokers.main.url = { env = 'A', file = 'B' }",
            "brokers.main.url: expected text, `{ env = \"NAME\" }` or `{ file = \"path\" }`",
        ),
        ("brokers.main.url.env = true", "brokers.main.url.env: expected text, found a boolean"),
        (
            "[brokers.main]\nurl = 'x'\ntls = 'hunter2'",
            "brokers.main.tls: expected `true`, `false` or a table, found text",
        ),
        ("[brokers.main]\nurl = 'x'\ntls.ca = {}", "brokers.main.tls.ca: expected text, found a table"),
        ("[brokers.main]\nurl = 'x'\nauth = 'hunter2'", "brokers.main.auth: expected a table, found text"),
        (
            "[brokers.main]\nurl = 'x'\nauth.password = 12345",
            "brokers.main.auth.password: expected text, `{ env = \"NAME\" }` or `{ file = \"path\" }`, found a whole number",
        ),
        (
            "[brokers.main]\nurl = 'x'\nkafka = 1",
            "brokers.main.kafka: expected a table, found a whole number",
        ),
        (
            "[brokers.main]\nurl = 'x'\ntls.key = 'x'",
            "brokers.main.tls: `key` without `cert`\n  = help: a client's certificate and its key go together; they may name \
             one file",
        ),
        (
            "[brokers.main]\nurl = 'x'\ntls.cert = 'x'",
            "brokers.main.tls: `cert` without `key`\n  = help: a client's certificate and its key go together; they may name \
             one file",
        ),
        (
            "[brokers.main]\ntls = true",
            "brokers.main: the key `url` is missing\n  = help: say where the broker is, such as `url = \"memory://main\"`",
        ),
        ("channels.a.address = 1", "channels.a.address: expected text or a table, found a whole number"),
        ("channels.a.durable = 'yes'", "channels.a.durable: expected `true` or `false`, found text"),
        ("channels.a.bounded = true", "channels.a.bounded: expected a whole number, found a boolean"),
        (
            "channels.a.dead-letter-after = 0",
            "channels.a.dead-letter-after: the number must be at least 1, and not beyond what a count can hold",
        ),
        (
            "channels.a.dead-letter-after = 4294967296",
            "channels.a.dead-letter-after: the number must be at least 1, and not beyond what a count can hold",
        ),
        (
            "channels.a.declare = 'allways'",
            "channels.a.declare: there is no choice `allways`\n  = help: the choices are: if-missing, verify, never",
        ),
        (
            "channels.a.declare = 'ifmissing'",
            "channels.a.declare: there is no choice `ifmissing`\n  = help: did you mean `if-missing`? the choices are: \
             if-missing, verify, never",
        ),
        (
            "channels.a.kind = 'publish_subscribe'",
            "channels.a.kind: there is no choice `publish_subscribe`\n  = help: did you mean `publish-subscribe`? the choices \
             are: point-to-point, publish-subscribe",
        ),
        ("channels.a.headers.id = 1", "channels.a.headers.id: expected text, found a whole number"),
        (
            "channels.a.kafka.list = [1, { since = 2024-01-01 }]",
            "channels.a.kafka.list.since: there are no dates in configuration\n  = help: put it in quotes",
        ),
    ] {
        assert_eq!(refused(document), text, "{document}");
    }
}

#[test]
fn what_is_not_toml_is_named_by_line_and_never_quoted() {
    for (document, text) in [
        ("[brokers.main]\nurl = hunter2\n", "line 2: "),
        ("[brokers.main]\nurl = 'a'\nurl = 'hunter2'\n", "line 3: duplicate key"),
        ("\n\n[brokers.main", "line 3: unclosed table, expected `]`"),
        ("password = \"hunter2", "line 1: "),
    ] {
        let error = Config::from_toml(document).unwrap_err();
        assert!(told(&error).starts_with(text), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn a_file_is_named() {
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("messaging-{}.toml", std::process::id()));
    let file = path.display();
    assert_eq!(told(&Config::load(&path).unwrap_err()), format!("the file `{file}` does not exist"));
    for (content, text) in [
        (&b"\xff"[..], format!("the file `{file}` is not UTF-8")),
        (b"[brokers.main]\n]", format!("{file}: line 2: ")),
        (b"default = 1", format!("{file}: default: expected text, found a whole number")),
    ] {
        fs::write(&path, content).unwrap();
        let error = told(&Config::load(&path).unwrap_err());
        assert!(error.starts_with(&text), "{error}");
    }
    fs::write(&path, "brokers.main.url = 'memory://main'").unwrap();
    assert_eq!(Config::load(&path).unwrap(), Config::url("memory://main").unwrap());
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_bare_url_is_checked_at_once() {
    assert_eq!(
        told(&Config::url("memory://h:hunter2").unwrap_err()),
        "brokers.main.url: a port is not a number from 1 to 65535\n  = help: write `host:port`; in a password write `%2F` for \
         `/`, `%3F` for `?`, `%23` for `#`"
    );
    assert_eq!(
        told(&Config::url("activemq://localhost").unwrap_err()),
        format!(
            "brokers.main.url: anybroker {} has no adapter `activemq` yet\n  = help: this version has: memory, rabbitmq, kafka",
            env!("CARGO_PKG_VERSION")
        )
    );
}

const DOCUMENT: &str = r#"
default = "main"
[brokers.main]
url = "memory+tls://u:hunter2@a:1,[::1]:2/v?password=hunter2"
tls = { ca = "ca.pem" }
auth = { kind = "plain", username = "svc", password = "hunter2", token = { env = "TOKEN" } }
kafka = { linger = 5, password = "hunter2" }
[brokers.events]
url = { file = "/run/secrets/url" }
tls = true
[channels.orders]
broker = "events"
address = "prod.orders.v1"
declare = "never"
kind = "point-to-point"
kafka = { partitions = 12, password = "hunter2" }
headers = { type = "eventType", id = "x-message-id" }
"#;

#[test]
fn every_source_gives_the_same_configuration() {
    let json = serde_json::json!({
        "default": "main",
        "brokers": {
            "main": {
                "url": "memory+tls://u:hunter2@a:1,[::1]:2/v?password=hunter2",
                "tls": { "ca": "ca.pem" },
                "auth": { "kind": "plain", "username": "svc", "password": "hunter2", "token": { "env": "TOKEN" } },
                "kafka": { "linger": 5, "password": "hunter2" },
            },
            "events": { "url": { "file": "/run/secrets/url" }, "tls": true },
        },
        "channels": {
            "orders": {
                "broker": "events",
                "address": "prod.orders.v1",
                "declare": "never",
                "kind": "point-to-point",
                "kafka": { "partitions": 12, "password": "hunter2" },
                "headers": { "type": "eventType", "id": "x-message-id" },
            },
        },
    });
    let settings = |key: &str, value| -> Settings {
        let password = Value::String("hunter2".to_owned());
        [(key.to_owned(), Value::Integer(value)), ("password".to_owned(), password)].into_iter().collect()
    };
    let mut tls = Tls::default();
    tls.ca = Some("ca.pem".to_owned());
    let auth =
        Auth::new().kind("plain").username("svc").password("hunter2").token(SecretSource::env("TOKEN"));
    let built = Config::new()
        .default_broker("main")
        .broker(
            "main",
            Broker::new("memory+tls://u:hunter2@a:1,[::1]:2/v?password=hunter2")
                .tls(tls)
                .auth(auth)
                .settings("kafka", settings("linger", 5)),
        )
        .broker("events", Broker::new(SecretSource::file("/run/secrets/url")).tls(Tls::default()))
        .channel(
            "orders",
            Channel::new()
                .broker("events")
                .address(Address::Name("prod.orders.v1".to_owned()))
                .declare(Declare::Never)
                .kind(ChannelKind::PointToPoint)
                .settings("kafka", settings("partitions", 12))
                .header(Field::Type, "eventType")
                .header(Field::Id, "x-message-id"),
        );
    let toml = Config::from_toml(DOCUMENT).unwrap();
    assert_eq!(serde_json::from_value::<Config>(json).unwrap(), toml);
    assert_eq!(built, toml);
}

#[test]
fn errors_of_other_sources_name_the_path_too() {
    let error =
        serde_json::from_str::<Config>(r#"{ "brokers": { "main": { "ulr": "hunter2" } } }"#).unwrap_err();
    assert!(
        error.to_string().starts_with("brokers.main.ulr: unknown key\n  = help: did you mean `url`?"),
        "{error}"
    );
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", Config::from_toml(DOCUMENT).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    for visible in [
        "\"memory+tls://a:1,[::1]:2/v?password=..\"",
        "Env(\"TOKEN\")",
        "File(\"/run/secrets/url\")",
        "{\"linger\", \"password\"}",
        "{\"partitions\", \"password\"}",
        "password: Some(Literal((secret)))",
    ] {
        assert!(shown.contains(visible), "{visible} in {shown}");
    }
}
