use crate::adapter::{Bytes, Kind, Message, MessageKey, Text};
use crate::{Result, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::RefCell;

/// What a message carries: a document, command or event of the application, encoded as JSON unless it says otherwise.
///
/// ```
/// use anybroker::{Body, MessageKey};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order { id: u64, dishes: u8 }
///
/// impl Body for Order {
///     const TYPE: &'static str = "order";
///     fn key(&self) -> Option<MessageKey> { Some(self.id.into()) }
/// }
/// ```
pub trait Body: Serialize + DeserializeOwned {
    /// The name of the type on the wire.
    const TYPE: &'static str;

    /// Document, command or event, if the application tells them apart.
    const KIND: Option<Kind> = None;

    /// The media type that [`Body::encode`] writes.
    const CONTENT_TYPE: &'static str = "application/json";

    /// The ordering key. Messages of one key stay in order on a channel that requires it.
    fn key(&self) -> Option<MessageKey> {
        None
    }

    /// The bytes on the wire.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidMessage`] when the value has no encoding.
    fn encode(&self) -> Result<Bytes> {
        codec::encode(self)
    }

    /// The value in these bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidMessage`], saying what is wrong with them.
    fn decode(bytes: &[u8]) -> Result<Self> {
        codec::decode(bytes, Self::TYPE)
    }
}

/// A body that asks for an answer.
pub trait Command: Body {
    /// The answer.
    type Reply: Body;
}

/// What can be sent: a reference to a [`Body`], or a [`Message`] as it is.
pub trait IntoMessage {
    /// The message to send.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidMessage`] when the body has no encoding.
    fn into_message(self) -> Result<Message>;
}

impl IntoMessage for Message {
    fn into_message(self) -> Result<Message> {
        Ok(self)
    }
}

impl<B: Body> IntoMessage for &B {
    fn into_message(self) -> Result<Message> {
        let mut message = template::<B>();
        message.set_payload(self.encode()?);
        message.set_key(self.key());
        Ok(message)
    }
}

/// A message with what all bodies of one type share. The last one of each thread is kept, since services send long runs of one type.
fn template<B: Body>() -> Message {
    thread_local! {
        static LAST: RefCell<Option<(&'static str, &'static str, Message)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((name, content_type, message))
            if *name == B::TYPE && *content_type == B::CONTENT_TYPE && message.kind() == B::KIND =>
        {
            message.clone()
        }
        _ => {
            let mut message = Message::default();
            message.set_type_name(Text::from_static(B::TYPE));
            message.set_content_type(Text::from_static(B::CONTENT_TYPE));
            message.set_kind(B::KIND);
            *last = Some((B::TYPE, B::CONTENT_TYPE, message.clone()));
            message
        }
    })
}
