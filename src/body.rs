use crate::adapter::{Bytes, Kind, Message, MessageKey};
use crate::{Result, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
        let mut message = Message::new(self.encode()?)
            .with_type(B::TYPE_TEXT)
            .with_content_type(B::CONTENT_TYPE_TEXT);
        message.kind = B::KIND;
        message.key = self.key();
        Ok(message)
    }
}

/// The constants of a [`Body`] as shared text, so that sending allocates neither.
trait Texts {
    const TYPE_TEXT: crate::adapter::Text;
    const CONTENT_TYPE_TEXT: crate::adapter::Text;
}

#[expect(
    clippy::declare_interior_mutable_const,
    reason = "text of static bytes: cloning it copies a pointer"
)]
impl<B: Body> Texts for B {
    const TYPE_TEXT: crate::adapter::Text = crate::adapter::Text::from_static(B::TYPE);
    const CONTENT_TYPE_TEXT: crate::adapter::Text = crate::adapter::Text::from_static(B::CONTENT_TYPE);
}
