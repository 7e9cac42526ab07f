use super::{ESCAPE, EXPIRY, KEY, KIND, ORDER, TIME, TOMBSTONE, is_taken};
use crate::error::error;
use crate::names::{LONGEST, too_long};
use anybroker_contract::{Bytes, ErrorKind, Headers, Message, Result, Text, Timestamp};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, LongString, ShortString};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A table of AMQP while it is written.
type Table = BTreeMap<ShortString, AMQPValue>;

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// All fields but the payload.
pub(crate) fn encode(message: &Message) -> Result<BasicProperties> {
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(id) = message.id() {
        properties = properties.with_message_id(match id.as_uuid() {
            Some(uuid) => uuid.hyphenated().to_string().into(),
            None => short("id", &id.to_text())?,
        });
    }
    if let Some(type_name) = message.type_name() {
        properties = properties.with_type(short("type", type_name)?);
    }
    if let Some(id) = message.correlation_id() {
        properties = properties.with_correlation_id(short("correlation id", id)?);
    }
    if let Some(address) = message.reply_to() {
        properties = properties.with_reply_to(short("return address", address)?);
    }
    if let Some(content_type) = message.content_type() {
        properties = properties.with_content_type(short("content type", content_type)?);
    }
    let mut table = Table::new();
    let mut put = |name: &'static str, value| {
        table.insert(name.into(), value);
    };
    if let Some(time) = message.time() {
        if let Ok(seconds) = u64::try_from(time.as_millis().div_euclid(1000)) {
            properties = properties.with_timestamp(seconds);
        }
        put(TIME, AMQPValue::LongString(rfc3339("time", time)?.into()));
    }
    if let Some(kind) = message.kind() {
        put(KIND, text(kind.as_str()));
    }
    if let Some(key) = message.key() {
        put(KEY, text(key.as_bytes()));
    }
    if let Some(at) = message.expires_at() {
        put(EXPIRY, AMQPValue::LongString(rfc3339("expiry", at)?.into()));
    }
    if message.payload().is_none() {
        put(TOMBSTONE, AMQPValue::Boolean(true));
    }
    write_headers(message.headers(), &mut table)?;
    if !table.is_empty() {
        properties = properties.with_headers(table.into());
    }
    Ok(properties)
}

/// Bytes on the wire: the payload and the frame of the properties, which has to be one. Counts and checks what [`encode`] would write, without writing
/// it: each message is measured before it is sent.
pub(crate) fn measure(message: &Message, frame_max: usize) -> Result<usize> {
    let frame = FIXED + measure_texts(message)? + measure_table(message)?;
    if frame > frame_max {
        let what = format!(
            "the fields beside the payload have {frame} bytes, and one frame takes {frame_max} bytes"
        );
        return Err(error(ErrorKind::PayloadTooLarge, what)
            .with_help("put what is large into the payload, or raise RabbitMQ's `frame_max`"));
    }
    Ok(frame + message.body().len())
}

/// Frame, class, weight, body size, flags and delivery mode.
const FIXED: usize = 8 + 2 + 2 + 8 + 2 + 1;

/// A hyphenated UUID.
const UUID: usize = 36;

/// The fields that have a place of their own.
fn measure_texts(message: &Message) -> Result<usize> {
    let id = match message.id() {
        Some(id) if id.as_uuid().is_some() => 1 + UUID,
        Some(id) => 1 + fitting("id", &id.to_text())?,
        None => 0,
    };
    let texts = [
        ("type", message.type_name()),
        ("correlation id", message.correlation_id()),
        ("return address", message.reply_to()),
        ("content type", message.content_type()),
    ];
    let mut size = id;
    for (field, text) in texts {
        size += text.map_or(Ok(0), |text| fitting(field, text).map(|length| 1 + length))?;
    }
    let seconds = message.time().is_some_and(|time| time.as_millis() >= 0);
    Ok(size + if seconds { 8 } else { 0 })
}

