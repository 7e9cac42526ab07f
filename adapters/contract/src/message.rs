use crate::{HeaderValue, Headers, Text, Timestamp};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// A message: header fields, free headers, and a payload.
///
/// Every field may be absent on a message from a foreign client. On sending, the portable layer fills `id` and `time` before the first
/// attempt; adapters never make ids. An adapter carries every field byte for byte or refuses the message.
///
/// Each field has a getter of its name, a `with_` form for building, and a `set_` form that also takes `None`. A message is small, and cloning one
/// copies neither payload nor headers.
///
/// ```
/// use anybroker_contract::{Kind, Message};
///
/// let message = Message::new("two dishes").with_key("table-4").with_kind(Kind::Command).with_header("waiter", "Ada");
/// assert_eq!(message.headers().text("waiter"), Some("Ada"));
/// ```
#[derive(Clone, Default)]
pub struct Message {
    id: Option<MessageId>,
    time: Option<Timestamp>,
    key: Option<MessageKey>,
    payload: Option<Bytes>,
    // What many messages lack or share, behind one pointer, so that a message stays cheap to move and to clone.
    more: Option<Arc<More>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct More {
    kind: Option<Kind>,
    type_name: Option<Text>,
    correlation_id: Option<Text>,
    reply_to: Option<Text>,
    content_type: Option<Text>,
    expires_at: Option<Timestamp>,
    headers: Headers,
}

static NO_HEADERS: Headers = Headers::new();

impl Message {
    /// A message with this payload and nothing else.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    /// A message without payload.
    #[must_use]
    pub fn tombstone(key: impl Into<MessageKey>) -> Self {
        Self { key: Some(key.into()), ..Self::default() }
    }

    /// Identifies the message over all its copies and redeliveries.
    #[must_use]
    #[inline]
    pub const fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }

    /// When it was sent, to the millisecond.
    #[must_use]
    #[inline]
    pub const fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// Messages of one key stay in order on a channel that requires it.
    #[must_use]
    #[inline]
    pub const fn key(&self) -> Option<&MessageKey> {
        self.key.as_ref()
    }

    /// The body; `None` is a tombstone, which differs from an empty body.
    #[must_use]
    #[inline]
    pub const fn payload(&self) -> Option<&Bytes> {
        self.payload.as_ref()
    }

    /// The payload's bytes; empty for a tombstone.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }

