//! Another client, Python's pika, reads what we send and sends what we read: nothing of ours is needed on its side.

use crate::server::Server;
use crate::trials::fresh;
use crate::{Part, Tried, part};
use anybroker::adapter::{MessageKey, Timestamp};
use anybroker::channel::ChannelKind;
use anybroker::message::{Bytes, Kind};
use anybroker::rabbitmq::NativeHeaders;
use anybroker::rabbitmq::lapin::types::AMQPValue;
use anybroker::{Body, Broker, Channel, Command, Config, Consumer, Delivery, ErrorKind, Message};
use libtest_mimic::Failed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::process;
use std::sync::Arc;

pub(crate) const PARTS: &[Part] = &[
    part("foreign/reads-ours", |server| Box::pin(reads_ours(server))),
    part("foreign/is-read", |server| Box::pin(is_read(server))),
    part("foreign/in-order", |server| Box::pin(in_order(server))),
    part("foreign/dead-letters", |server| Box::pin(dead_letters(server))),
    part("foreign/answers", |server| Box::pin(answers(server))),
    part("foreign/asks", |server| Box::pin(asks(server))),
];

const TIME: i64 = 1_700_000_000_123;

async fn reads_ours(server: Arc<Server>) -> Tried {
    let broker = server.open().await?;
    let channel = channel();
    let mut message = Message::new(&b"caf\xc3\xa9 \x00\xff"[..])
        .with_id("m-1")
        .with_key("table 7")
        .with_type("order-placed")
        .with_correlation_id("visit 3")
        .with_content_type("text/plain")
        .with_header("traceparent", "00-1-2-03")
        .with_header("waiter", "Ada")
        .with_header("waiter", "Grace");
    message.set_time(Some(Timestamp::from_millis(TIME)));
    message.set_kind(Some(Kind::Event));
    message.set_reply_to(Some("anybroker.reply.nobody".into()));
    message.headers_mut().append("absent", None::<Bytes>);
    broker.send(&channel, message).await?;
    broker.send(&channel, Message::tombstone("table 8")).await?;

    let seen = pika(&server, "read", json!({"queue": channel.name(), "count": 2})).await?;
    let (full, bare) = (&seen[0], &seen[1]);
    same(
        &full["properties"],
        &json!({
            "content_type": "text/plain", "delivery_mode": 2, "correlation_id": "visit 3", "reply_to": "anybroker.reply.nobody",
            "message_id": "m-1", "timestamp": TIME / 1000, "type": "order-placed",
        }),
    )?;
    same(
        &full["headers"],
        &json!({
            "traceparent": "00-1-2-03", "waiter": ["Ada", "Grace"], "absent": null,
            "anybroker-headers": ["traceparent", "waiter", "waiter", "absent"],
            "cloudEvents:time": "2023-11-14T22:13:20.123Z", "cloudEvents:kind": "event", "cloudEvents:partitionkey": "table 7",
        }),
    )?;
    same(&full["body"], &json!({"bytes": "636166c3a92000ff"}))?;
    same(&bare["body"], &json!({"bytes": ""}))?;
    same(&bare["headers"]["cloudEvents:tombstone"], &json!(true))?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn is_read(server: Arc<Server>) -> Tried {
    let broker = server.open().await?;
    let channel = channel();
    let mut consumer = broker.consumer(&channel).await?;
    let headers = json!({
        "text": "t", "bytes": {"bytes": "00ff"}, "number": -7, "large": 1_i64 << 40, "yes": true, "nothing": null,
        "many": ["a", 2], "price": {"decimal": "3.14"}, "since": {"time": 1_700_000_000}, "table": {"inner": {"a": 1}},
    });
    let properties = json!({
        "message_id": "p-1", "type": "order-placed", "correlation_id": "visit 3", "reply_to": "kitchen",
        "content_type": "text/plain", "timestamp": 1_700_000_000, "headers": headers, "priority": 4, "app_id": "till",
    });
    let messages = json!([
        {"exchange": channel.name(), "routing_key": channel.name(), "body": "through the exchange", "properties": properties},
        {"routing_key": channel.name(), "body": {"bytes": "00ff"}},
        {"routing_key": channel.name()},
    ]);
    pika(&server, "publish", json!({"messages": messages})).await?;

    let full = next(&mut consumer).await?;
    let message = full.message();
    assert_eq!(message.body(), b"through the exchange");
    assert_eq!(message.id().map(ToString::to_string).as_deref(), Some("p-1"));
    let fields = [message.type_name(), message.correlation_id(), message.reply_to(), message.content_type()];
    let fields = fields.map(|field| field.map(ToString::to_string).unwrap_or_default());
    assert_eq!(fields, ["order-placed", "visit 3", "kitchen", "text/plain"]);
    assert_eq!(message.time(), Some(Timestamp::from_millis(1_700_000_000_000)));
    assert_eq!((message.kind(), message.key(), message.expires_at()), (None, None, None));
    let mut headers: Vec<_> = message
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.map(|value| value.to_vec())))
        .collect();
    headers.sort();
    let some = |value: &str| Some(value.as_bytes().to_vec());
    let expected = vec![
        ("bytes", Some(vec![0, 255])),
        ("large", some("1099511627776")),
        ("many", some("2")),
        ("many", some("a")),
        ("nothing", None),
        ("number", some("-7")),
        ("since", some("1700000000")),
        ("text", some("t")),
        ("yes", some("true")),
    ];
    assert_eq!(headers, expected);
    let native = full.extensions().get::<NativeHeaders>().ok_or("nothing native")?;
    assert!(native.0.contains_key("table") && native.0.contains_key("price"), "{native:?}");
    full.ack();

    let bytes = next(&mut consumer).await?;
    assert_eq!(bytes.message().body(), [0, 255]);
    assert!(bytes.message().id().is_none() && bytes.message().headers().is_empty(), "{:?}", bytes.message());
    bytes.ack();
    let empty = next(&mut consumer).await?;
    assert_eq!(empty.message().payload().map(|payload| payload.len()), Some(0));
    empty.ack();
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

