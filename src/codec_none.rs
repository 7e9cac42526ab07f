use crate::{Error, ErrorKind, Result};
use bytes::Bytes;

/// Without the feature `json` a body has to bring its own encoding.
pub(crate) fn encode<T>(_value: &T) -> Result<Bytes> {
    Err(missing())
}

/// Without the feature `json` a body has to bring its own decoding.
pub(crate) fn decode<T>(_bytes: &[u8], _type_name: &str) -> Result<T> {
    Err(missing())
}

fn missing() -> Error {
    Error::new(ErrorKind::Unsupported, "no codec is compiled in")
        .with_help("enable the feature `json`, or implement `Body::encode` and `Body::decode`")
}
