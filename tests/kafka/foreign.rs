//! Kafka's own tools, in Java, read what we send and send what we read: nothing of ours is needed on their side.

use crate::server::Server;
use crate::trials::fresh;
use crate::{Part, Tried, part};
use anybroker::adapter::{MessageKey, Timestamp};
use anybroker::channel::ChannelKind;
use anybroker::message::{Bytes, Kind};
use anybroker::{Broker, Channel, Config, Consumer, Delivery, Message};
use libtest_mimic::Failed;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const PARTS: &[Part] = &[
    part("foreign/reads-ours", |server| Box::pin(reads_ours(server))),
    part("foreign/is-read", |server| Box::pin(is_read(server))),
    part("foreign/keys-have-the-same-partition", |server| Box::pin(same_partition(server))),
    part("foreign/dead-letters", |server| Box::pin(dead_letters(server))),
    part("foreign/groups", |server| Box::pin(groups(server))),
];

/// What a null is for the tools here, in and out.
const NULL: &str = "<null>";

async fn reads_ours(server: Arc<Server>) -> Tried {
    let (broker, channel) = open_with_one_partition(&server).await?;
    let mut message = Message::new("café")
        .with_id("m-1")
        .with_key("table 7")
        .with_type("order-placed")
        .with_correlation_id("visit 3")
        .with_content_type("text/plain")
        .with_header("traceparent", "00-1-2-03")
        .with_header("waiter", "Ada")
        .with_header("waiter", "Grace")
        .with_header("empty", "");
    message.set_time(Some(Timestamp::from_millis(1_700_000_000_123)));
    message.set_kind(Some(Kind::Event));
    message.set_reply_to(Some("replies/0/ada".into()));
    message.headers_mut().append("absent", None::<Bytes>);
    broker.send(&channel, message).await?;
    broker.send(&channel, Message::tombstone("table 8").with_id("m-2")).await?;
    broker.send(&channel, Message::new("").with_id("m-3")).await?;

    let seen = consume(&server, channel.name(), 3).await?;
    same(
        &seen[0],
        "ce_id:m-1,ce_time:2023-11-14T22:13:20.123Z,ce_type:order-placed,content-type:text/plain,ce_kind:event,ce_correlationid:visit 3,\
         ce_replyto:replies/0/ada,traceparent:00-1-2-03,waiter:Ada,waiter:Grace,empty:,absent:<null>~table 7~café",
    )?;
    // A message without a time has one in its record all the same, and a header that takes it back.
    same(&seen[1].replace(",ce_time:<null>", ""), "ce_id:m-2~table 8~<null>")?;
    same(&seen[2].replace(",ce_time:<null>", ""), "ce_id:m-3~<null>~")?;
    close(broker, channel).await
}

async fn is_read(server: Arc<Server>) -> Tried {
    let (broker, channel) = open_with_one_partition(&server).await?;
    let mut consumer = broker.consumer(&channel).await?;
    let lines = [
        "ce_id:t-1,ce_type:order-placed,content-type:text/plain,ce_correlationid:visit 3,waiter:Ada,waiter:Grace,absent:<null>,empty:~table 7~café",
        "till:3~table 8~<null>",
        "till:4~<null>~no key",
        "till:5~table 9~",
    ];
    produce(&server, channel.name(), &lines.join("\n")).await?;

    let full = next(&mut consumer).await?;
    let message = full.message();
    assert_eq!(message.body(), "café".as_bytes());
    assert_eq!(message.key(), Some(&MessageKey::from("table 7")));
    assert_eq!(message.id().map(ToString::to_string).as_deref(), Some("t-1"));
    let fields = [message.type_name(), message.content_type(), message.correlation_id(), message.reply_to()];
    let fields = fields.map(|field| field.map(ToString::to_string).unwrap_or_default());
    assert_eq!(fields, ["order-placed", "text/plain", "visit 3", ""]);
    assert!(message.time().is_some(), "the record's own");
    let headers: Vec<_> =
        message.headers().iter().map(|(name, value)| (name.as_str(), value.map(|v| &v[..]))).collect();
    let some = |value: &'static str| Some(value.as_bytes());
    let expected =
        [("waiter", some("Ada")), ("waiter", some("Grace")), ("absent", None), ("empty", some(""))];
    assert_eq!(headers, expected);
    full.ack();

    let tombstone = next(&mut consumer).await?;
    assert_eq!(tombstone.message().payload(), None);
    assert_eq!(tombstone.message().key(), Some(&MessageKey::from("table 8")));
    assert!(tombstone.message().id().is_none(), "made up: {:?}", tombstone.message());
    tombstone.ack();
    let keyless = next(&mut consumer).await?;
    assert_eq!((keyless.message().key(), keyless.message().body()), (None, &b"no key"[..]));
    keyless.ack();
    let empty = next(&mut consumer).await?;
    assert_eq!(empty.message().payload().map(|payload| payload.len()), Some(0));
    empty.ack();
    close(broker, channel).await
}

