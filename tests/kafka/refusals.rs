//! Each mistake has an error of its own, in seconds, that says what to do and shows no password.

use crate::alone::{Scene, play};
use crate::server::Server;
use crate::trials::{free_port, fresh, refused, says};
use crate::wait::{HANG, now, sleep, within};
use crate::{Part, Tried, part};
use anybroker::adapter::{Declare, Tls};
use anybroker::channel::ChannelKind;
use anybroker::{Broker, Channel, Config, Error, ErrorKind, Message, config};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::span;

pub(crate) const PARTS: &[Part] = &[
    part("refusals/connecting", |server| Box::pin(connecting(server))),
    part("refusals/certificates", |server| Box::pin(certificates(server))),
    part("refusals/rights", |server| Box::pin(rights(server))),
    part("refusals/channels", |server| Box::pin(channels(server))),
    part("refusals/messages", |server| Box::pin(messages(server))),
    part("refusals/clusters", |server| Box::pin(clusters(server))),
    part("refusals/few-lines", |server| Box::pin(few_lines(server))),
];

pub(crate) const SCENES: &[Scene] = &[("nobody-there", |_, port| Box::pin(nobody_there(port)))];

async fn connecting(server: Arc<Server>) -> Tried {
    let wrong = server.sasl_url.replace("anybroker-pw", "wr0ng-passw0rd");
    says(&refused(Config::url(&wrong)?).await, ErrorKind::Unauthorized, &["password", "auth.kind"])?;
    // By a mechanism that the listener does not have, both ways.
    for url in [format!("{}?mechanism=plain", server.sasl_url), server.plain_url.clone()] {
        says(&refused(Config::url(&url)?).await, ErrorKind::Unauthorized, &["mechanism", "auth.kind"])?;
    }
    let right = [
        format!("{}?mechanism=plain", server.plain_url),
        format!("{}?mechanism=scram-sha-256", server.sasl_url),
        server.sasl_url.clone(),
    ];
    for url in right {
        carries(Config::url(&url)?).await?;
    }
    let nobody = format!("kafka://127.0.0.1:{}", free_port()?);
    says(&refused(Config::url(&nobody)?).await, ErrorKind::Unavailable, &["127.0.0.1", "host and port"])
}

async fn certificates(server: Arc<Server>) -> Tried {
    let file = |name: &str| Some(server.certificates.join(name).to_string_lossy().into_owned());
    let mut trusting = Tls::default();
    trusting.ca = file("ca.pem");
    let mut known = trusting.clone();
    (known.cert, known.key) = (file("server.pem"), file("server.key"));
    let with = |url: &str, tls: &Tls| Config::new().broker("main", config::Broker::new(url).tls(tls.clone()));

    let unknown = refused(Config::url(&server.tls_url)?).await;
    says(&unknown, ErrorKind::Unauthorized, &["certificate", "tls.ca"])?;
    let misnamed = refused(with(&server.misnamed_url, &trusting)).await;
    says(&misnamed, ErrorKind::Unauthorized, &["certificate"])?;
    let nameless = refused(with(&server.mutual_tls_url, &trusting)).await;
    says(&nameless, ErrorKind::Unauthorized, &["certificate"])?;
    // And the right ones carry a message.
    carries(with(&server.tls_url, &trusting)).await?;
    carries(with(&server.mutual_tls_url, &known)).await
}

/// A user who may do nothing, then write, then read, and then read as a member of the group.
async fn rights(server: Arc<Server>) -> Tried {
    let channel = channel();
    let name = channel.name();
    let own = server.open().await?;
    own.send(&channel, Message::new("for somebody with rights")).await?;
    // It makes what a consumer needs, too.
    own.consumer(&channel).await?.close().await?;
    let never = config::Channel::new().declare(Declare::Never);
    let limited = Broker::open(Config::url(&server.limited_url)?.channel(name, never)).await?;
    for error in [limited.producer(&channel).await.err(), limited.consumer(&channel).await.err()] {
        says(&error.ok_or("opened without any right")?, ErrorKind::Unauthorized, &[name, "right"])?;
    }
    let allow = async |operation: &'static str, what: &'static str| {
        let acl = [
            "acls",
            "--add",
            "--force",
            "--allow-principal",
            "User:limited",
            "--operation",
            operation,
            what,
            name,
        ];
        server.tool(&[&acl[..], &["--resource-pattern-type", "prefixed"]].concat(), String::new()).await
    };
    allow("Read", "--topic").await?;
    let error = until_other(&limited, &channel, name).await?;
    says(&error, ErrorKind::Unauthorized, &["group", name, "right"])?;
    let producer = limited.producer(&channel).await;
    let sent = match producer {
        Ok(producer) => producer.send(Message::new("")).await.err(),
        Err(error) => Some(error),
    };
    says(&sent.ok_or("sent without the right to write")?, ErrorKind::Unauthorized, &[name, "right"])?;
    allow("Read", "--group").await?;
    allow("Write", "--topic").await?;
    let patient = now() + HANG;
    let mut consumer = loop {
        match limited.consumer(&channel).await {
            Ok(consumer) => break consumer,
            Err(error) => later(patient, error).await?,
        }
    };
    let delivery = within(HANG, consumer.receive()).await.ok_or("nothing came")??.ok_or("closed")?;
    delivery.ack().await?;
    while let Err(error) = limited.send(&channel, Message::new("")).await {
        later(patient, error).await?;
    }
    limited.close().await?;
    own.delete(channel.dead_letters()).await?;
    own.delete(&channel).await?;
    own.close().await?;
    Ok(())
}

