use super::decode::Decoded;
use super::*;
use anybroker_contract::{
    Bytes, Error, ErrorKind, Headers, Kind, Message, MessageKey, Result, Text, Timestamp, Token,
};

const NOW: i64 = 1_700_000_000_000;
const FIRST: i64 = -62_167_219_200_000;

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
        bare().with_id("0192f0c1000070008000000000000001"),
        bare().with_id("").with_type("").with_correlation_id("").with_reply_to("").with_content_type(""),
        bare().with_id("é".repeat(400)).with_type("t".repeat(70_000)).with_correlation_id("c\0\n"),
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
        bare().with_expiry(time(NOW)),
        bare().with_expiry(time(LAST)),
        Message::new(&b"\0\xff"[..]).with_header("h", &b"\xff\0"[..]),
        full(),
    ] {
        assert_eq!(there_and_back(&message), message);
    }
}

#[test]
fn what_is_absent_differs_from_what_is_empty() {
    let keyed = Message::tombstone("");
    let record = written(&keyed, NOW).unwrap();
    assert_eq!((record.key.as_deref(), record.value), (Some(&b""[..]), None));
    let bodied = Message::new("");
    let record = written(&bodied, NOW).unwrap();
    assert_eq!((record.key, record.value.as_deref()), (None, Some(&b""[..])));
    assert_eq!([there_and_back(&keyed), there_and_back(&bodied)], [keyed, bodied]);
}

#[test]
fn headers_come_back_in_order_repeated_and_without_value() {
    let none: Option<Bytes> = None;
    for message in [
        Message::new("").with_header("b", "1").with_header("a", "2"),
        Message::new("").with_header("a", "1").with_header("a", "1"),
        Message::new("").with_header("a", "1").with_header("b", "2").with_header("a", "3"),
        Message::new("").with_header("a", none.clone()),
        Message::new("").with_header("a", ""),
        Message::new("").with_header("a", none.clone()).with_header("a", "").with_header("a", none.clone()),
        Message::new("").with_header("a", "1").with_header("A", "2").with_header("é", "3"),
        Message::new("").with_header("", "1").with_header("n".repeat(70_000), "2").with_header("", none),
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
        let record = written(&alone, NOW).unwrap();
        let taken = !record.headers.contains(&header(name, Some(b"mine")));
        assert!(taken, "`{name}` would be taken for ours");
    }
    for name in FIELDS {
        assert!(RESERVED.contains(&name), "`{name}` is tried above");
    }
    for name in ["ce_source", "ce_specversion", "ce_partitionkey", "Content-Type", "anybroker-header"] {
        let message = Message::new("").with_header(name, "v").with_time(time(NOW));
        assert_eq!(written(&message, NOW).unwrap().headers, [header(name, Some(b"v"))], "as it is");
    }
}

#[test]
fn random_messages_come_back_and_are_measured() {
    let mut random = Random(0x5eed);
    for round in 0..5000 {
        let now = random.now();
        let message = random.message(now);
        let record = written(&message, now).unwrap();
        assert_eq!(record.message(), message, "round {round}");
        let off = record.timestamp.abs_diff(now.max(1));
        assert!(record.timestamp > 0 && off <= 60_000, "round {round}: {}", record.timestamp);
        let size = record.on_the_wire().len();
        assert_eq!(measure(&message, time(now)).unwrap(), size, "round {round}: {message:?}");
        if let Some(at_least) = measure_within(usize::MAX, &message).unwrap() {
            let spare = at_least.checked_sub(size).unwrap();
            assert!(spare <= 40, "round {round}: {spare} for {message:?}");
            assert_eq!(measure_within(at_least - 1, &message).unwrap(), None, "round {round}");
        }
    }
}

// --- time

#[test]
fn a_time_near_now_is_the_records_timestamp_and_nothing_else() {
    for millis in [NOW, NOW - 1, NOW + 1, NOW - 60_000, NOW + 60_000] {
        let message = Message::new("x").with_time(time(millis));
        let record = written(&message, NOW).unwrap();
        assert_eq!((record.timestamp, &record.headers[..]), (millis, &[][..]));
        assert_eq!(record.message(), message);
    }
    let message = Message::new("x").with_time(time(1));
    let record = written(&message, -59_999).unwrap();
    assert_eq!((record.timestamp, &record.headers[..]), (1, &[][..]), "the earliest that is one");
}

