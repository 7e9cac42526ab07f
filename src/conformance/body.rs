use crate::adapter::Bytes;
use crate::{Body, Command, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// What the checks send as typed bodies: a number as decimal text, so that no codec is needed.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident = $type_name:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(super) struct $name(pub(super) u64);

        impl Body for $name {
            const TYPE: &'static str = $type_name;
            const CONTENT_TYPE: &'static str = "text/plain";

            fn encode(&self) -> Result<Bytes> {
                Ok(self.0.to_string().into())
            }

            fn decode(bytes: &[u8]) -> Result<Self> {
                std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .map(Self)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidMessage, "the payload is no number"))
            }
        }
    };
}

number!(
    /// A question.
    Ask = "conformance-ask"
);
number!(
    /// Its answer.
    Answer = "conformance-answer"
);

impl Command for Ask {
    type Reply = Answer;
}
