use super::*;
use anybroker_contract::{
    Bytes, ErrorKind, Headers, Kind, Message, MessageKey, Received, Text, Timestamp, Token,
};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::protocol::basic::{gen_properties, parse_properties};
use lapin::types::{AMQPValue, DecimalValue, FieldTable};

// --- what comes back

#[test]
fn every_field_comes_back() {
    let bare = || Message::new("body");
    for message in [
        Message::default(),
        Message::new(""),
        bare(),
        Message::tombstone("k"),
        bare().with_id("0192f0c1-0000-7000-8000-000000000001"),
        bare().with_id("0192F0C1-0000-7000-8000-000000000001"),
        bare().with_id("").with_type("").with_correlation_id("").with_reply_to("").with_content_type(""),
        bare().with_id("é".repeat(127)).with_type("t".repeat(255)).with_correlation_id("c\0\n"),
        bare().with_type("order-created"),
        bare().with_correlation_id("conversation"),
        bare().with_reply_to("anybroker.reply.1"),
        bare().with_content_type("application/json"),
        bare().with_kind(Kind::Document),
        bare().with_kind(Kind::Command),
        bare().with_kind(Kind::Event),
        bare().with_key(""),
        bare().with_key("k".repeat(300)),
        bare().with_key(&b"\xff\0\xfe"[..]),
        bare().with_time(Timestamp::from_millis(1_700_000_000_123)),
        bare().with_time(Timestamp::from_millis(0)),
        bare().with_time(Timestamp::from_millis(-1)),
        bare().with_expiry(Timestamp::from_millis(253_402_300_799_999)),
        Message::new(&b"\0\xff"[..]).with_header("h", &b"\xff\0"[..]),
        full(),
    ] {
        assert_eq!(there_and_back(&message), message);
    }
}

#[test]
fn headers_come_back_in_order_repeated_and_without_value() {
    let none: Option<Bytes> = None;
    for message in [
        Message::new("").with_header("a", "1").with_header("b", "2"),
        Message::new("").with_header("b", "1").with_header("a", "2"),
        Message::new("").with_header("a", "1").with_header("a", "1"),
        Message::new("").with_header("a", "1").with_header("b", "2").with_header("a", "3"),
        Message::new("").with_header("a", none.clone()),
        Message::new("").with_header("a", ""),
        Message::new("").with_header("a", none.clone()).with_header("a", "").with_header("a", none.clone()),
        Message::new("").with_header("a", "1").with_header("A", "2").with_header("é", "3"),
        Message::new("").with_header("n".repeat(255), "1"),
    ] {
        assert_eq!(there_and_back(&message), message);
    }
}

#[test]
fn headers_with_names_that_mean_something_else_come_back() {
    for name in RESERVED {
        let alone = Message::new("body").with_header(*name, "mine");
        assert_eq!(there_and_back(&alone), alone);
        let among = full()
            .with_header("z", "1")
            .with_header(*name, "mine")
            .with_header("b", "2")
            .with_header(*name, None);
        assert_eq!(there_and_back(&among), among);
        let table = encode(&alone).unwrap().headers().clone().unwrap();
        let field = table.inner().get(*name).and_then(AMQPValue::as_long_string);
        assert_ne!(field, Some(&"mine".into()), "`{name}` would be taken for the broker's or ours");
    }
}

#[test]
fn random_messages_come_back_and_are_measured() {
    let mut random = Random(0x5eed);
    for round in 0..5000 {
        let message = random.message();
        assert_eq!(there_and_back(&message), message, "round {round}");
        assert_eq!(
            measure(&message, usize::MAX).unwrap(),
            on_the_wire(&message),
            "round {round}: {message:?}"
        );
    }
}

// --- what foreign clients read

#[test]
fn native_fields_are_where_any_client_looks() {
    let properties = encode(&full()).unwrap();
    assert_eq!(properties.message_id(), &Some("id-1".into()));
    assert_eq!(properties.kind(), &Some("order".into()));
    assert_eq!(properties.correlation_id(), &Some("conversation".into()));
    assert_eq!(properties.reply_to(), &Some("anybroker.reply.1".into()));
    assert_eq!(properties.content_type(), &Some("application/json".into()));
    assert_eq!(properties.timestamp(), &Some(1_700_000_000), "in whole seconds");
    assert_eq!(properties.delivery_mode(), &Some(2), "survives a restart");
    let table = properties.headers().clone().unwrap();
    let shown: Vec<_> =
        table.inner().iter().map(|(name, value)| (name.as_str(), value.as_long_string())).collect();
    assert_eq!(
        shown,
        [
            ("a", Some(&"1".into())),
            (EXPIRY, Some(&"2023-11-14T22:13:21.000Z".into())),
            (KIND, Some(&"command".into())),
            (KEY, Some(&"42".into())),
            (TIME, Some(&"2023-11-14T22:13:20.123Z".into())),
        ],
        "and no list where headers are in the order of their names"
    );
}

