use super::{CONTENT_TYPE, CORRELATION_ID, ESCAPE, EXPIRY, ID, KIND, LAST, REPLY_TO, TIME, TO, TYPE};
use crate::error::error;
use anybroker_contract::{
    Bytes, Error, ErrorKind, Headers, Kind, Message, MessageId, MessageKey, Received, Result, Text,
    Timestamp, Token,
};

/// A record as a client library lends it, without its headers.
pub(crate) struct Record<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// In milliseconds since 1970; `None` when the broker gave none.
    pub(crate) timestamp: Option<i64>,
}

/// What a record says.
pub(crate) struct Decoded {
    pub(crate) received: Received,
    /// Who it is for, on a reply; also when the rest could not be read.
    pub(crate) to: Option<Text>,
}

/// The record as the contract has it.
pub(crate) fn decode<'a>(
    record: &Record<'a>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    token: Token,
) -> Decoded {
    let mut fields = Fields::default();
    let mut free = Headers::new();
    let read = read_headers(headers, &mut fields, &mut free);
    let (to, read) = match text(TO, fields.to) {
        Ok(to) => (to, read),
        Err(error) => (None, read.and(Err(error))),
    };
    let received = match read.and_then(|()| message(record, &fields, free)) {
        Ok(message) => Received::new(message, token),
        Err(error) => {
            Received::undecodable(Bytes::copy_from_slice(record.value.unwrap_or_default()), error, token)
        }
    };
    Decoded { received, to }
}

/// A record whose headers cannot be read.
pub(crate) fn unreadable(record: &Record<'_>, token: Token) -> Decoded {
    let error = error(ErrorKind::InvalidMessage, "the record's headers cannot be read")
        .with_help("there may be too many of them: look at the record with a tool of Kafka's");
    let raw = Bytes::copy_from_slice(record.value.unwrap_or_default());
    Decoded { received: Received::undecodable(raw, error, token), to: None }
}

/// The last values of the headers that are ours, so that none is copied before all are seen.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a [u8]>,
    type_name: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    correlation_id: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    expiry: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    /// The message has no time, whatever the record's timestamp is.
    timeless: bool,
    to: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Keeps the value if the name is one of ours, and says so.
    fn keep(&mut self, name: &str, value: Option<&'a [u8]>) -> bool {
        let field = match name {
            ID => &mut self.id,
            TYPE => &mut self.type_name,
            CONTENT_TYPE => &mut self.content_type,
            KIND => &mut self.kind,
            CORRELATION_ID => &mut self.correlation_id,
            REPLY_TO => &mut self.reply_to,
            EXPIRY => &mut self.expiry,
            TIME => {
                self.timeless = value.is_none();
                &mut self.time
            }
            TO => &mut self.to,
            _ => return false,
        };
        *field = value;
        true
    }
}

/// Reads on behind a name that cannot be read: who the record is for may come later.
fn read_headers<'a>(
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    fields: &mut Fields<'a>,
    free: &mut Headers,
) -> Result<()> {
    let mut read = Ok(());
    for (name, value) in headers {
        match std::str::from_utf8(name) {
            Ok(name) if fields.keep(name, value) => {}
            Ok(name) => {
                free.append(name.strip_prefix(ESCAPE).unwrap_or(name), value.map(Bytes::copy_from_slice));
            }
            Err(_) => {
                read = read.and_then(|()| Err(wrong(&name.escape_ascii().to_string(), "named in UTF-8")))
            }
        }
    }
    read
}

fn message(record: &Record<'_>, fields: &Fields<'_>, free: Headers) -> Result<Message> {
    let mut message = Message::default();
    message.set_id(str(ID, fields.id)?.map(MessageId::from));
    message.set_type_name(text(TYPE, fields.type_name)?);
    message.set_content_type(text(CONTENT_TYPE, fields.content_type)?);
    message.set_kind(fields.kind.map(kind).transpose()?);
    message.set_correlation_id(text(CORRELATION_ID, fields.correlation_id)?);
    message.set_reply_to(text(REPLY_TO, fields.reply_to)?);
    message.set_expires_at(fields.expiry.map(|value| time(EXPIRY, value)).transpose()?);
    message.set_time(match fields.time {
        Some(value) => Some(time(TIME, value)?),
        None if fields.timeless => None,
        // Clients that count in microseconds give times that could not be written again, not even into a dead letter.
        None => record.timestamp.filter(|millis| (0..=LAST).contains(millis)).map(Timestamp::from_millis),
    });
    if !free.is_empty() {
        *message.headers_mut() = free;
    }
    message.set_key(record.key.map(MessageKey::from));
    message.set_payload(record.value.map(Bytes::copy_from_slice));
    Ok(message)
}

fn text(field: &str, value: Option<&[u8]>) -> Result<Option<Text>> {
    Ok(str(field, value)?.map(Text::from))
}

fn str<'a>(field: &str, value: Option<&'a [u8]>) -> Result<Option<&'a str>> {
    value.map(std::str::from_utf8).transpose().map_err(|_| wrong(field, "text in UTF-8"))
}

fn kind(value: &[u8]) -> Result<Kind> {
    let kind = std::str::from_utf8(value).ok().and_then(Kind::parse);
    kind.ok_or_else(|| wrong(KIND, "`document`, `command` or `event`"))
}

fn time(field: &str, value: &[u8]) -> Result<Timestamp> {
    let time = std::str::from_utf8(value).ok().and_then(Timestamp::from_rfc3339);
    time.ok_or_else(|| wrong(field, "a time of RFC 3339"))
}

fn wrong(field: &str, expected: &str) -> Error {
    error(ErrorKind::InvalidMessage, format!("the header `{field}` is not {expected}"))
        .with_help("correct the client that sends it, or bind the channel's `headers` to other names")
}
