use crate::adapter::{Kind, Message, MessageKey, Text, Timestamp};
use crate::config::Field;
use std::collections::BTreeMap;

/// The names under which foreign clients carry fields that have no native place: read from and written to headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreign(BTreeMap<Field, String>);

impl Foreign {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the foreign headers for the fields that are set.
    pub(crate) fn outgoing(&self, message: &mut Message) {
        for (field, name) in &self.0 {
            let value = match field {
                Field::Id => message.id().map(|id| id.to_text().into_bytes()),
                Field::Type => message.type_name().cloned().map(Text::into_bytes),
                Field::Key => message.key().map(|key| key.bytes().clone()),
                Field::CorrelationId => message.correlation_id().cloned().map(Text::into_bytes),
                Field::ReplyTo => message.reply_to().cloned().map(Text::into_bytes),
                Field::ContentType => message.content_type().cloned().map(Text::into_bytes),
                Field::Kind => message.kind().map(|kind| kind.as_str().into()),
                Field::Time => message.time().map(|time| time.as_millis().to_string().into()),
            };
            if let Some(value) = value {
                message.headers_mut().set(name.as_str(), value);
            }
        }
    }

    /// Fills fields that are missing from the foreign headers.
    pub(crate) fn incoming(&self, message: &mut Message) {
        for (field, name) in &self.0 {
            let Some(value) = message.headers().bytes(name).cloned() else {
                continue;
            };
            let text = Text::from_utf8(value.clone()).ok();
            match field {
                Field::Id if message.id().is_none() => message.set_id(text.map(Into::into)),
                Field::Type if message.type_name().is_none() => message.set_type_name(text),
                Field::Key if message.key().is_none() => message.set_key(MessageKey::from(value)),
                Field::CorrelationId if message.correlation_id().is_none() => {
                    message.set_correlation_id(text)
                }
                Field::ReplyTo if message.reply_to().is_none() => message.set_reply_to(text),
                Field::ContentType if message.content_type().is_none() => message.set_content_type(text),
                Field::Kind if message.kind().is_none() => {
                    message.set_kind(text.and_then(|t| Kind::parse(&t)))
                }
                Field::Time if message.time().is_none() => {
                    message.set_time(text.and_then(|t| t.parse().ok()).map(Timestamp::from_millis));
                }
                _ => {}
            }
        }
    }
}

impl From<BTreeMap<Field, String>> for Foreign {
    fn from(names: BTreeMap<Field, String>) -> Self {
        Self(names)
    }
}
