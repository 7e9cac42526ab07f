use super::{
    CONTENT_TYPE, CORRELATION_ID, ESCAPE, EXPIRY, FIELDS, ID, KIND, LAST, REPLY_TO, TIME, TYPE, is_taken,
};
use crate::error::error;
use anybroker_contract::{Error, ErrorKind, Headers, Message, MessageId, Result, Timestamp};

/// How far a record's timestamp may be from the sender's clock, in milliseconds: enough for a message that waits to be sent, and little beside what
/// brokers keep or refuse.
const NEAR: u64 = 60_000;

/// Writes all fields but key and value: gives each header to `put`, in order, and returns the record's timestamp. `now` is the sender's wall clock.
/// On an error, what was put before it is worth nothing.
pub(crate) fn encode(
    message: &Message,
    now: Timestamp,
    mut put: impl FnMut(&str, Option<&[u8]>),
) -> Result<i64> {
    if let Some(id) = message.id() {
        put_id(id, &mut put);
    }
    let timestamp = put_time(message.time(), now, &mut put)?;
    put_others(message, &mut put)?;
    Ok(timestamp)
}

/// All but id and time.
fn put_others(message: &Message, put: &mut impl FnMut(&str, Option<&[u8]>)) -> Result<()> {
    let kind = message.kind().map(|kind| kind.as_str());
    for (name, text) in [
        (TYPE, message.type_name().map(|name| name.as_str())),
        (CONTENT_TYPE, message.content_type().map(|media| media.as_str())),
        (KIND, kind),
        (CORRELATION_ID, message.correlation_id().map(|id| id.as_str())),
        (REPLY_TO, message.reply_to().map(|address| address.as_str())),
    ] {
        if let Some(text) = text {
            put(name, Some(text.as_bytes()));
        }
    }
    if let Some(at) = message.expires_at() {
        put(EXPIRY, Some(rfc3339("expiry", at)?.as_bytes()));
    }
    put_headers(message.headers(), put)
}

/// Bytes on the wire of a record that is alone in its batch.
pub(crate) fn measure(message: &Message, now: Timestamp) -> Result<usize> {
    let mut counted = Counted::default();
    put_time(message.time(), now, &mut |name, value| counted.header(name.len(), value.map(<[u8]>::len)))?;
    counted.record(message)
}

/// At least its bytes on the wire, whatever the clock says. `None` where they may be more than `most`, or where the time may have to be refused.
pub(crate) fn measure_within(most: usize, message: &Message) -> Result<Option<usize>> {
    let mut counted = Counted::default();
    counted.header(TIME.len(), Some(RFC_3339));
    let size = counted.record(message)?;
    let has_date = message.time().is_none_or(|time| (1..=LAST).contains(&time.as_millis()));
    Ok((has_date && size <= most).then_some(size))
}

/// The letters of a time: `2026-11-27T20:15:00.000Z`.
const RFC_3339: usize = 24;

/// The headers of a record and their bytes.
#[derive(Default)]
struct Counted {
    headers: usize,
    bytes: usize,
}

impl Counted {
    fn header(&mut self, name: usize, value: Option<usize>) {
        self.headers += 1;
        self.bytes += sized(Some(name)) + sized(value);
    }

    /// The bytes of it all, where the header for the time is counted already.
    fn record(mut self, message: &Message) -> Result<usize> {
        match message.id().map(|id| (id, id.as_uuid())) {
            None => {}
            Some((_, Some(_))) => self.header(ID.len(), Some(UUID)),
            Some((id, None)) => self.header(ID.len(), Some(id.to_text().len())),
        }
        put_others(message, &mut |name, value| self.header(name.len(), value.map(<[u8]>::len)))?;
        let key = message.key().map(|key| key.as_bytes().len());
        let value = message.payload().map(|payload| payload.len());
        let record = DELTAS + sized(key) + sized(value) + varint(self.headers) + self.bytes;
        Ok(BATCH + varint(record) + record)
    }
}

/// Its letters.
const UUID: usize = 36;

/// What comes before the records of a batch of version 2.
const BATCH: usize = 61;

/// A record's attributes, and how far its timestamp and its offset are from the batch's, which is nothing.
const DELTAS: usize = 1 + 1 + 1;

/// Returns the record's timestamp.
fn put_time(
    time: Option<Timestamp>,
    now: Timestamp,
    put: &mut impl FnMut(&str, Option<&[u8]>),
) -> Result<i64> {
    let now = now.as_millis();
    match time {
        Some(time) if is_near(time.as_millis(), now) => return Ok(time.as_millis()),
        Some(time) => put(TIME, Some(rfc3339("time", time)?.as_bytes())),
        None => put(TIME, None),
    }
    // To clients in C, 0 is none, and brokers refuse what is less.
    Ok(now.max(1))
}

fn is_near(time: i64, now: i64) -> bool {
    (1..=LAST).contains(&time) && time.abs_diff(now) <= NEAR
}

fn put_id(id: &MessageId, put: &mut impl FnMut(&str, Option<&[u8]>)) {
    match id.as_uuid() {
        // Most messages have such an id, of 36 letters: it is written without allocating.
        Some(uuid) => put(ID, Some(uuid.hyphenated().encode_lower(&mut [0; UUID]).as_bytes())),
        None => put(ID, Some(id.to_text().as_bytes())),
    }
}

/// Clients in C cannot read a record with more than 100000 headers.
const MOST: usize = 100_000 - FIELDS.len();

fn put_headers(headers: &Headers, put: &mut impl FnMut(&str, Option<&[u8]>)) -> Result<()> {
    if headers.len() > MOST {
        let what = format!("the message has {} headers, and a record takes {MOST} of them", headers.len());
        return Err(invalid(what).with_help("put what is so much into the payload"));
    }
    for (name, value) in headers.iter() {
        let name = name.as_str();
        // Clients in C read a name up to the first NUL.
        if name.contains('\0') {
            return Err(invalid(format!("the name of the header {name:?} has a NUL in it"))
                .with_help("choose a name without"));
        }
        let value = value.map(|value| &value[..]);
        match is_taken(name) {
            true => put(&format!("{ESCAPE}{name}"), value),
            false => put(name, value),
        }
    }
    Ok(())
}

fn rfc3339(field: &str, time: Timestamp) -> Result<String> {
    time.to_rfc3339().ok_or_else(|| {
        invalid(format!("the message's {field} is {time:?}, outside of the years 0 to 9999"))
            .with_help("set a time that has a date")
    })
}

fn invalid(what: String) -> Error {
    error(ErrorKind::InvalidMessage, what)
}

/// Bytes of a length and what has it; null has the length -1.
fn sized(bytes: Option<usize>) -> usize {
    bytes.map_or(1, |bytes| varint(bytes) + bytes)
}

/// Bytes of a number as Kafka writes it: doubled, the lowest bit being its sign, then seven bits to a byte.
fn varint(number: usize) -> usize {
    let doubled = (number as u64) << 1;
    (u64::BITS - (doubled | 1).leading_zeros()).div_ceil(7) as usize
}
