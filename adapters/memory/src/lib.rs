//! The in-memory adapter.

use anybroker_contract::{Adapter, Connection, Error, ErrorKind, Result};
use std::sync::Arc;

/// Opens the memory broker that the URL names.
///
/// # Errors
/// [`ErrorKind::Config`] for what the URL or the settings get wrong.
pub fn open(connection: &Connection) -> Result<Arc<dyn Adapter>> {
    let _ = connection;
    Err(Error::new(ErrorKind::Unsupported, "not written yet"))
}
