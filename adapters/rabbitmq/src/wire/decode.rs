use super::{ESCAPE, EXPIRY, FIELDS, KEY, KIND, ORDER, TIME, TOMBSTONE, is_the_brokers};
use crate::buckets::is_bucket;
use crate::error::error;
use anybroker_contract::{
    Bytes, Error, ErrorKind, Headers, Kind, Message, MessageKey, Received, Result, Text, Timestamp, Token,
};
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::collections::HashMap;

/// Headers that are no portable ones, among a delivery's [extensions](anybroker_contract::Received::extensions): what RabbitMQ itself wrote, such as
/// `x-death` and `x-delivery-count`, and what holds tables.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct NativeHeaders(pub FieldTable);

/// The delivery as the contract has it. With `keyed`, the routing key is the key of a message that says nothing else,
/// unless it is a bucket.
pub(crate) fn decode(delivery: Delivery, token: Token, keyed: bool) -> Received {
    let body = Bytes::from(delivery.data);
    let none = FieldTable::default();
    let table = delivery.properties.headers().as_ref().unwrap_or(&none);
    let mut native = FieldTable::default();
    let routing_key = Some(delivery.routing_key).filter(|key| keyed && !is_bucket(key.as_str()));
    let mut message = Message::default();
    // Headers come first: what the broker wrote is shown also where ours are broken.
    let read = read_headers(table, &mut message, &mut native)
        .and_then(|()| read_fields(&delivery.properties, table, &body, routing_key.as_ref(), &mut message));
    let received = match read {
        Ok(has_payload) => {
            message.set_payload(has_payload.then_some(body));
            Received::new(message, token)
        }
        Err(error) => Received::undecodable(body, error, token),
    };
    match native.inner().is_empty() {
        true => received,
        false => received.with_extension(NativeHeaders(native)),
    }
}