#[test]
fn any_other_time_is_a_header_and_the_record_is_of_now() {
    for (millis, text) in [
        (NOW - 60_001, "2023-11-14T22:12:19.999Z"),
        (NOW + 60_001, "2023-11-14T22:14:20.001Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (FIRST, "0000-01-01T00:00:00.000Z"),
        (LAST, "9999-12-31T23:59:59.999Z"),
    ] {
        let message = Message::new("x").with_time(time(millis));
        let record = written(&message, NOW).unwrap();
        assert_eq!(record.timestamp, NOW);
        assert_eq!(record.headers, [header(TIME, Some(text.as_bytes()))]);
        assert_eq!(record.message(), message);
    }
}

#[test]
fn no_time_is_a_header_without_value() {
    let record = written(&Message::new("x"), NOW).unwrap();
    assert_eq!(record.timestamp, NOW);
    assert_eq!(record.headers, [header(TIME, None)]);
    assert_eq!(record.message().time(), None);
}

#[test]
fn a_clock_before_1970_gives_a_timestamp_all_the_same() {
    for now in [0, -1, -5000, i64::MIN] {
        for millis in [None, Some(0), Some(-1), Some(-5000), Some(NOW)] {
            let mut message = Message::new("x");
            message.set_time(millis.map(time));
            let record = written(&message, now).unwrap();
            assert_eq!(record.timestamp, 1);
            assert_eq!(record.message(), message);
        }
    }
}

// --- what foreign clients read

#[test]
fn fields_are_where_any_client_looks() {
    let message = full().with_header("a", "1").with_time(time(0));
    let record = written(&message, NOW).unwrap();
    assert_eq!(record.key.as_deref(), Some(&b"42"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"body"[..]));
    let shown: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| (as_text(name), value.as_deref().map_or("null", as_text)))
        .collect();
    assert_eq!(
        shown,
        [
            ("ce_id", "0192f0c1-0000-7000-8000-000000000001"),
            ("ce_time", "1970-01-01T00:00:00.000Z"),
            ("ce_type", "order"),
            ("content-type", "application/json"),
            ("ce_kind", "command"),
            ("ce_correlationid", "conversation"),
            ("ce_replyto", "anybroker.reply.1"),
            ("ce_expirytime", "2023-11-14T22:13:21.000Z"),
            ("a", "1"),
            ("a", "1"),
        ]
    );
}

// --- what foreign clients write

#[test]
fn a_foreign_record_without_anything_is_a_message() {
    let decoded = foreign(None, &[]).decode();
    assert_eq!(decoded.to, None);
    assert_eq!(decoded.received.token, Token::pair(3, 7));
    assert_eq!(decoded.received.content.unwrap(), Message::new("x"));
    let record = OnTopic { key: None, value: None, timestamp: 0, headers: vec![] };
    assert_eq!(record.message(), Message::default().with_time(time(0)));
}

#[test]
fn a_record_of_another_producer_of_cloud_events_is_read() {
    let record = foreign(
        Some(NOW),
        &[
            ("ce_specversion", Some(b"1.0")),
            ("ce_id", Some(b"1234-1234-1234")),
            ("ce_type", Some(b"com.example.someevent")),
            ("ce_source", Some(b"/mycontext/subcontext")),
            ("ce_time", Some(b"2018-04-05T03:56:24.1239+02:00")),
            ("content-type", Some(b"application/avro")),
            ("ce_partitionkey", Some(b"7")),
        ],
    );
    let expected = Message::new("x")
        .with_id("1234-1234-1234")
        .with_type("com.example.someevent")
        .with_content_type("application/avro")
        .with_time(time(1_522_893_384_123))
        .with_header("ce_specversion", "1.0")
        .with_header("ce_source", "/mycontext/subcontext")
        .with_header("ce_partitionkey", "7");
    assert_eq!(record.message(), expected);
    assert_eq!(there_and_back(&expected), expected);
}

#[test]
fn a_foreign_timestamp_is_the_time_if_it_can_be_one() {
    for millis in [0, 1, NOW, LAST] {
        assert_eq!(foreign(Some(millis), &[]).message().time(), Some(time(millis)));
    }
    for millis in [i64::MIN, -1, LAST + 1, NOW * 1000, i64::MAX] {
        let message = foreign(Some(millis), &[]).message();
        assert_eq!(message.time(), None, "{millis}");
        assert_eq!(there_and_back(&message), message, "it can be sent on");
    }
    assert_eq!(foreign(None, &[]).message().time(), None);
    assert_eq!(foreign(None, &[(TIME, Some(b"1970-01-01T00:00:00Z"))]).message().time(), Some(time(0)));
}

