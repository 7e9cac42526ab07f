//! What is sent arrives as it was, byte for byte, or is refused.

use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::Lab;
use crate::adapter::{ErrorKind, Kind, Message, MessageKey, SendOutcome, Timestamp};
use bytes::Bytes;

pub(super) const CHECKS: &[Check] = &[
    check!("fidelity/payload-bytes", payload_bytes),
    check!("fidelity/payload-at-the-limit", payload_at_the_limit),
    check!("fidelity/every-field", every_field),
    check!("fidelity/absent-fields", absent_fields),
    check!("fidelity/ids-of-callers", ids_of_callers),
    check!("fidelity/keys", keys),
    check!("fidelity/times", times),
    check!("fidelity/header-text", header_text),
    check!("fidelity/header-order", header_order),
    check!("fidelity/header-absent-value", header_absent_value),
    check!("fidelity/header-hostile", header_hostile),
    check!("fidelity/header-named-like-a-field", header_named_like_a_field),
    check!("fidelity/through-the-broker", through_the_broker),
];

async fn payload_bytes(lab: Lab) -> Checked {
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads = [
        Bytes::new(),
        Bytes::from_static(b"x"),
        Bytes::from_static(b"\0"),
        Bytes::from_static(b"\xff\xfe\xc3\x28"),
        Bytes::from_static(b"{\"json\": \"\xe2\x98\x83\"}\r\n"),
        Bytes::from(every_byte.repeat(128)),
    ];
    intact(&lab, payloads.map(Message::new).into()).await
}

async fn payload_at_the_limit(lab: Lab) -> Checked {
    const PRACTICAL: usize = 64 << 20;
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&lab.route(|channel| channel)).await?;
    let limit = match outlet.capabilities.max_message_bytes {
        Some(limit) if limit <= PRACTICAL => limit,
        Some(limit) => {
            return Err(Stop::Skipped(format!("the limit of {limit} bytes is not practical to try")));
        }
        None => return Err(Stop::Skipped(String::from("the channel declares no largest message"))),
    };
    let pattern = Bytes::from_iter((0..limit).map(|n| u8::try_from(n % 251).unwrap_or(0)));
    let of_length = |length: usize| Message::new(pattern.slice(..length)).with_id("at-the-limit");
    // The wire form may grow faster than the payload: look for the largest payload that still fits.
    let (mut fits, mut too_large) = (0, limit + 1);
    while too_large - fits > 1 {
        let middle = usize::midpoint(fits, too_large);
        match outlet.sender.measure(&of_length(middle))? <= limit {
            true => fits = middle,
            false => too_large = middle,
        }
    }
    let largest = of_length(fits);
    outlet.send(std::slice::from_ref(&largest)).await?;
    let (arrived, delivery) = inlet.message().await?;
    same(&largest, &arrived)?;
    inlet.ack(&delivery).await?;
    link.close().await
}

async fn every_field(lab: Lab) -> Checked {
    let whole = |kind| {
        let mut message = Message::new("body")
            .with_id("0192f0c1-0000-7000-8000-000000000001")
            .with_kind(kind)
            .with_type("order-created")
            .with_key("key")
            .with_correlation_id("conversation 7")
            .with_reply_to("return address")
            .with_content_type("application/json; charset=utf-8")
            .with_expiry(Timestamp::from_millis(4_102_444_800_123))
            .with_header("plain", "value");
        message.set_time(Timestamp::from_millis(1_700_000_000_123));
        message
    };
    intact(&lab, [Kind::Document, Kind::Command, Kind::Event].map(whole).into()).await
}

async fn absent_fields(lab: Lab) -> Checked {
    let only = |set: fn(Message) -> Message| set(Message::new("body"));
    intact(
        &lab,
        vec![
            only(|message| message),
            only(|message| message.with_id("only an id")),
            only(|message| message.with_kind(Kind::Event)),
            only(|message| message.with_type("only-a-type")),
            only(|message| message.with_key("only a key")),
            only(|message| message.with_correlation_id("only a correlation id")),
            only(|message| message.with_content_type("text/plain")),
            only(|message| message.with_header("only", "a header")),
        ],
    )
    .await
}