/// What both send with one key is in one partition, or its order would be nobody's.
async fn same_partition(server: Arc<Server>) -> Tried {
    const KEYS: usize = 10_000;
    let name = fresh("foreign");
    let config =
        format!("[brokers.main]\nurl = \"{}\"\n[channels.{name}]\nkafka.partitions = 7\n", server.url);
    let broker = Broker::open(Config::from_toml(&config)?).await?;
    let channel = Channel::named(ChannelKind::PointToPoint, name).order_per_key();
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let ours = keys.iter().map(|key| Message::new("ours").with_key(key.as_str()));
    let sent = broker.producer(&channel).await?.send_all(ours).await;
    sent.into_iter().collect::<Result<Vec<_>, _>>()?;
    let theirs: Vec<String> = keys.iter().map(|key| format!("till:1~{key}~theirs")).collect();
    produce(&server, channel.name(), &theirs.join("\n")).await?;

    let mut places: BTreeMap<Vec<u8>, Vec<i32>> = BTreeMap::new();
    for record in server.records(channel.name()).await? {
        places.entry(record.key.ok_or("no key")?).or_default().push(record.partition);
    }
    assert_eq!(places.len(), KEYS);
    let apart = places.values().filter(|at| at.len() != 2 || at[0] != at[1]).count();
    assert_eq!(apart, 0, "of {KEYS} keys have two partitions");
    let used: std::collections::BTreeSet<_> = places.values().flatten().collect();
    assert_eq!(used.len(), 7, "the keys are not spread");
    close(broker, channel).await
}

/// Of any length, beyond ASCII, and without what separates fields.
fn key(number: usize) -> String {
    let letters = ["k", "é", "鍵", "🗝", "-"];
    let filling = (0..number % 23).map(|at| letters[(number / 23 + at) % letters.len()]);
    format!("{number}{}", filling.collect::<String>())
}

async fn dead_letters(server: Arc<Server>) -> Tried {
    let (broker, channel) = open_with_one_partition(&server).await?;
    let mut consumer = broker.consumer(&channel).await?;
    produce(&server, channel.name(), "ce_id:t-1,till:3~table 7~theirs").await?;
    next(&mut consumer).await?.reject("no such dish").await?;
    let seen = consume(&server, &format!("{}..dead-letters", channel.name()), 1).await?;
    for part in [
        "ce_id:t-1,",
        ",till:3,",
        "anybroker-dead-letter-reason:no such dish",
        "anybroker-dead-letter-attempts:1",
        &format!("anybroker-dead-letter-origin:{}", channel.name()),
        "~table 7~theirs",
    ] {
        assert!(seen[0].contains(part), "{part} is missing: {}", seen[0]);
    }
    close(broker, channel).await
}