#[test]
fn of_a_repeated_field_the_last_counts() {
    let bare = || Message::new("x").with_time(time(NOW));
    for (name, values, expected) in [
        (ID, [Some(&b"\xff"[..]), Some(b"b")], bare().with_id("b")),
        (TYPE, [Some(b"a"), Some(b"b")], bare().with_type("b")),
        (TYPE, [Some(b"a"), None], bare()),
        (KIND, [Some(b"query"), Some(b"event")], bare().with_kind(Kind::Event)),
        (TIME, [Some(b"never"), Some(b"1970-01-01T00:00:00Z")], bare().with_time(time(0))),
        (TIME, [None, Some(b"1970-01-01T00:00:00Z")], bare().with_time(time(0))),
        (TIME, [Some(b"1970-01-01T00:00:00Z"), None], Message::new("x")),
    ] {
        let record = foreign(Some(NOW), &[(name, values[0]), ("h", None), (name, values[1])]);
        assert_eq!(record.message(), expected.with_header("h", None), "{name}: {values:?}");
    }
}

#[test]
fn a_field_without_value_is_none() {
    let record = foreign(Some(NOW), &FIELDS.map(|name| (name, None)));
    let decoded = record.decode();
    assert_eq!((decoded.received.content.unwrap(), decoded.to), (Message::new("x"), None));
}

#[test]
fn who_a_reply_is_for_is_told_and_is_no_header() {
    let mut record = written(&full(), NOW).unwrap();
    record.headers.push(header(TO, Some(b"r-1")));
    let decoded = record.decode();
    assert_eq!(decoded.to, Some(Text::from("r-1")));
    assert_eq!(decoded.received.content.unwrap(), full());
    record.headers.insert(0, (b"\xff".to_vec(), None));
    let decoded = record.decode();
    assert!(decoded.received.content.is_err());
    assert_eq!(decoded.to, Some(Text::from("r-1")), "somebody waits for it");
}

// --- what cannot be read

#[test]
fn malformed_headers_of_ours_are_undecodable_with_the_raw_value() {
    for (name, value) in [
        (TIME, &b"yesterday"[..]),
        (TIME, b""),
        (TIME, b"\xff"),
        (TIME, b"1700000000000"),
        (EXPIRY, b"soon"),
        (EXPIRY, b""),
        (KIND, b"Command"),
        (KIND, b"query"),
        (KIND, b""),
        (KIND, b"\xff"),
        (ID, b"\xff"),
        (TYPE, b"t\xff"),
        (CONTENT_TYPE, b"\xc3"),
        (CORRELATION_ID, b"\xff"),
        (REPLY_TO, b"\xff"),
        (TO, b"\xff"),
    ] {
        let decoded = foreign(Some(NOW), &[("h", Some(b"v")), (name, Some(value))]).decode();
        assert_undecodable(&decoded, name, b"x");
        assert_eq!(decoded.to, None);
    }
}

#[test]
fn a_name_that_is_no_text_is_undecodable() {
    let mut record = foreign(Some(NOW), &[(ID, Some(b"1"))]);
    record.headers.push((b"h\xff".to_vec(), Some(b"v".to_vec())));
    assert_undecodable(&record.decode(), "h\\xff", b"x");
    record.value = None;
    assert_undecodable(&record.decode(), "h\\xff", b"");
}

// --- what is refused

#[test]
fn a_time_without_a_date_is_refused_by_name() {
    for never in [FIRST - 1, LAST + 1, i64::MIN, i64::MAX] {
        for (message, field) in [
            (Message::new("x").with_time(time(never)), "the message's time"),
            (Message::new("x").with_expiry(time(never)), "the message's expiry"),
        ] {
            for now in [NOW, never] {
                assert_refused(&message, now, field);
            }
        }
    }
}

#[test]
fn a_name_with_a_nul_is_refused_by_name() {
    for (name, said) in [("\0", "\"\\0\""), ("a\0b", "\"a\\0b\""), ("anybroker-header-\0", "\"anybroker")] {
        let message = Message::new("x").with_header("b", "1").with_header(name, "2");
        assert_refused(&message, NOW, &format!("the name of the header {said}"));
    }
}

#[test]
fn more_headers_than_clients_read_are_refused() {
    let headers = |count| {
        let mut message = full();
        *message.headers_mut() = (0..count).map(|_| (Text::from_static("h"), None)).collect();
        message
    };
    let most = 100_000 - FIELDS.len();
    assert_eq!(there_and_back(&headers(most)), headers(most));
    assert_refused(&headers(most + 1), NOW, &format!("the message has {} headers", most + 1));
}