/// Waits for rights, which arrive at the broker a moment after they were given.
async fn later(patient: Instant, error: Error) -> Tried {
    if now() > patient {
        return Err(format!("with all rights: {error}").into());
    }
    sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Why the consumer does not open, once the topic is no reason any more.
async fn until_other(
    limited: &Broker,
    channel: &Channel,
    topic: &str,
) -> Result<Error, libtest_mimic::Failed> {
    let patient = now() + HANG;
    loop {
        let error = limited.consumer(channel).await.err().ok_or("opened without a right to the group")?;
        if !error.to_string().contains(&format!("topic `{topic}`")) || now() > patient {
            return Ok(error);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn channels(server: Arc<Server>) -> Tried {
    let channel = channel();
    let name = channel.name();
    let never = config::Channel::new().declare(Declare::Never);
    let broker = Broker::open(Config::url(&server.url)?.channel(name, never)).await?;
    for error in [broker.producer(&channel).await.err(), broker.consumer(&channel).await.err()] {
        let error = error.ok_or("opened what does not exist")?;
        says(&error, ErrorKind::NotFound, &["there is no", name, "declare"])?;
    }
    broker.close().await?;
    let with = async |settings: &str| {
        let config = format!("[brokers.main]\nurl = \"{}\"\n[channels.{name}]\n{settings}\n", server.url);
        Broker::open(Config::from_toml(&config)?).await
    };
    with("kafka.partitions = 2").await?.producer(&channel).await?;
    let other = with("kafka.partitions = 3").await?.producer(&channel).await.err().ok_or("two numbers")?;
    says(&other, ErrorKind::Conflict, &[name, "partitions", "2", "3"])?;
    let table =
        with("address = { topic = \"other\" }").await?.producer(&channel).await.err().ok_or("a table")?;
    says(&table, ErrorKind::Config, &["address", "table"])?;
    let spaced = with("address = \"the topic\"").await?.producer(&channel).await.err().ok_or("a space")?;
    says(&spaced, ErrorKind::Config, &["the topic", "letters"])?;
    let broker = server.open().await?;
    let bounded = broker.producer(&channel.clone().bounded(10)).await.err().ok_or("bounded")?;
    says(&bounded, ErrorKind::Unsupported, &["bounded", name])?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn messages(server: Arc<Server>) -> Tried {
    let broker = server.open().await?;
    let channel = channel();
    let producer = broker.producer(&channel).await?;
    // Kafka's own bound for a batch, unless the topic says otherwise.
    let large = Message::new(vec![b'x'; 1_048_588]);
    let error = producer.send(large).await.err().ok_or("it was taken")?;
    says(&error, ErrorKind::PayloadTooLarge, &["1048588"])?;
    let zero = Message::new("").with_header("a\0b", "v");
    says(&producer.send(zero).await.err().ok_or("it was taken")?, ErrorKind::InvalidMessage, &["NUL"])?;
    // The topic goes while the sender is open: what nobody keeps is not taken for sent.
    broker.delete(&channel).await?;
    let sent = within(HANG * 3, producer.send(Message::new(""))).await.ok_or("a send that does not end")?;
    match sent {
        // Declared anew on the way.
        Ok(_) => {}
        Err(error) => says(&error, ErrorKind::Timeout, &[channel.name(), "unknown"])?,
    }
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn clusters(server: Arc<Server>) -> Tried {
    let url = format!("kafka://127.0.0.1:{},{}", free_port()?, server.address());
    carries(Config::url(&url)?).await
}

async fn few_lines(server: Arc<Server>) -> Tried {
    let wrote = play(&server, "nobody-there", &free_port()?.to_string()).await?;
    let count = wrote.lines().count();
    eprintln!("{}: {count} lines while no broker was there for {AWAY:?}", server.name);
    match (1..=MOST_LINES).contains(&count) {
        true => Ok(()),
        false => Err(format!("{count} lines, expected 1 to {MOST_LINES}:\n{wrote}").into()),
    }
}

/// How long a process finds no broker, and how much it may write then, with two handles of each kind: a line for each that something has changed, and some more.
const AWAY: Duration = Duration::from_secs(10);
const MOST_LINES: usize = 20;

async fn nobody_there(port: String) -> Tried {
    tracing::subscriber::set_global_default(Lines)?;
    let config = Config::url(&format!("kafka://127.0.0.1:{port}"))?;
    let broker = Broker::builder().config(config).open_deadline(AWAY).open_lazy()?;
    let handles = async {
        let (one, two) = (channel(), channel());
        tokio::join!(
            broker.producer(&one),
            broker.producer(&two),
            broker.consumer(&one),
            broker.consumer(&two)
        )
    };
    // Lines are what must not come: there is nothing else to wait for.
    let _ = within(AWAY, handles).await;
    Ok(())
}

/// Writes what is logged, each event on a line of its own.
struct Lines;

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        eprintln!("{} {}", event.metadata().target(), line.0.replace('\n', " "));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

/// A message comes through.
async fn carries(config: Config) -> Tried {
    let broker = Broker::open(config).await?;
    let channel = channel();
    broker.send(&channel, Message::new("a message")).await?;
    let mut consumer = broker.consumer(&channel).await?;
    let delivery = within(HANG, consumer.receive()).await.ok_or("nothing came")??.ok_or("closed")?;
    assert_eq!(delivery.message().body(), b"a message");
    delivery.ack();
    consumer.close().await?;
    broker.delete(channel.dead_letters()).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

fn channel() -> Channel {
    Channel::named(ChannelKind::PointToPoint, fresh("refusals"))
}