#[test]
fn a_repeated_header_is_an_array() {
    let message = Message::new("").with_header("b", "1").with_header("a", "2").with_header("b", None);
    let table = encode(&message).unwrap().headers().clone().unwrap();
    assert_eq!(table.inner().get("b"), Some(&array(&[long("1"), AMQPValue::Void])));
    assert_eq!(table.inner().get("a"), Some(&long("2")));
    assert_eq!(table.inner().get(ORDER), Some(&array(&[long("b"), long("a"), long("b")])));
}

// --- what foreign clients write

#[test]
fn a_foreign_message_without_anything_is_a_message() {
    let received = receive(BasicProperties::default(), b"plain", "", true);
    assert_eq!(received.content.unwrap(), Message::new("plain"));
}

#[test]
fn foreign_fields_are_read() {
    let properties = BasicProperties::default()
        .with_message_id("7".into())
        .with_type("t".into())
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_content_type("text/plain".into())
        .with_timestamp(1_700_000_000);
    let expected = Message::new("x")
        .with_id("7")
        .with_type("t")
        .with_correlation_id("c")
        .with_reply_to("r")
        .with_content_type("text/plain")
        .with_time(Timestamp::from_millis(1_700_000_000_000));
    assert_eq!(message(properties, &[]), expected);
}

#[test]
fn a_timestamp_beyond_all_time_is_none() {
    for seconds in [u64::MAX, i64::MAX as u64] {
        let message = message(BasicProperties::default().with_timestamp(seconds), &[]);
        assert_eq!(message.time(), None, "{seconds}");
    }
}

#[test]
fn foreign_values_are_read_as_their_text() {
    for (value, text) in [
        (long("text"), "text"),
        (AMQPValue::ShortString("short".into()), "short"),
        (AMQPValue::Boolean(true), "true"),
        (AMQPValue::Boolean(false), "false"),
        (AMQPValue::ShortShortInt(-8), "-8"),
        (AMQPValue::ShortShortUInt(200), "200"),
        (AMQPValue::ShortInt(-300), "-300"),
        (AMQPValue::ShortUInt(60_000), "60000"),
        (AMQPValue::LongInt(-70_000), "-70000"),
        (AMQPValue::LongUInt(4_000_000_000), "4000000000"),
        (AMQPValue::LongLongInt(i64::MIN), "-9223372036854775808"),
        (AMQPValue::Float(1.5), "1.5"),
        (AMQPValue::Double(-0.25), "-0.25"),
        (AMQPValue::Double(1e21), "1000000000000000000000"),
        (AMQPValue::Timestamp(1_700_000_000), "1700000000"),
        (AMQPValue::ByteArray((&b"bytes"[..]).into()), "bytes"),
    ] {
        let read = message(BasicProperties::default(), &[("h", value.clone())]);
        assert_eq!(read, Message::new("x").with_header("h", text), "{value:?}");
    }
    let bytes = &b"\xff\0"[..];
    for value in [AMQPValue::ByteArray(bytes.into()), AMQPValue::LongString(bytes.to_vec().into())] {
        let read = message(BasicProperties::default(), &[("h", value)]);
        assert_eq!(read, Message::new("x").with_header("h", bytes));
    }
    let read = message(BasicProperties::default(), &[("h", AMQPValue::Void)]);
    assert_eq!(read, Message::new("x").with_header("h", None));
}

#[test]
fn a_foreign_array_is_a_repeated_header() {
    let value = array(&[long("a"), AMQPValue::LongInt(2), AMQPValue::Void, AMQPValue::Boolean(true)]);
    let read = message(BasicProperties::default(), &[("h", value)]);
    let expected = Message::new("x")
        .with_header("h", "a")
        .with_header("h", "2")
        .with_header("h", None)
        .with_header("h", "true");
    assert_eq!(read, expected);
    let one = message(BasicProperties::default(), &[("h", array(&[long("a")]))]);
    assert_eq!(one, Message::new("x").with_header("h", "a"));
}