#[test]
fn a_message_is_measured_to_the_byte() {
    let timed = Message::default().with_time(time(NOW));
    assert_eq!(measure(&timed, time(NOW)).unwrap(), 61 + 1 + 6, "the least there is");
    // On both sides of each length that takes one more byte.
    for length in [0, 1, 62, 63, 64, 65, 8191, 8192, 1_048_575, 1_048_576] {
        let text = "n".repeat(length);
        for message in [
            timed.clone().with_key(text.as_str()),
            Message::new(text.clone()),
            Message::new("").with_header(text.as_str(), None),
            Message::new("").with_header("h", text.as_str()),
        ] {
            let exactly = written(&message, NOW).unwrap().on_the_wire().len();
            assert_eq!(measure(&message, time(NOW)).unwrap(), exactly, "{length}");
        }
    }
    let mut many = timed;
    for count in 1..70 {
        many.headers_mut().append("", None);
        let exactly = written(&many, NOW).unwrap().on_the_wire().len();
        assert_eq!(measure(&many, time(NOW)).unwrap(), exactly, "{count} headers");
    }
}

// --- helpers

/// Names that mean something on this wire, and neighbours of them.
const RESERVED: &[&str] = &[
    "ce_id",
    "ce_type",
    "content-type",
    "ce_kind",
    "ce_correlationid",
    "ce_replyto",
    "ce_expirytime",
    "ce_time",
    "anybroker-to",
    "anybroker-header-",
    "anybroker-header-x",
    "anybroker-header-ce_time",
    "anybroker-header-anybroker-header-x",
];

fn full() -> Message {
    Message::new("body")
        .with_id("0192f0c1-0000-7000-8000-000000000001")
        .with_type("order")
        .with_correlation_id("conversation")
        .with_reply_to("anybroker.reply.1")
        .with_content_type("application/json")
        .with_kind(Kind::Command)
        .with_key("42")
        .with_time(time(NOW))
        .with_expiry(time(NOW + 1000))
        .with_header("a", "1")
}

type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record as it lies in a topic. A timestamp of -1 is none.
struct OnTopic {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
    headers: Vec<Header>,
}

impl OnTopic {
    fn decode(&self) -> Decoded {
        let record = Record {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            timestamp: (self.timestamp != -1).then_some(self.timestamp),
        };
        let headers = self.headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
        decode(&record, headers, Token::pair(3, 7))
    }

    fn message(&self) -> Message {
        let decoded = self.decode();
        assert!(decoded.received.extensions().is_empty());
        decoded.received.content.unwrap()
    }

    /// A batch of version 2 with this record alone, whose checksum is left out.
    fn on_the_wire(&self) -> Vec<u8> {
        let mut record = vec![0];
        integer(&mut record, 0);
        integer(&mut record, 0);
        bytes(&mut record, self.key.as_deref());
        bytes(&mut record, self.value.as_deref());
        integer(&mut record, i64::try_from(self.headers.len()).unwrap());
        for (name, value) in &self.headers {
            bytes(&mut record, Some(name));
            bytes(&mut record, value.as_deref());
        }
        let mut length = Vec::new();
        integer(&mut length, i64::try_from(record.len()).unwrap());
        let size = u32::try_from(9 + 40 + length.len() + record.len()).unwrap();
        let mut batch = Vec::new();
        batch.extend(0_i64.to_be_bytes()); // base offset
        batch.extend(size.to_be_bytes()); // what follows
        batch.extend((-1_i32).to_be_bytes()); // leader epoch
        batch.push(2); // version
        batch.extend(0_u32.to_be_bytes()); // checksum
        batch.extend(0_i16.to_be_bytes()); // attributes
        batch.extend(0_i32.to_be_bytes()); // last offset
        batch.extend(self.timestamp.to_be_bytes()); // first timestamp
        batch.extend(self.timestamp.to_be_bytes()); // last timestamp
        batch.extend((-1_i64).to_be_bytes()); // producer
        batch.extend((-1_i16).to_be_bytes()); // producer epoch
        batch.extend((-1_i32).to_be_bytes()); // first sequence
        batch.extend(1_u32.to_be_bytes()); // records
        batch.extend(length);
        batch.extend(record);
        assert_eq!(batch.len(), 8 + 4 + usize::try_from(size).unwrap());
        batch
    }
}

