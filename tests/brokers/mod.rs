//! The servers of `scripts/brokers`, for tests that disturb them.

#![allow(dead_code, reason = "each test binary uses its share")]

use std::process::Command;
use std::time::Duration;

/// How long a RabbitMQ is left alone after a start, and after a queue was declared, before it is killed: killed within about a second of either, it
/// comes back with the queue empty, and with it goes what it had confirmed.
pub(crate) const SETTLING: Duration = Duration::from_secs(3);

/// Runs `scripts/brokers` with these arguments.
pub(crate) async fn brokers(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("scripts/brokers");
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    match output {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        other => Err(format!("scripts/brokers {}: {other:?}", arguments.join(" "))),
    }
}