/// All but the payload; says whether there is one.
fn read_fields(
    properties: &lapin::BasicProperties,
    table: &FieldTable,
    body: &Bytes,
    routing_key: Option<&ShortString>,
    message: &mut Message,
) -> Result<bool> {
    let field = |name: &str| table.inner().get(name);
    let tombstone = field(TOMBSTONE).map_or(Ok(false), |value| tombstone(value, body))?;
    message.set_id(properties.message_id().as_ref().map(|id| id.as_str().into()));
    message.set_type_name(owned(properties.kind().as_ref()));
    message.set_correlation_id(owned(properties.correlation_id().as_ref()));
    message.set_reply_to(owned(properties.reply_to().as_ref()));
    message.set_content_type(owned(properties.content_type().as_ref()));
    message.set_kind(field(KIND).map(kind).transpose()?);
    message.set_expires_at(field(EXPIRY).map(|value| time(EXPIRY, value)).transpose()?);
    message.set_time(match (field(TIME), properties.timestamp()) {
        (Some(value), _) => Some(time(TIME, value)?),
        (None, Some(seconds)) => {
            let millis = i64::try_from(*seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
            millis.map(Timestamp::from_millis)
        }
        (None, None) => None,
    });
    message.set_key(match (field(KEY), routing_key) {
        (Some(AMQPValue::Void), _) => None,
        (Some(value), _) => Some(MessageKey::from(plain(value).flatten().ok_or_else(|| wrong(KEY, "text"))?)),
        (None, Some(key)) if !key.as_str().is_empty() => Some(MessageKey::from(key.as_str())),
        (None, _) => None,
    });
    Ok(!tombstone)
}

fn read_headers(table: &FieldTable, message: &mut Message, native: &mut FieldTable) -> Result<()> {
    let mut read: Vec<(&str, Vec<Option<Bytes>>)> = Vec::new();
    for (name, value) in table.inner() {
        let name = name.as_str();
        if FIELDS.contains(&name) {
            continue;
        }
        match values(value) {
            Some(values) if !is_the_brokers(name) => read.push((name, values)),
            _ => {
                native.insert(name.into(), value.clone());
            }
        }
    }
    let order = table.inner().get(ORDER);
    if read.is_empty() && order.is_none() {
        return Ok(());
    }
    let headers = message.headers_mut();
    match order {
        None => read.into_iter().for_each(|(name, values)| append(headers, name, values)),
        Some(order) => {
            in_order(order, read, headers).ok_or_else(|| wrong(ORDER, "the list of the headers"))?
        }
    }
    Ok(())
}

/// Each header at its place of the list; `None` when that is no list of names.
fn in_order(order: &AMQPValue, read: Vec<(&str, Vec<Option<Bytes>>)>, headers: &mut Headers) -> Option<()> {
    let AMQPValue::FieldArray(order) = order else { return None };
    let mut left: HashMap<&str, _> =
        read.into_iter().map(|(name, values)| (name, values.into_iter())).collect();
    for name in order.as_slice() {
        let AMQPValue::LongString(name) = name else { return None };
        let name = std::str::from_utf8(name.as_bytes()).ok()?;
        // What a foreign hop has taken away is passed over.
        if let Some(value) = left.get_mut(name).and_then(Iterator::next) {
            append(headers, name, [value]);
        }
    }
    // What a foreign hop has added comes behind.
    let mut added: Vec<_> = left.into_iter().collect();
    added.sort_by_key(|(name, _)| *name);
    added.into_iter().for_each(|(name, values)| append(headers, name, values));
    Some(())
}

fn append(headers: &mut Headers, name: &str, values: impl IntoIterator<Item = Option<Bytes>>) {
    let name = Text::from(name.strip_prefix(ESCAPE).unwrap_or(name));
    values.into_iter().for_each(|value| headers.append(name.clone(), value));
}

/// The values of one header: those of an array, or the only one. `None` for what is no portable header.
fn values(value: &AMQPValue) -> Option<Vec<Option<Bytes>>> {
    match value {
        AMQPValue::FieldArray(array) if !array.as_slice().is_empty() => {
            array.as_slice().iter().map(plain).collect()
        }
        value => Some(vec![plain(value)?]),
    }
}

/// A value as bytes, numbers and the like as their text; void is no value. `None` for arrays and tables.
fn plain(value: &AMQPValue) -> Option<Option<Bytes>> {
    let shown = |value: &dyn std::fmt::Display| Some(Some(Bytes::from(value.to_string())));
    match value {
        AMQPValue::Void => Some(None),
        AMQPValue::LongString(text) => Some(Some(Bytes::copy_from_slice(text.as_bytes()))),
        AMQPValue::ByteArray(bytes) => Some(Some(Bytes::copy_from_slice(bytes.as_slice()))),
        AMQPValue::ShortString(text) => shown(text),
        AMQPValue::Boolean(value) => shown(value),
        AMQPValue::ShortShortInt(value) => shown(value),
        AMQPValue::ShortShortUInt(value) => shown(value),
        AMQPValue::ShortInt(value) => shown(value),
        AMQPValue::ShortUInt(value) => shown(value),
        AMQPValue::LongInt(value) => shown(value),
        AMQPValue::LongUInt(value) => shown(value),
        AMQPValue::LongLongInt(value) => shown(value),
        AMQPValue::Float(value) => shown(value),
        AMQPValue::Double(value) => shown(value),
        AMQPValue::Timestamp(seconds) => shown(seconds),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => None,
    }
}

fn owned(text: Option<&ShortString>) -> Option<Text> {
    text.map(|text| Text::from(text.as_str()))
}

/// Whether there is no payload. A body beside that word would be lost.
fn tombstone(value: &AMQPValue, body: &Bytes) -> Result<bool> {
    match plain(value).flatten().as_deref() {
        Some(b"true") if body.is_empty() => Ok(true),
        Some(b"false") => Ok(false),
        _ => Err(wrong(TOMBSTONE, "`true` beside an empty body")),
    }
}

fn kind(value: &AMQPValue) -> Result<Kind> {
    let name = plain(value).flatten();
    let kind = name.as_deref().and_then(|name| std::str::from_utf8(name).ok()).and_then(Kind::parse);
    kind.ok_or_else(|| wrong(KIND, "`document`, `command` or `event`"))
}

fn time(field: &str, value: &AMQPValue) -> Result<Timestamp> {
    let read = |text: &[u8]| std::str::from_utf8(text).ok().and_then(Timestamp::from_rfc3339);
    let time = match value {
        // As all write it: not to be copied.
        AMQPValue::LongString(text) => read(text.as_bytes()),
        value => plain(value).flatten().as_deref().and_then(read),
    };
    time.ok_or_else(|| wrong(field, "a time of RFC 3339"))
}

fn wrong(field: &str, expected: &str) -> Error {
    error(ErrorKind::InvalidMessage, format!("the header `{field}` is not {expected}"))
        .with_help("correct the client that sends it, or bind the channel's `headers` to other names")
}