fn bytes(into: &mut Vec<u8>, value: Option<&[u8]>) {
    integer(into, value.map_or(-1, |value| i64::try_from(value.len()).unwrap()));
    into.extend(value.unwrap_or_default());
}

/// Zigzag, then seven bits at a time.
fn integer(into: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left > 0x7f {
        into.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

fn written(message: &Message, now: i64) -> Result<OnTopic> {
    let mut headers = Vec::new();
    let timestamp = encode(message, time(now), |name, value| headers.push(header(name, value)))?;
    Ok(OnTopic {
        key: message.key().map(|key| key.as_bytes().to_vec()),
        value: message.payload().map(|payload| payload.to_vec()),
        timestamp,
        headers,
    })
}

fn there_and_back(message: &Message) -> Message {
    written(message, NOW).unwrap().message()
}

/// The value `x` with these headers.
fn foreign(timestamp: Option<i64>, headers: &[(&str, Option<&[u8]>)]) -> OnTopic {
    OnTopic {
        key: None,
        value: Some(b"x".to_vec()),
        timestamp: timestamp.unwrap_or(-1),
        headers: headers.iter().map(|(name, value)| header(name, *value)).collect(),
    }
}

fn header(name: &str, value: Option<&[u8]>) -> Header {
    (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec))
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn assert_undecodable(decoded: &Decoded, field: &str, raw: &[u8]) {
    let undecodable = decoded.received.content.as_ref().expect_err(field);
    assert_eq!(undecodable.raw, raw);
    assert_invalid(&undecodable.error, &format!("the header `{field}` is not "));
    assert_eq!(decoded.received.token, Token::pair(3, 7), "it can be settled");
}

fn assert_refused(message: &Message, now: i64, said: &str) {
    assert_invalid(&encode(message, time(now), |_, _| {}).unwrap_err(), said);
    assert_invalid(&measure(message, time(now)).unwrap_err(), said);
}

fn assert_invalid(error: &Error, said: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
    let shown = error.to_string();
    assert!(shown.starts_with(said) && shown.contains("adapter: kafka"), "{shown}");
    assert!(error.help().is_some(), "{shown}");
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
        let length = self.below(longest);
        (0..length).map(|_| self.pick(&letters)).collect::<String>().into()
    }

    fn bytes(&mut self, longest: usize) -> Bytes {
        (0..self.below(longest)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn between(&mut self, first: i64, last: i64) -> i64 {
        let span = (last - first).cast_unsigned() + 1;
        first + (self.next() % span).cast_signed()
    }

    fn now(&mut self) -> i64 {
        match self.below(4) {
            0 => self.between(-70_000, 70_000),
            _ => self.between(NOW, NOW + 1_000_000_000_000),
        }
    }

    /// Within the years 0 to 9999, and often near now.
    fn time(&mut self, now: i64) -> Timestamp {
        time(match self.below(3) {
            0 => self.between(FIRST, LAST),
            1 => now + self.between(-1000, 1000),
            _ => now + self.between(-70_000, 70_000),
        })
    }

    fn id(&mut self) -> Text {
        match self.below(2) {
            0 => {
                let hex = format!("{:016x}{:016x}", self.next(), self.next());
                let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
                parts.join("-").into()
            }
            _ => self.text(300),
        }
    }

    fn header(&mut self) -> (Text, Option<Bytes>) {
        let name = match self.below(4) {
            0 => Text::from(self.pick(RESERVED)),
            1 => Text::from(self.pick(&["a", "b", ""])),
            _ => self.text(100).replace('\0', "").into(),
        };
        (name, self.maybe(|random| random.bytes(100)))
    }

    fn message(&mut self, now: i64) -> Message {
        let mut message = Message::default();
        message.set_payload(self.maybe(|random| random.bytes(10_000)));
        message.set_id(self.maybe(|random| random.id()).map(Into::into));
        message.set_type_name(self.maybe(|random| random.text(300)));
        message.set_correlation_id(self.maybe(|random| random.text(40)));
        message.set_reply_to(self.maybe(|random| random.text(40)));
        message.set_content_type(self.maybe(|random| random.text(40)));
        message.set_kind(self.maybe(|random| random.pick(&[Kind::Document, Kind::Command, Kind::Event])));
        message.set_key(self.maybe(|random| random.bytes(300)).map(MessageKey::from));
        message.set_time(self.maybe(|random| random.time(now)));
        message.set_expires_at(self.maybe(|random| random.time(now)));
        let headers: Headers = (0..self.below(12)).map(|_| self.header()).collect();
        *message.headers_mut() = headers;
        message
    }
}