    /// Document, command or event.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> Option<Kind> {
        self.more.as_ref()?.kind
    }

    /// The type of the body, such as `order-created`.
    #[must_use]
    #[inline]
    pub fn type_name(&self) -> Option<&Text> {
        self.more.as_ref()?.type_name.as_ref()
    }

    /// The id of the conversation, on a reply that of the request.
    #[must_use]
    #[inline]
    pub fn correlation_id(&self) -> Option<&Text> {
        self.more.as_ref()?.correlation_id.as_ref()
    }

    /// Return address. Foreign input: see the rules on replies.
    #[must_use]
    #[inline]
    pub fn reply_to(&self) -> Option<&Text> {
        self.more.as_ref()?.reply_to.as_ref()
    }

    /// Media type of the payload, such as `application/json`.
    #[must_use]
    #[inline]
    pub fn content_type(&self) -> Option<&Text> {
        self.more.as_ref()?.content_type.as_ref()
    }

    /// From then on the message is not handed out any more.
    #[must_use]
    #[inline]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.more.as_ref()?.expires_at
    }

    /// Free headers.
    #[must_use]
    #[inline]
    pub fn headers(&self) -> &Headers {
        self.more.as_ref().map_or(&NO_HEADERS, |more| &more.headers)
    }

    /// Free headers, to be changed.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.more_mut().headers
    }

    /// Adds a header behind those that are there.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Text>, value: impl HeaderValue) -> Self {
        self.headers_mut().append(name, value);
        self
    }

    /// Sets the id, for a caller that keeps ids of its own.
    pub fn set_id(&mut self, id: impl Into<Option<MessageId>>) {
        self.id = id.into();
    }

    /// Sets when it was sent.
    pub fn set_time(&mut self, time: impl Into<Option<Timestamp>>) {
        self.time = time.into();
    }

    /// Sets the key.
    pub fn set_key(&mut self, key: impl Into<Option<MessageKey>>) {
        self.key = key.into();
    }

    /// Sets the payload.
    pub fn set_payload(&mut self, payload: impl Into<Option<Bytes>>) {
        self.payload = payload.into();
    }

    /// Sets the kind.
    pub fn set_kind(&mut self, kind: impl Into<Option<Kind>>) {
        self.set_more(kind.into(), |more| &mut more.kind);
    }

    /// Sets the type of the body.
    pub fn set_type_name(&mut self, type_name: impl Into<Option<Text>>) {
        self.set_more(type_name.into(), |more| &mut more.type_name);
    }

    /// Sets the correlation id.
    pub fn set_correlation_id(&mut self, id: impl Into<Option<Text>>) {
        self.set_more(id.into(), |more| &mut more.correlation_id);
    }

    /// Sets the return address.
    pub fn set_reply_to(&mut self, address: impl Into<Option<Text>>) {
        self.set_more(address.into(), |more| &mut more.reply_to);
    }

    /// Sets the media type of the payload.
    pub fn set_content_type(&mut self, content_type: impl Into<Option<Text>>) {
        self.set_more(content_type.into(), |more| &mut more.content_type);
    }

    /// Sets the moment from which the message is not handed out any more.
    pub fn set_expires_at(&mut self, at: impl Into<Option<Timestamp>>) {
        self.set_more(at.into(), |more| &mut more.expires_at);
    }

    /// The same with that id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<MessageId>) -> Self {
        self.set_id(id.into());
        self
    }

    /// The same sent at that time.
    #[must_use]
    pub fn with_time(mut self, time: Timestamp) -> Self {
        self.set_time(time);
        self
    }

    /// The same with that key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<MessageKey>) -> Self {
        self.set_key(key.into());
        self
    }

    /// The same of that kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.set_kind(kind);
        self
    }

    /// The same with a body of that type.
    #[must_use]
    pub fn with_type(mut self, type_name: impl Into<Text>) -> Self {
        self.set_type_name(type_name.into());
        self
    }

    /// The same with that correlation id.
    #[must_use]
    pub fn with_correlation_id(mut self, id: impl Into<Text>) -> Self {
        self.set_correlation_id(id.into());
        self
    }

    /// The same with that return address.
    #[must_use]
    pub fn with_reply_to(mut self, address: impl Into<Text>) -> Self {
        self.set_reply_to(address.into());
        self
    }

    /// The same with a payload of that media type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: impl Into<Text>) -> Self {
        self.set_content_type(content_type.into());
        self
    }

    /// The same, not handed out from that moment on.
    #[must_use]
    pub fn with_expiry(mut self, at: Timestamp) -> Self {
        self.set_expires_at(at);
        self
    }

    /// Bytes of payload, key, texts and headers: what memory bounds are counted in. Adapters measure the wire form themselves.
    #[must_use]
    #[inline]
    pub fn size(&self) -> usize {
        let text = |t: &Option<Text>| t.as_ref().map_or(0, |t| t.len());
        let more = self.more.as_ref().map_or(0, |more| {
            text(&more.type_name)
                + text(&more.correlation_id)
                + text(&more.reply_to)
                + text(&more.content_type)
                + more.headers.size()
        });
        self.body().len() + self.key.as_ref().map_or(0, |k| k.as_bytes().len()) + more
    }

    fn more_mut(&mut self) -> &mut More {
        Arc::make_mut(self.more.get_or_insert_default())
    }

    /// Sets a field behind the pointer; `None` on a message without such fields makes none.
    fn set_more<T>(&mut self, value: Option<T>, field: impl FnOnce(&mut More) -> &mut Option<T>) {
        if value.is_some() || self.more.is_some() {
            *field(self.more_mut()) = value;
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let same = (&self.id, self.time, &self.key, &self.payload)
            == (&other.id, other.time, &other.key, &other.payload);
        // Fields that were asked for and left empty are as good as none.
        let none = More::default();
        same && self.more.as_deref().unwrap_or(&none) == other.more.as_deref().unwrap_or(&none)
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Message");
        s.field("id", &self.id)
            .field("time", &self.time)
            .field("key", &self.key)
            .field("payload", &self.payload);
        if let Some(more) = &self.more {
            s.field("more", more);
        }
        s.finish()
    }
}

