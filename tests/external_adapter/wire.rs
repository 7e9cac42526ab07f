//! A message as bytes: every field as its length and its bytes; an absent one has a length that none can have.

use anybroker::adapter::{Bytes, Kind, Message, Text, Timestamp};

const ABSENT: u32 = u32::MAX;

/// The record of a message.
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let mut wire = Vec::with_capacity(64 + message.size());
    let mut put = |field: Option<&[u8]>| {
        let length = field.map_or(ABSENT, |bytes| u32::try_from(bytes.len()).unwrap_or(ABSENT - 1));
        wire.extend(length.to_be_bytes());
        wire.extend(field.unwrap_or_default());
    };
    let millis = |time: Option<Timestamp>| time.map(|time| time.as_millis().to_be_bytes());
    put(message.id().map(|id| id.to_text()).as_ref().map(|id| id.as_bytes()));
    put(millis(message.time()).as_ref().map(|time| &time[..]));
    put(message.kind().map(|kind| kind.as_str().as_bytes()));
    put(message.type_name().map(|text| text.as_bytes()));
    put(message.key().map(|key| key.as_bytes()));
    put(message.correlation_id().map(|text| text.as_bytes()));
    put(message.reply_to().map(|text| text.as_bytes()));
    put(message.content_type().map(|text| text.as_bytes()));
    put(millis(message.expires_at()).as_ref().map(|time| &time[..]));
    put(message.payload().map(|payload| &payload[..]));
    for (name, value) in message.headers().iter() {
        put(Some(name.as_bytes()));
        put(value.map(|value| &value[..]));
    }
    wire
}

/// The message in that record; `None` when it is not one.
pub(crate) fn decode(raw: &Bytes) -> Option<Message> {
    let mut rest = raw.clone();
    let mut message = Message::default();
    message.set_id(text(&mut rest)?.map(Into::into));
    message.set_time(time(&mut rest)?);
    message.set_kind(match text(&mut rest)? {
        Some(kind) => Some(Kind::parse(&kind)?),
        None => None,
    });
    message.set_type_name(text(&mut rest)?);
    message.set_key(field(&mut rest)?.map(Into::into));
    message.set_correlation_id(text(&mut rest)?);
    message.set_reply_to(text(&mut rest)?);
    message.set_content_type(text(&mut rest)?);
    message.set_expires_at(time(&mut rest)?);
    message.set_payload(field(&mut rest)?);
    while !rest.is_empty() {
        let name = text(&mut rest)??;
        message.headers_mut().append(name, field(&mut rest)?);
    }
    Some(message)
}

/// The next field, which may be absent; `None` when the record is broken.
fn field(rest: &mut Bytes) -> Option<Option<Bytes>> {
    let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
    *rest = rest.slice(4..);
    if length == ABSENT {
        return Some(None);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
    Some(Some(rest.split_to(length)))
}

fn text(rest: &mut Bytes) -> Option<Option<Text>> {
    match field(rest)? {
        Some(bytes) => Some(Some(Text::from_utf8(bytes).ok()?)),
        None => Some(None),
    }
}

fn time(rest: &mut Bytes) -> Option<Option<Timestamp>> {
    match field(rest)? {
        Some(bytes) => Some(Some(Timestamp::from_millis(i64::from_be_bytes(bytes[..].try_into().ok()?)))),
        None => Some(None),
    }
}