async fn ids_of_callers(lab: Lab) -> Checked {
    let ids = [
        "42",
        "0192F0C1-0000-7000-8000-00000000ABCD",
        "{0192f0c1-0000-7000-8000-00000000abcd}",
        "0192f0c100007000800000000000abcd",
        "order/42#1 ü",
    ];
    intact_or_refused(&lab, ids.map(|id| Message::new("body").with_id(id)).into()).await
}

async fn keys(lab: Lab) -> Checked {
    let long = "k".repeat(200);
    let keys = [
        MessageKey::from("42"),
        MessageKey::from("Zürich ☃"),
        MessageKey::from(" padded "),
        MessageKey::from("a/b#c?d&e=f"),
        MessageKey::from(long),
        MessageKey::from(&b"\x00\xff\xfe"[..]),
        MessageKey::from(""),
    ];
    let keyed =
        |(n, key): (usize, MessageKey)| Message::new("body").with_id(format!("key-{n}")).with_key(key);
    intact_or_refused(&lab, keys.into_iter().enumerate().map(keyed).collect()).await
}

async fn times(lab: Lab) -> Checked {
    let moments = [0, 1, 999, 1_700_000_000_001, 253_402_300_799_999, -1, -62_135_596_800_000];
    let at = |millis: i64| {
        let mut message = Message::new("body").with_id(format!("time-{millis}"));
        message.set_time(Timestamp::from_millis(millis));
        message
    };
    intact_or_refused(&lab, moments.map(at).into()).await
}