/// The fields that lie in the table of headers, and the headers.
fn measure_table(message: &Message) -> Result<usize> {
    let mut size = 0;
    let mut put = |name: &str, value: usize| size += 1 + name.len() + value;
    if let Some(time) = message.time() {
        put(TIME, 5 + rfc3339("time", time)?.len());
    }
    if let Some(kind) = message.kind() {
        put(KIND, 5 + kind.as_str().len());
    }
    if let Some(key) = message.key() {
        put(KEY, 5 + key.as_bytes().len());
    }
    if let Some(at) = message.expires_at() {
        put(EXPIRY, 5 + rfc3339("expiry", at)?.len());
    }
    if message.payload().is_none() {
        put(TOMBSTONE, 2);
    }
    if !message.headers().is_empty() {
        let mut table = Table::new();
        write_headers(message.headers(), &mut table)?;
        size += table.iter().map(|(name, value)| 1 + name.as_str().len() + value_size(value)).sum::<usize>();
    }
    // A table that is empty is left out.
    Ok(if size > 0 { 4 + size } else { 0 })
}

fn write_headers(headers: &Headers, table: &mut Table) -> Result<()> {
    // In order and without repetition, the table alone says it all.
    let mut sorted = true;
    let mut last: Option<&str> = None;
    for (name, value) in headers.iter() {
        sorted &= last.is_none_or(|last| last < name.as_str()) && !is_taken(name);
        last = Some(name.as_str());
        let value = value.map_or(AMQPValue::Void, |value: &Bytes| text(&value[..]));
        match table.entry(short_header(name)?) {
            Entry::Vacant(place) => {
                place.insert(value);
            }
            Entry::Occupied(mut there) => match there.get_mut() {
                AMQPValue::FieldArray(all) => all.push(value),
                one => *one = AMQPValue::FieldArray(vec![one.clone(), value].into()),
            },
        }
    }
    if !sorted {
        let names: Vec<AMQPValue> = headers.iter().map(|(name, _)| text(written(name).as_bytes())).collect();
        table.insert(ORDER.into(), AMQPValue::FieldArray(names.into()));
    }
    Ok(())
}

/// The name under which a caller's header travels.
fn written(name: &Text) -> Cow<'_, str> {
    match is_taken(name) {
        true => format!("{ESCAPE}{name}").into(),
        false => name.as_str().into(),
    }
}

fn short_header(name: &Text) -> Result<ShortString> {
    let written = written(name);
    let length = written.len();
    ShortString::try_new(written.into_owned())
        .map_err(|_| too_long(ErrorKind::InvalidMessage, &format!("the name of the header `{name}`"), length))
}

fn short(field: &str, value: &Text) -> Result<ShortString> {
    fitting(field, value)?;
    Ok(value.as_str().into())
}

/// The length of a text that has to be a short one.
fn fitting(field: &str, value: &Text) -> Result<usize> {
    match value.len() {
        length @ 0..=LONGEST => Ok(length),
        length => Err(too_long(ErrorKind::InvalidMessage, &format!("the message's {field}"), length)),
    }
}

fn text(bytes: impl AsRef<[u8]>) -> AMQPValue {
    AMQPValue::LongString(LongString::from(bytes.as_ref()))
}

fn rfc3339(field: &str, time: Timestamp) -> Result<String> {
    time.to_rfc3339().ok_or_else(|| {
        error(
            ErrorKind::InvalidMessage,
            format!("the message's {field} is {time:?}, outside of the years 0 to 9999"),
        )
        .with_help("set a time that has a date")
    })
}

/// Of the values that are written here.
fn value_size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 5 + text.as_bytes().len(),
        AMQPValue::FieldArray(array) => 5 + array.as_slice().iter().map(value_size).sum::<usize>(),
        AMQPValue::Boolean(_) => 2,
        _ => 1,
    }
}
