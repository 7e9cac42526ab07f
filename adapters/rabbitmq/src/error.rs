//! The one mapping from what lapin and RabbitMQ say to the contract's kinds.

use anybroker_contract::{BoxFuture, Clock, Error, ErrorKind, Result};
use lapin::ErrorKind as Lapin;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Instant;

pub(crate) fn error(kind: ErrorKind, what: impl Into<String>) -> Error {
    Error::new(kind, what).with_adapter(crate::NAME)
}

/// What became of an operation on an open connection.
pub(crate) fn operation(what: &str, failed: &lapin::Error) -> Error {
    let Lapin::ProtocolError(said) = failed.kind() else {
        return lost(what, failed);
    };
    let text = said.get_message().as_str();
    let explain = |kind, help: &str| {
        let error = error(kind, format!("{what}: RabbitMQ says {text:?}"));
        if help.is_empty() { error } else { error.with_help(help) }
    };
    match said.get_id() {
        // Its node is down, or somebody else is making it just now. It is there.
        404 if text.contains("down or inaccessible") => {
            explain(ErrorKind::Unavailable, "start the node of the cluster that has it")
        }
        311 => explain(ErrorKind::PayloadTooLarge, ""),
        402 | 404 => explain(ErrorKind::NotFound, "declare it first, or correct its name"),
        403 => explain(
            ErrorKind::Unauthorized,
            "give the user the right to configure, write or read it, whichever is missing",
        ),
        405 => explain(ErrorKind::Conflict, "it belongs to another connection: choose another name"),
        406 => explain(
            ErrorKind::Conflict,
            "declare it as it is, bind the channel to another address, or delete what is there",
        ),
        540 => explain(ErrorKind::Unsupported, "use a newer RabbitMQ"),
        _ => explain(ErrorKind::Disconnected, ""),
    }
}

/// Whether the broker has ended the channel because a message of that many bytes is too large. It says so of one message only; the others on the
/// channel are lost with it, and would be again.
pub(crate) fn too_large(failed: &lapin::Error, size: usize) -> Option<Error> {
    let Lapin::ProtocolError(said) = failed.kind() else { return None };
    let text = said.get_message().as_str();
    let refused = text.split_once("message size ")?.1.split_whitespace().next()?;
    (refused == size.to_string()).then(|| {
        error(ErrorKind::PayloadTooLarge, format!("RabbitMQ says {text:?}")).with_help(
            "set `max-message` to RabbitMQ's `max_message_size`, so that it is known before sending",
        )
    })
}

/// Why a connection could not be made.
pub(crate) fn connecting(host: &str, failed: lapin::Error) -> Error {
    let (kind, what, help) = match failed.kind() {
        Lapin::ProtocolError(said) => match said.get_id() {
            403 => (
                ErrorKind::Unauthorized,
                said.get_message().as_str().to_owned(),
                "check user name and password",
            ),
            402 | 404 | 530 => (
                ErrorKind::Unauthorized,
                said.get_message().as_str().to_owned(),
                "check that the virtual host (the URL's path) exists and that the user may use it",
            ),
            _ => (ErrorKind::Unavailable, said.get_message().as_str().to_owned(), ""),
        },
        // The broker ends the connection without a word when it does not want it, or is not RabbitMQ.
        _ => (ErrorKind::Unavailable, failed.to_string(), ""),
    };
    let error = error(kind, format!("cannot open a connection to {host}: {what}"));
    let error = if help.is_empty() { error } else { error.with_help(help) };
    error.with_source(failed)
}

/// The connection or channel is gone.
pub(crate) fn lost(what: &str, failed: &lapin::Error) -> Error {
    error(ErrorKind::Disconnected, format!("{what}: the connection or its channel is gone"))
        .with_source(failed.clone())
}

/// The future's output, or a time-out at the deadline.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    deadline: Instant,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T> {
    let mut future = std::pin::pin!(future);
    let mut alarm: BoxFuture<'static, ()> = clock.sleep_until(deadline);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| {
            Err(error(ErrorKind::Timeout, format!("{what}: RabbitMQ has not answered until the deadline")))
        }),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::operation;
    use anybroker_contract::ErrorKind;
    use lapin::protocol::{AMQPError, AMQPSoftError};

    #[test]
    fn a_queue_whose_node_is_down_is_not_taken_for_one_that_is_not_there() {
        let missing = "NOT_FOUND - no queue 'orders#7' in vhost '/'";
        let down = "NOT_FOUND - home node 'rabbit@a' of durable queue 'orders#7' in vhost '/' is down or inaccessible";
        for (text, kind) in [(missing, ErrorKind::NotFound), (down, ErrorKind::Unavailable)] {
            let said = AMQPError::new(AMQPSoftError::NOTFOUND.into(), text.into());
            let failed = lapin::Error::from(lapin::ErrorKind::ProtocolError(said));
            let error = operation("declaring", &failed);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("orders#7"));
        }
    }
}