/// Their tools see our positions, and what is committed by them is where we go on.
async fn groups(server: Arc<Server>) -> Tried {
    let (broker, channel) = open_with_one_partition(&server).await?;
    let mut consumer = broker.consumer(&channel).await?;
    let lines: Vec<String> = (0..10).map(|number| format!("till:1~table~{number}")).collect();
    produce(&server, channel.name(), &lines.join("\n")).await?;
    for _ in 0..4 {
        next(&mut consumer).await?.ack().await?;
    }
    consumer.close().await?;
    let name = channel.name();
    let group = ["consumer-groups", "--group", name];
    let described = server.tool(&[&group[..], &["--describe"]].concat(), String::new()).await?;
    let line = described.lines().find(|line| line.contains(name)).ok_or("no such group")?;
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        columns[..6],
        [name, name, "0", "4", "10", "6"],
        "group, topic, partition, position, end, lag"
    );

    let moving = ["--reset-offsets", "--to-offset", "7", "--topic", name, "--execute"];
    server.tool(&[&group[..], &moving].concat(), String::new()).await?;
    let mut consumer = broker.consumer(&channel).await?;
    let delivery = next(&mut consumer).await?;
    assert_eq!(delivery.message().body(), b"7");
    delivery.ack();
    consumer.close().await?;
    close(broker, channel).await
}

/// What is sent stays in order.
async fn open_with_one_partition(server: &Server) -> Result<(Broker, Channel), Failed> {
    let name = fresh("foreign");
    let config =
        format!("[brokers.main]\nurl = \"{}\"\n[channels.{name}]\nkafka.partitions = 1\n", server.url);
    let broker = Broker::open(Config::from_toml(&config)?).await?;
    let channel = Channel::named(ChannelKind::PointToPoint, name);
    broker.producer(&channel).await?;
    Ok((broker, channel))
}

async fn close(broker: Broker, channel: Channel) -> Tried {
    broker.delete(channel.dead_letters()).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, Failed> {
    let received = crate::wait::within(crate::wait::HANG, consumer.receive()).await;
    Ok(received.ok_or("nothing came")??.ok_or("closed")?)
}

fn same(seen: &str, expected: &str) -> Tried {
    match seen == expected {
        true => Ok(()),
        false => Err(format!("the tool saw {seen}\n    instead of {expected}").into()),
    }
}

/// Has the console producer send lines of `header:value,header:value~key~value`.
async fn produce(server: &Server, topic: &str, lines: &str) -> Tried {
    let properties = [
        "parse.key=true",
        "parse.headers=true",
        "key.separator=~",
        "headers.delimiter=~",
        "headers.separator=,",
        &format!("null.marker={NULL}"),
    ];
    let option = property_option(server, "--reader-property");
    let arguments = with_properties(&["console-producer", "--topic", topic], option, &properties);
    server.tool(&arguments, format!("{lines}\n")).await.map(drop)
}

/// What the console consumer writes of the first records: lines like those.
async fn consume(server: &Server, topic: &str, count: usize) -> Result<Vec<String>, Failed> {
    let properties = [
        "print.key=true",
        "print.headers=true",
        "key.separator=~",
        "headers.separator=,",
        &format!("null.literal={NULL}"),
    ];
    let count = count.to_string();
    let tool = [
        "console-consumer",
        "--topic",
        topic,
        "--from-beginning",
        "--timeout-ms",
        "15000",
        "--max-messages",
        &count,
    ];
    let option = property_option(server, "--formatter-property");
    let seen = server.tool(&with_properties(&tool, option, &properties), String::new()).await?;
    Ok(seen.lines().map(String::from).collect())
}

/// What Kafka 4 calls it. There the name that it has in Kafka 3 writes a warning among the records.
fn property_option(server: &Server, option: &'static str) -> &'static str {
    match server.name {
        "kafka3" => "--property",
        _ => option,
    }
}

fn with_properties<'a>(tool: &[&'a str], option: &'a str, properties: &[&'a str]) -> Vec<&'a str> {
    let properties = properties.iter().flat_map(|property| [option, property]);
    tool.iter().copied().chain(properties).collect()
}