/// What a message is, in the words of *Microservices Patterns*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Data; the receiver decides what to do with it.
    Document,
    /// A request to do something.
    Command,
    /// Something has happened.
    Event,
}

impl Kind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Command => "command",
            Self::Event => "event",
        }
    }

    /// The kind of that name on the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Document, Self::Command, Self::Event].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Identifies a message. A UUID where the portable layer made it, any text where a foreign client did.
///
/// A canonical UUID in text and the same UUID are equal, so an id survives every wire form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Id);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Id {
    Uuid(Uuid),
    Text(Arc<str>),
}

impl MessageId {
    /// The id as a UUID, if it is one.
    #[must_use]
    pub const fn as_uuid(&self) -> Option<Uuid> {
        match self.0 {
            Id::Uuid(uuid) => Some(uuid),
            Id::Text(_) => None,
        }
    }

    /// The id as text, hyphenated and in lower case when it is a UUID.
    #[must_use]
    pub fn to_text(&self) -> Text {
        match &self.0 {
            Id::Uuid(uuid) => Text::from(uuid.hyphenated().to_string()),
            Id::Text(text) => Text::from(&**text),
        }
    }
}

impl From<Uuid> for MessageId {
    fn from(uuid: Uuid) -> Self {
        Self(Id::Uuid(uuid))
    }
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        // Only the canonical form becomes a UUID: any other would not come back byte for byte.
        match Uuid::try_parse(text) {
            Ok(uuid) if *uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text => uuid.into(),
            _ => Self(Id::Text(text.into())),
        }
    }
}

impl From<Text> for MessageId {
    fn from(text: Text) -> Self {
        text.as_str().into()
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Uuid(uuid) => fmt::Display::fmt(uuid, f),
            Id::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The ordering key of a message: bytes. Numbers become their decimal text, so that every client reads the same key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey(Bytes);

impl MessageKey {
    /// The key's bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's shared bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The key as text, if it is UTF-8.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<Bytes> for MessageKey {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Text> for MessageKey {
    fn from(text: Text) -> Self {
        Self(text.into_bytes())
    }
}

macro_rules! key_from {
    ($($from:ty => $bytes:expr),+ $(,)?) => {$(
        impl From<$from> for MessageKey {
            fn from(key: $from) -> Self {
                let bytes: fn($from) -> Bytes = $bytes;
                Self(bytes(key))
            }
        }
    )+};
}
key_from! {
    &str => |k| Bytes::copy_from_slice(k.as_bytes()),
    String => |k| k.into_bytes().into(),
    &[u8] => Bytes::copy_from_slice,
    Vec<u8> => Bytes::from,
    u32 => |k| k.to_string().into(),
    u64 => |k| k.to_string().into(),
    i32 => |k| k.to_string().into(),
    i64 => |k| k.to_string().into(),
    Uuid => |k| k.to_string().into(),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canonical_uuid_in_text_is_the_same_id() {
        let uuid = Uuid::from_u128(0x0192_f0c1_0000_7000_8000_0000_0000_0001);
        assert_eq!(MessageId::from(uuid), MessageId::from(uuid.to_string()));
        let upper = uuid.to_string().to_uppercase();
        assert_eq!(
            MessageId::from(upper.as_str()).to_string(),
            upper,
            "a foreign spelling comes back unchanged"
        );
    }

    #[test]
    fn a_message_whose_headers_were_looked_at_is_the_same() {
        let mut message = Message::new("x");
        let _ = message.headers_mut();
        assert_eq!(message, Message::new("x"));
        assert_ne!(message, Message::new("x").with_header("a", "b"));
    }

    #[test]
    fn numbers_as_keys_are_their_decimal_text() {
        assert_eq!(MessageKey::from(42_u64), MessageKey::from("42"));
    }
}