/// With the bucket of a key as routing key, messages are where ours are; with the key itself, they are in order too.
async fn in_order(server: Arc<Server>) -> Tried {
    const KEYS: usize = 6;
    let broker = server.open().await?;
    let channel = channel().order_per_key();
    broker.send(&channel, Message::new("ours").with_key("table 7")).await?;
    let ours = pika(&server, "read_of", json!({"name": channel.name(), "key": "table 7"})).await?;
    same(&ours[0]["body"], &json!({"bytes": "6f757273"}))?;

    let mut consumer = broker.consumer(&channel).await?;
    let messages: Vec<_> = (0..40)
        .map(|n| {
            let key = format!("key {}", n % KEYS);
            let mut message = json!({"exchange": channel.name(), "body": n.to_string()});
            match n % 2 {
                0 => message["routing_key"] = json!(key),
                _ => {
                    message["properties"] = json!({"headers": {"cloudEvents:partitionkey": key}});
                    message["bucket_of"] = json!(key);
                }
            }
            message
        })
        .collect();
    pika(&server, "publish", json!({"messages": messages})).await?;
    let mut seen = vec![Vec::new(); KEYS];
    for _ in 0..40 {
        let delivery = next(&mut consumer).await?;
        let number: usize = std::str::from_utf8(delivery.message().body())?.parse()?;
        let key = format!("key {}", number % KEYS);
        assert_eq!(delivery.message().key(), Some(&MessageKey::from(key.as_str())));
        seen[number % KEYS].push(number);
        delivery.ack();
    }
    assert!(seen.iter().all(|numbers| numbers.is_sorted()), "{seen:?}");
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn dead_letters(server: Arc<Server>) -> Tried {
    let broker = server.open().await?;
    let channel = channel();
    let mut consumer = broker.consumer(&channel).await?;
    broker.send(&channel, Message::new("ours").with_id("m-1")).await?;
    next(&mut consumer).await?.reject("no such dish").await?;
    let queue = format!("{}#dead-letters", channel.name());
    let seen = pika(&server, "read", json!({"queue": queue})).await?;
    let letter = &seen[0];
    same(&letter["properties"]["message_id"], &json!("m-1"))?;
    same(&letter["headers"]["anybroker-dead-letter-reason"], &json!("no such dish"))?;
    same(&letter["headers"]["anybroker-dead-letter-attempts"], &json!("1"))?;
    same(&letter["headers"]["anybroker-dead-letter-origin"], &json!(channel.name()))?;
    same(&letter["body"], &json!({"bytes": "6f757273"}))?;
    consumer.close().await?;

    // And the other way: what another client rejects is ours to read, with what RabbitMQ says of it.
    broker.send(&channel, Message::new("theirs").with_id("m-2")).await?;
    pika(&server, "read", json!({"queue": channel.name(), "settle": "reject"})).await?;
    let mut letters = broker.consumer(channel.dead_letters()).await?;
    let letter = next(&mut letters).await?;
    assert_eq!(letter.message().body(), b"theirs");
    let native = letter.extensions().get::<NativeHeaders>().ok_or("nothing of the broker")?;
    let reason = native.0.inner().get("x-first-death-reason");
    assert_eq!(reason, Some(&AMQPValue::LongString("rejected".into())), "{native:?}");
    assert!(native.0.contains_key("x-death"), "{native:?}");
    letter.ack();
    letters.close().await?;
    broker.delete(channel.dead_letters()).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

/// We ask, pika answers.
async fn answers(server: Arc<Server>) -> Tried {
    let broker = server.open().await?;
    let channel = channel();
    broker.producer(&channel).await?;
    let answering =
        pika(&server, "answer", json!({"queue": channel.name(), "reply": {"body": "\"ready at noon\""}}));
    let (answer, request) = tokio::join!(broker.request(&channel, &Ask(String::from("when?"))), answering);
    assert_eq!(answer?, Answer(String::from("ready at noon")));
    let request = request?;
    same(&request["properties"]["type"], &json!("ask"))?;
    assert!(request["properties"]["reply_to"].as_str().unwrap_or_default().starts_with("anybroker.reply."));
    assert!(request["properties"]["correlation_id"].is_string(), "{request}");
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

/// Pika asks, we answer: by RabbitMQ's direct replies, and in a queue of its own where configuration allows it.
async fn asks(server: Arc<Server>) -> Tried {
    let own = fresh("their-replies");
    let config =
        format!("[brokers.main]\nurl = \"{}\"\nrabbitmq.reply-to = [\"their-replies\"]\n", server.url);
    let broker = Broker::open(Config::from_toml(&config)?).await?;
    let channel = channel();
    let mut consumer = broker.consumer(&channel).await?;
    let message =
        json!({"routing_key": channel.name(), "body": "when?", "properties": {"correlation_id": "their 1"}});
    for address in [None, Some(&own)] {
        let asking = pika(&server, "ask", json!({"message": message, "at": address}));
        let answering = async {
            let request = next(&mut consumer).await?;
            request.reply(Message::new("at noon")).await?;
            request.ack().await?;
            Ok::<_, Failed>(())
        };
        let (reply, answered) = tokio::join!(asking, answering);
        answered?;
        let reply = reply?;
        same(&reply["properties"]["correlation_id"], &json!("their 1"))?;
        same(&reply["body"], &json!({"bytes": "6174206e6f6f6e"}))?;
    }
    for address in [None, Some(fresh("their-replies"))] {
        pika(&server, "ask_and_leave", json!({"message": message, "at": address})).await?;
        let request = next(&mut consumer).await?;
        let gone = request.reply(Message::new("at noon")).await.expect_err("the requester is gone");
        assert!(matches!(gone.kind(), ErrorKind::Rejected | ErrorKind::NotFound), "{gone:?}");
        request.ack();
    }
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

#[derive(Debug, Serialize, Deserialize)]
struct Ask(String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Answer(String);

impl Body for Ask {
    const TYPE: &'static str = "ask";
}

impl Body for Answer {
    const TYPE: &'static str = "answer";
}

impl Command for Ask {
    type Reply = Answer;
}

fn channel() -> Channel {
    Channel::named(ChannelKind::PointToPoint, fresh("foreign"))
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, Failed> {
    let received = crate::wait::within(crate::wait::HANG, consumer.receive()).await;
    Ok(received.ok_or("nothing came")??.ok_or("closed")?)
}

fn same(seen: &Value, expected: &Value) -> Tried {
    match seen == expected {
        true => Ok(()),
        false => Err(format!("pika saw {seen}\n    instead of {expected}").into()),
    }
}

/// What pika saw while it did that.
async fn pika(server: &Server, command: &'static str, arguments: Value) -> Result<Value, Failed> {
    let url = server.url.clone();
    let running = tokio::task::spawn_blocking(move || {
        let python = output(&mut process::Command::new("scripts/python"))?;
        let mut client = process::Command::new(python.trim());
        client.args(["tests/pika/client.py", &url, command, &arguments.to_string()]);
        Ok::<_, Failed>(serde_json::from_str(&output(&mut client)?)?)
    });
    running.await?
}

fn output(command: &mut process::Command) -> Result<String, Failed> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => {
            Err(format!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr)).into())
        }
    }
}
