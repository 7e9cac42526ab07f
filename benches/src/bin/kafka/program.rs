//! Peers that are programs of their own, which measure themselves as we do: Watermill of the Go world, and sea-streamer, whose rdkafka is another.

use crate::{Job, MESSAGES, TASKS};
use anybroker_benches::{Options, Sample};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Where the program is, if somebody has built it: the file that follows this option.
pub(crate) fn given(option: &str) -> Option<Arc<str>> {
    Options::text(option).map(Arc::from)
}

/// Runs it once: `what` is `send` or `receive`.
pub(crate) async fn run(program: Arc<str>, what: &'static str, job: Job) -> Sample {
    let output = tokio::task::spawn_blocking(move || {
        let counts = [MESSAGES, job.payload.len(), TASKS].map(|count| count.to_string());
        let mut command = Command::new(&*program);
        command.args([what, &*job.servers, &*job.topic]).args(counts).stderr(Stdio::inherit());
        command.output().unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut nanos = text.split_whitespace().map(|number| Duration::from_nanos(number.parse().unwrap()));
    Sample::new(nanos.next().unwrap(), nanos.next().unwrap(), MESSAGES)
}
