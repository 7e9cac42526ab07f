//! Runs the conformance suite over every adapter: `cargo test --features conformance --test conformance`.
//!
//! `CONFORMANCE_MATRIX=1` prints the matrix adapter × check as Markdown behind the run, from its verdicts.

#[cfg(any(feature = "kafka", feature = "rabbitmq"))]
#[path = "../brokers/mod.rs"]
mod brokers;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
#[path = "../proxy/mod.rs"]
mod proxy;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod report;
#[cfg(feature = "kafka")]
#[path = "../topics/mod.rs"]
mod topics;

use anybroker::conformance::{Check, Fixture, Verdict, checks, run};
use anybroker::memory::Config;
use libtest_mimic::{Arguments, Completion, Trial};
use report::Report;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time is spent waiting for what must not come.
    arguments.test_threads.get_or_insert(8);
    let report = Arc::new(Report::default());
    let (servers, imitations) = match servers().and_then(|servers| Ok((servers, imitations()?))) {
        Ok(both) => both,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for fixtures in servers.iter().chain(&imitations) {
        let alone = Arc::new(RwLock::new(()));
        for fixture in fixtures {
            trials.extend(checks().iter().map(|check| trial(check, fixture, &alone, &report)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    match report.print(&servers.concat()) {
        true => conclusion.exit_code(),
        false => ExitCode::FAILURE,
    }
}

/// Every adapter of this workspace, by the server that is disturbed when one of its checks does. A new one adds a line.
fn servers() -> anybroker::Result<Vec<Vec<Arc<dyn Fixture>>>> {
    Ok(vec![
        vec![Arc::new(memory::Memory::new())],
        #[cfg(feature = "rabbitmq")]
        vec![Arc::new(rabbitmq::Rabbit::new("rabbitmq", "ANYBROKER_RABBITMQ_URL")?)],
        #[cfg(feature = "rabbitmq")]
        vec![Arc::new(rabbitmq::Rabbit::new("rabbitmq4", "ANYBROKER_RABBITMQ4_URL")?)],
        #[cfg(feature = "kafka")]
        vec![
            Arc::new(kafka::Kafka::new("kafka", ("kafka", "ANYBROKER_KAFKA"), "classic", 0)?),
            Arc::new(kafka::Kafka::new("kafka-consumer", ("kafka", "ANYBROKER_KAFKA"), "consumer", 1)?),
        ],
        #[cfg(feature = "kafka")]
        vec![Arc::new(kafka::Kafka::new("kafka3", ("kafka3", "ANYBROKER_KAFKA3"), "classic", 0)?)],
    ])
}

/// Memory in the place of others. They are no adapters of their own, so the matrix does not have them.
fn imitations() -> anybroker::Result<Vec<Vec<Arc<dyn Fixture>>>> {
    let like = |broker, name| -> anybroker::Result<Vec<Arc<dyn Fixture>>> {
        Ok(vec![Arc::new(memory::Memory::with(name, Config::default().like(broker)?))])
    };
    Ok(vec![like("kafka", "memory-like-kafka")?, like("rabbitmq", "memory-like-rabbitmq")?])
}

fn trial(
    check: &'static Check,
    fixture: &Arc<dyn Fixture>,
    alone: &Arc<RwLock<()>>,
    report: &Arc<Report>,
) -> Trial {
    let (fixture, alone, report) = (Arc::clone(fixture), Arc::clone(alone), Arc::clone(report));
    Trial::ignorable_test(format!("{}::{}", fixture.name(), check.name), move || {
        // A check that cuts every connection runs while no other does.
        let (_alone, _beside) = match check.disturbs() {
            true => (Some(alone.write().unwrap_or_else(PoisonError::into_inner)), None),
            false => (None, Some(alone.read().unwrap_or_else(PoisonError::into_inner))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let verdict = runtime.block_on(run(check, Arc::clone(&fixture)));
        report.note(fixture.name(), check.name, verdict.clone());
        match verdict {
            Verdict::Failed(seen) if !check.advisory => Err(seen.into()),
            Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
            _ => Ok(Completion::Completed),
        }
    })
}
