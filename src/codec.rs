use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value as JSON.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| {
        Error::new(ErrorKind::InvalidMessage, format!("the body has no JSON form: {e}"))
            .with_operation("encode")
    })
}

/// The value in JSON bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], type_name: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::new(ErrorKind::InvalidMessage, format!("the payload is no JSON of type `{type_name}`: {e}"))
            .with_operation("decode")
    })
}