async fn header_text(lab: Lab) -> Checked {
    let headers = [
        ("plain", String::from("value")),
        ("With-Capitals", String::from("VALUE")),
        ("ünï☃", String::from("wert ☃ 値")),
        ("empty", String::new()),
        ("padded", String::from("  two spaces each  ")),
        ("punctuated", String::from(r#"a=b; c="d", %41 + \ { } '"#)),
        ("long", "v".repeat(8 << 10)),
        ("dotted.and-dashed_1", String::from("1")),
    ];
    let with = |(name, value): (&'static str, String)| Message::new("body").with_header(name, value);
    intact_or_refused(&lab, headers.map(with).into()).await
}

async fn header_order(lab: Lab) -> Checked {
    let repeated = Message::new("body")
        .with_header("z", "1")
        .with_header("a", "2")
        .with_header("z", "3")
        .with_header("m", "4")
        .with_header("a", "2");
    let many = (0..40).fold(Message::new("body"), |message, n| {
        message.with_header(format!("h-{}", n * 7 % 40), n.to_string())
    });
    intact_or_refused(&lab, vec![repeated, many]).await
}

async fn header_absent_value(lab: Lab) -> Checked {
    let message = Message::new("body")
        .with_header("absent", None)
        .with_header("empty", "")
        .with_header("absent-too", None);
    intact_or_refused(&lab, vec![message]).await
}

async fn header_hostile(lab: Lab) -> Checked {
    let hostile: [(&str, &[u8]); 7] = [
        ("nul", b"a\0b"),
        ("break", b"a\r\nx-injected: b"),
        ("newline", b"a\nb"),
        ("name\0nul", b"a"),
        ("name\r\nbreak", b"a"),
        ("", b"no name"),
        ("bytes", b"\xff\xfe\x00\x80"),
    ];
    let with = |(name, value): (&'static str, &[u8])| Message::new("body").with_header(name, value);
    intact_or_refused(&lab, hostile.map(with).into()).await
}

async fn header_named_like_a_field(lab: Lab) -> Checked {
    let names = [
        "id",
        "key",
        "kind",
        "type",
        "time",
        "content-type",
        "Content-Type",
        "contentType",
        "correlation-id",
        "reply-to",
        "message-id",
        "ce_id",
        "ce_type",
        "ce-id",
        "cloudEvents:id",
        "cloudEvents_type",
        "anybroker",
        "anybroker-key",
        "traceparent",
        "x-delivery-count",
        "JMSXGroupID",
    ];
    let headers = names.map(|name| Message::new("body").with_header(name, "the caller's"));
    let beside_the_field = Message::new("body")
        .with_id("beside")
        .with_type("the-field")
        .with_header("type", "the caller's")
        .with_header("ce_type", "the caller's");
    let all = headers.into_iter().chain([beside_the_field]).collect();
    intact_or_refused(&lab, all).await
}

async fn through_the_broker(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lab.route(|channel| channel);
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let before = lab.clock().wall();
    let unnamed = Message::new(&b"\x00\xff"[..]).with_key("k").with_header("h", "1").with_header("h", "2");
    lab.send(&producer, &[unnamed.clone(), unnamed.clone()]).await?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let delivery = lab.next(&mut consumer).await?;
        let mut arrived = delivery.message().clone();
        ensure!(
            arrived.time().is_some_and(|time| time >= before),
            "sent at {before:?}, says {:?}",
            arrived.time()
        );
        ensure!(arrived.id().is_some_and(|id| id.as_uuid().is_some()), "no id was made: {arrived:?}");
        ids.push(arrived.id().cloned());
        arrived.set_id(None);
        arrived.set_time(None);
        same(&unnamed, &arrived)?;
        delivery.ack();
    }
    ensure!(ids[0] != ids[1], "two messages have the id {:?}", ids[0]);
    let mut named = Message::new("mine").with_id("an id of mine");
    named.set_time(Timestamp::from_millis(1_700_000_000_123));
    lab.send(&producer, std::slice::from_ref(&named)).await?;
    let delivery = lab.next(&mut consumer).await?;
    same(&named, delivery.message())?;
    delivery.ack();
    lab.close(&broker).await
}

/// Each message arrives as it was sent.
pub(super) async fn intact(lab: &Lab, messages: Vec<Message>) -> Checked {
    carried(lab, messages, false).await
}

/// Each message arrives as it was sent, or is refused and does not arrive.
pub(super) async fn intact_or_refused(lab: &Lab, messages: Vec<Message>) -> Checked {
    carried(lab, messages, true).await
}

async fn carried(lab: &Lab, messages: Vec<Message>, may_refuse: bool) -> Checked {
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&lab.route(|channel| channel)).await?;
    // One at a time: a message without an id is known by nothing else.
    for message in messages {
        let sent = match outlet.sender.measure(&message) {
            Err(error) => Err(error.with_outcome(SendOutcome::NotSent)),
            Ok(_) => outlet.try_send(std::slice::from_ref(&message)).await?.remove(0),
        };
        let Err(error) = sent else {
            let (arrived, delivery) = inlet.message().await?;
            same(&message, &arrived)?;
            inlet.ack(&delivery).await?;
            continue;
        };
        ensure!(may_refuse, "{message:?} was not accepted: {error:?}");
        let honest = matches!(
            error.kind(),
            ErrorKind::InvalidMessage | ErrorKind::PayloadTooLarge | ErrorKind::Rejected
        ) && error.outcome() != Some(SendOutcome::Unknown);
        ensure!(honest, "{message:?} was refused, but not for what it is: {error:?}");
    }
    inlet.silent("each message has arrived once").await?;
    link.close().await
}

/// The two messages are equal in every field.
pub(super) fn same(sent: &Message, arrived: &Message) -> Checked {
    let mut differences = Vec::new();
    let mut compare = |field: &str, sent: String, arrived: String| {
        if sent != arrived {
            differences.push(format!("{field}: sent {}, arrived {}", short(&sent), short(&arrived)));
        }
    };
    let show = |value: &dyn std::fmt::Debug| format!("{value:?}");
    compare("id", show(&sent.id()), show(&arrived.id()));
    compare("time", show(&sent.time()), show(&arrived.time()));
    compare("kind", show(&sent.kind()), show(&arrived.kind()));
    compare("type", show(&sent.type_name()), show(&arrived.type_name()));
    compare("key", show(&sent.key()), show(&arrived.key()));
    compare("correlation id", show(&sent.correlation_id()), show(&arrived.correlation_id()));
    compare("reply-to", show(&sent.reply_to()), show(&arrived.reply_to()));
    compare("content type", show(&sent.content_type()), show(&arrived.content_type()));
    compare("expiry", show(&sent.expires_at()), show(&arrived.expires_at()));
    compare("headers", show(&sent.headers()), show(&arrived.headers()));
    compare("payload", show(&sent.payload()), show(&arrived.payload()));
    ensure!(differences.is_empty(), "not as sent: {}", differences.join("; "));
    Ok(())
}

fn short(text: &str) -> String {
    const SHOWN: usize = 400;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
    }
}