#[test]
fn what_is_no_portable_header_is_an_extension() {
    let table = || AMQPValue::FieldTable([("inner", long("v"))].into_iter().collect_table());
    let odd = [
        ("array of arrays", array(&[array(&[long("v")])])),
        ("array of tables", array(&[long("v"), table()])),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("empty array", array(&[])),
        ("table", table()),
        ("x-death", array(&[table()])),
        ("x-delivery-count", AMQPValue::LongLongInt(3)),
        ("x-first-death-reason", long("rejected")),
        ("x-last-death-queue", long("orders")),
        ("CC", array(&[long("other")])),
    ];
    let received = foreign(BasicProperties::default(), &[&odd[..], &[("plain", long("v"))]].concat());
    let native = received.extensions().get::<NativeHeaders>().unwrap();
    assert_eq!(native.0, odd.iter().cloned().collect_table());
    assert_eq!(received.content.unwrap(), Message::new("x").with_header("plain", "v"));
    let ordinary = foreign(BasicProperties::default(), &[("plain", long("v"))]);
    assert!(ordinary.extensions().is_empty(), "most deliveries have none, and pay for none");
}

#[test]
fn a_routing_key_is_the_key_only_in_order_and_only_of_messages_that_say_nothing_else() {
    let key = |routing_key: &str, headers: &[(&str, AMQPValue)], keyed| {
        let properties = match headers.is_empty() {
            true => BasicProperties::default(),
            false => BasicProperties::default().with_headers(headers.iter().cloned().collect_table()),
        };
        receive(properties, b"x", routing_key, keyed).content.unwrap().key().cloned()
    };
    let some = |key: &str| Some(MessageKey::from(key));
    assert_eq!(key("42", &[], true), some("42"));
    assert_eq!(key("42", &[("other", long("h"))], true), some("42"));
    assert_eq!(key("42", &[], false), None);
    assert_eq!(key("", &[], true), None);
    assert_eq!(key("#42", &[], true), None, "it is a bucket");
    assert_eq!(key("42", &[(KEY, long("7"))], true), some("7"));
    assert_eq!(key("42", &[(KEY, long(""))], true), some(""));
    assert_eq!(key("42", &[(KEY, long("7"))], false), some("7"));
    assert_eq!(key("42", &[(KEY, AMQPValue::LongInt(7))], false), some("7"));
    assert_eq!(
        key("42", &[(KEY, AMQPValue::Void)], true),
        None,
        "it has none, and its routing key is made up"
    );
}

// --- what a foreign hop does to ours

#[test]
fn what_a_foreign_hop_adds_comes_behind() {
    let sent = Message::new("x").with_header("z", "1").with_header("a", "2").with_header("z", "3");
    let received = through(&sent, |table| {
        table.insert("x-hop".into(), long("new"));
        table.insert("b".into(), array(&[long("4"), long("5")]));
        table.insert("z".into(), array(&[long("1"), long("3"), long("6")]));
    });
    let expected =
        sent.with_header("b", "4").with_header("b", "5").with_header("x-hop", "new").with_header("z", "6");
    assert_eq!(received.content.unwrap(), expected);
}

#[test]
fn what_a_foreign_hop_changes_stays_in_its_place() {
    let sent = Message::new("x").with_header("z", "1").with_header("a", "2");
    let received = through(&sent, |table| {
        table.insert("z".into(), AMQPValue::LongInt(9));
    });
    assert_eq!(received.content.unwrap(), Message::new("x").with_header("z", "9").with_header("a", "2"));
}

#[test]
fn what_a_foreign_hop_takes_away_is_missing_and_nothing_else() {
    let sent = Message::new("x")
        .with_header("z", "1")
        .with_header("a", "2")
        .with_header("z", "3")
        .with_header("m", "4");
    let received = through(&sent, |table| {
        table.remove("a");
        table.insert("z".into(), long("1"));
    });
    assert_eq!(received.content.unwrap(), Message::new("x").with_header("z", "1").with_header("m", "4"));
    let received = through(&sent, |table| {
        table.retain(|name, _| name.as_str() == ORDER);
    });
    assert_eq!(received.content.unwrap(), Message::new("x"));
    // It has become what is no portable header.
    let received = through(&sent, |table| {
        table.insert("a".into(), AMQPValue::FieldTable(FieldTable::default()));
    });
    assert!(received.extensions().get::<NativeHeaders>().unwrap().0.contains_key("a"));
    let expected = Message::new("x").with_header("z", "1").with_header("z", "3").with_header("m", "4");
    assert_eq!(received.content.unwrap(), expected);
}

