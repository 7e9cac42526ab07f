//! What only RabbitMQ can show, on each version that `scripts/brokers` starts: `cargo test --features full --test rabbitmq`.
//!
//! - [`attribution`]: every confirm belongs to its message, however many come back or are refused beside it.
//! - [`faults`]: nothing is lost and no key out of order while servers are killed and connections cut.
//! - [`foreign`]: other clients read what we send, and send what we read.
//! - [`limits`]: what the broker refuses although the adapter did not know.
//! - [`refusals`]: each mistake has an error of its own.
//! - [`sharing`]: consumers share the work of a channel in order.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what cannot go on ends the trial")]
#![expect(clippy::print_stderr, reason = "the figures of a run")]

#[path = "../brokers/mod.rs"]
mod brokers;
#[path = "../proxy/mod.rs"]
mod proxy;
#[path = "../stress/rng.rs"]
mod rng;
#[path = "../stress/wait.rs"]
mod wait;

mod attribution;
mod faults;
mod foreign;
mod limits;
mod parties;
mod refusals;
mod schedule;
mod server;
mod sharing;

use anybroker::adapter::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use server::Server;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

/// What one version is tried for.
struct Part {
    name: &'static str,
    /// It stops the server, and so runs alone on it.
    disturbs: bool,
    run: fn(Arc<Server>) -> BoxFuture<'static, Tried>,
}

/// What is wrong, if anything is.
type Tried = Result<(), Failed>;

const fn part(name: &'static str, run: fn(Arc<Server>) -> BoxFuture<'static, Tried>) -> Part {
    Part { name, disturbs: false, run }
}

impl Part {
    const fn disturbing(self) -> Self {
        Self { disturbs: true, ..self }
    }
}

fn main() -> ExitCode {
    let servers = [("rabbitmq", "ANYBROKER_RABBITMQ"), ("rabbitmq4", "ANYBROKER_RABBITMQ4")];
    let servers: Result<Vec<_>, _> =
        servers.into_iter().map(|(name, prefix)| Server::from_environment(name, prefix)).collect();
    match servers {
        Ok(servers) => {
            let trials = servers.iter().flat_map(|server| parts().map(|part| trial(part, server)));
            libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parts() -> impl Iterator<Item = &'static Part> {
    [attribution::PARTS, faults::PARTS, foreign::PARTS, limits::PARTS, refusals::PARTS, sharing::PARTS]
        .into_iter()
        .flatten()
}

fn trial(part: &'static Part, server: &Arc<Server>) -> Trial {
    let server = Arc::clone(server);
    Trial::test(format!("{}::{}", server.name, part.name), move || {
        let (_alone, _beside) = match part.disturbs {
            true => (Some(server.users.write().unwrap_or_else(PoisonError::into_inner)), None),
            false => (None, Some(server.users.read().unwrap_or_else(PoisonError::into_inner))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on((part.run)(Arc::clone(&server)))
    })
}