// --- what cannot be read

#[test]
fn malformed_headers_of_ours_are_undecodable_with_the_raw_body() {
    let nothing = AMQPValue::FieldTable(FieldTable::default());
    for (name, value) in [
        (TIME, long("yesterday")),
        (TIME, long("")),
        (TIME, AMQPValue::Void),
        (TIME, AMQPValue::Timestamp(1_700_000_000)),
        (TIME, AMQPValue::LongString(b"\xff".to_vec().into())),
        (EXPIRY, long("soon")),
        (EXPIRY, nothing.clone()),
        (KIND, long("Command")),
        (KIND, long("query")),
        (KIND, AMQPValue::Void),
        (KIND, array(&[long("command")])),
        (KEY, nothing.clone()),
        (KEY, array(&[long("a"), long("b")])),
        (ORDER, long("h")),
        (ORDER, AMQPValue::Void),
        (ORDER, array(&[AMQPValue::LongInt(1)])),
        (ORDER, array(&[AMQPValue::LongString(b"\xff".to_vec().into())])),
    ] {
        let received = foreign(BasicProperties::default(), &[(name, value.clone()), ("h", long("v"))]);
        assert_undecodable(&received, name, b"x", &value);
    }
}

#[test]
fn a_tombstone_with_a_body_is_undecodable_so_that_the_body_is_not_lost() {
    let read = |value: &AMQPValue, body: &[u8]| {
        let table = [(TOMBSTONE, value.clone())].into_iter().collect_table();
        receive(BasicProperties::default().with_headers(table), body, "", false)
    };
    for word in [AMQPValue::Boolean(true), long("true")] {
        assert_eq!(read(&word, b"").content.unwrap(), Message::default());
        assert_undecodable(&read(&word, b"x"), TOMBSTONE, b"x", &word);
    }
    for word in [AMQPValue::Boolean(false), long("false")] {
        assert_eq!(read(&word, b"").content.unwrap(), Message::new(""));
        assert_eq!(read(&word, b"x").content.unwrap(), Message::new("x"));
    }
    for word in [long("yes"), AMQPValue::LongInt(1), AMQPValue::Void, array(&[])] {
        assert_undecodable(&read(&word, b""), TOMBSTONE, b"", &word);
    }
}

#[test]
fn a_malformed_list_of_headers_is_undecodable_also_where_there_are_none() {
    let received = foreign(BasicProperties::default(), &[(ORDER, long("h"))]);
    assert_undecodable(&received, ORDER, b"x", &long("h"));
}

#[test]
fn what_the_broker_wrote_is_shown_also_of_an_undecodable_message() {
    for broken in [ORDER, TIME] {
        let death = array(&[AMQPValue::FieldTable(FieldTable::default())]);
        let received = foreign(BasicProperties::default(), &[(broken, long("h")), ("x-death", death)]);
        assert_undecodable(&received, broken, b"x", &long("h"));
        assert!(received.extensions().get::<NativeHeaders>().unwrap().0.contains_key("x-death"));
    }
}

// --- what is refused

#[test]
fn what_is_too_long_is_refused_by_name() {
    let long = "n".repeat(256);
    let bare = || Message::new("x");
    for (message, field, length) in [
        (bare().with_id(long.as_str()), "the message's id", 256),
        (bare().with_type(long.as_str()), "the message's type", 256),
        (bare().with_correlation_id(long.as_str()), "the message's correlation id", 256),
        (bare().with_reply_to(long.as_str()), "the message's return address", 256),
        (bare().with_content_type("é".repeat(128)), "the message's content type", 256),
        (bare().with_header(long.as_str(), "v"), &format!("the name of the header `{long}`"), 256),
        (
            // Behind a prefix, so that RabbitMQ does not take it for its own.
            bare().with_header(format!("x-first-death-{}", "n".repeat(230)), "v"),
            "the name of the header `x-first-death-",
            ESCAPE.len() + 244,
        ),
    ] {
        for error in [encode(&message).unwrap_err(), measure(&message, usize::MAX).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidMessage);
            let said = error.to_string();
            assert!(said.starts_with(field), "{said}");
            assert!(said.contains(&format!(" is {length} bytes long")) && said.contains("255"), "{said}");
        }
    }
}

#[test]
fn a_time_without_a_date_is_refused_by_name() {
    let never = Timestamp::from_millis(i64::MAX);
    for (message, field) in [
        (Message::new("x").with_time(never), "the message's time"),
        (Message::new("x").with_expiry(never), "the message's expiry"),
    ] {
        let error = encode(&message).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidMessage);
        assert!(error.to_string().starts_with(field) && error.help().is_some(), "{error}");
    }
}

#[test]
fn properties_have_to_fit_into_one_frame() {
    let message = full().with_header("large", "v".repeat(3000));
    let frame = frame_of(&message);
    assert!(measure(&message, frame).is_ok(), "it just fits");
    let error = measure(&message, frame - 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
    let said = error.to_string();
    assert!(said.contains(&format!("{frame} bytes")), "{said}");
    assert!(said.contains(&format!("{} bytes", frame - 1)), "{said}");
    let large = Message::new("b".repeat(100_000));
    assert!(measure(&large, 4096).is_ok(), "bodies take as many frames as they need");
}

#[test]
fn a_message_is_measured_to_the_byte() {
    for message in [
        Message::default(),
        Message::new("body"),
        Message::new("body").with_time(Timestamp::from_millis(-1)),
        Message::new("body").with_time(Timestamp::from_millis(1)),
        Message::new("body").with_header("a", "1").with_header("a", None).with_header("", "2"),
        full(),
    ] {
        assert_eq!(measure(&message, usize::MAX).unwrap(), on_the_wire(&message), "{message:?}");
    }
}

#[test]
fn a_header_that_is_repeated_many_times_takes_no_more_than_its_share() {
    let headers: Headers = (0..100_000).map(|_| (Text::from_static("h"), None)).collect();
    let mut message = Message::new("x");
    *message.headers_mut() = headers;
    // Copying the array for each would take minutes.
    assert_eq!(there_and_back(&message), message);
}

// --- helpers

/// Names that mean something else on this wire, and neighbours of them that do not.
const RESERVED: &[&str] = &[
    "",
    TIME,
    KIND,
    KEY,
    EXPIRY,
    TOMBSTONE,
    ORDER,
    ESCAPE,
    "anybroker-header-anybroker-header-x",
    "anybroker-header-cloudEvents:time",
    "CC",
    "BCC",
    "x-death",
    "x-delay",
    "x-delivery-count",
    "x-acquired-count",
    "x-stream-offset",
    "x-first-death-reason",
    "x-last-death-exchange",
];

fn full() -> Message {
    Message::new("body")
        .with_id("id-1")
        .with_type("order")
        .with_correlation_id("conversation")
        .with_reply_to("anybroker.reply.1")
        .with_content_type("application/json")
        .with_kind(Kind::Command)
        .with_key("42")
        .with_time(Timestamp::from_millis(1_700_000_000_123))
        .with_expiry(Timestamp::from_millis(1_700_000_001_000))
        .with_header("a", "1")
}

/// Encoded, written as bytes, read again and decoded.
fn there_and_back(message: &Message) -> Message {
    let properties = parse(&written(&encode(message).unwrap()));
    let received = receive(properties, message.body(), "#7", true);
    assert!(received.extensions().is_empty(), "nothing of ours is taken for the broker's");
    received.content.unwrap()
}

/// The bytes of the properties, as amq-protocol writes them for lapin.
fn written(properties: &BasicProperties) -> Vec<u8> {
    gen_properties(properties)(Vec::new().into()).unwrap().into_inner().0
}

fn parse(bytes: &[u8]) -> BasicProperties {
    let (rest, properties) = parse_properties(bytes).unwrap();
    assert!(rest.is_empty());
    properties
}

/// The bytes of the frame that holds the properties: its kind, channel, size and end around class, weight, size of the body, and them.
fn frame_of(message: &Message) -> usize {
    (1 + 2 + 4 + 1) + (2 + 2 + 8) + written(&encode(message).unwrap()).len()
}

fn on_the_wire(message: &Message) -> usize {
    frame_of(message) + message.body().len()
}

fn receive(properties: BasicProperties, body: &[u8], routing_key: &str, keyed: bool) -> Received {
    let mut delivery = Delivery::mock(1, "".into(), routing_key.into(), false, body.to_vec());
    delivery.properties = properties;
    decode(delivery, Token::number(1), keyed)
}

/// The body `x` with these headers.
fn foreign(properties: BasicProperties, headers: &[(&str, AMQPValue)]) -> Received {
    receive(properties.with_headers(headers.iter().cloned().collect_table()), b"x", "", false)
}

fn message(properties: BasicProperties, headers: &[(&str, AMQPValue)]) -> Message {
    foreign(properties, headers).content.unwrap()
}

/// What is received when a hop between has changed the headers.
fn through(
    message: &Message,
    hop: impl FnOnce(&mut std::collections::BTreeMap<lapin::types::ShortString, AMQPValue>),
) -> Received {
    let properties = encode(message).unwrap();
    let mut table = properties.headers().as_ref().unwrap().inner().clone();
    hop(&mut table);
    receive(properties.with_headers(table.into()), message.body(), "", false)
}

fn assert_undecodable(received: &Received, field: &str, raw: &[u8], value: &AMQPValue) {
    let undecodable = received.content.as_ref().expect_err(&format!("{field}: {value:?}"));
    assert_eq!(undecodable.raw, raw);
    assert_eq!(undecodable.error.kind(), ErrorKind::InvalidMessage);
    let said = undecodable.error.to_string();
    assert!(said.starts_with(&format!("the header `{field}` is not ")), "{said}");
    assert_eq!(received.token, Token::number(1), "it can be settled");
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn array(values: &[AMQPValue]) -> AMQPValue {
    AMQPValue::FieldArray(values.to_vec().into())
}

trait CollectTable {
    fn collect_table(self) -> FieldTable;
}

impl<'a, I: Iterator<Item = (&'a str, AMQPValue)>> CollectTable for I {
    fn collect_table(self) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in self {
            table.insert(name.into(), value);
        }
        table
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn text(&mut self, longest: usize) -> Text {
        let letters = ['a', 'b', 'Z', '0', ' ', '"', '\0', '\n', 'é', '漢', '🦀', '-', ':', '/', '#'];
        let mut text = String::new();
        for _ in 0..self.below(longest) {
            let letter = self.pick(&letters);
            if text.len() + letter.len_utf8() > 255 {
                break;
            }
            text.push(letter);
        }
        text.into()
    }

    fn bytes(&mut self, longest: usize) -> Bytes {
        (0..self.below(longest)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Within the years 0 to 9999.
    fn time(&mut self) -> Timestamp {
        let (first, last) = (-62_167_219_200_000, 253_402_300_799_999_i64);
        let span = (last - first).cast_unsigned() + 1;
        Timestamp::from_millis(first + (self.next() % span).cast_signed())
    }

    fn header(&mut self) -> (Text, Option<Bytes>) {
        let name = match self.below(4) {
            0 => Text::from(self.pick(RESERVED)),
            1 => Text::from(self.pick(&["a", "b", "c"])),
            2 => self.text(8),
            // Not longer than fits behind the prefix.
            _ => self.text(200).chars().take(55).collect::<String>().into(),
        };
        (name, self.maybe(|random| random.bytes(40)))
    }

    fn message(&mut self) -> Message {
        let mut message = Message::default();
        message.set_payload(self.maybe(|random| random.bytes(100)));
        message.set_id(self.maybe(|random| random.text(300)).map(Into::into));
        message.set_type_name(self.maybe(|random| random.text(300)));
        message.set_correlation_id(self.maybe(|random| random.text(40)));
        message.set_reply_to(self.maybe(|random| random.text(40)));
        message.set_content_type(self.maybe(|random| random.text(40)));
        message.set_kind(self.maybe(|random| random.pick(&[Kind::Document, Kind::Command, Kind::Event])));
        message.set_key(self.maybe(|random| random.bytes(300)).map(MessageKey::from));
        message.set_time(self.maybe(Self::time));
        message.set_expires_at(self.maybe(Self::time));
        let headers: Headers = (0..self.below(12)).map(|_| self.header()).collect();
        *message.headers_mut() = headers;
        message
    }
}
