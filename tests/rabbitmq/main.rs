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
#[path = "../disturbed/mod.rs"]
mod disturbed;
#[path = "../proxy/mod.rs"]
mod proxy;
#[path = "../stress/rng.rs"]
mod rng;
#[path = "../trials/mod.rs"]
mod trials;
#[path = "../stress/wait.rs"]
mod wait;

mod attribution;
mod faults;
mod foreign;
mod limits;
mod refusals;
mod server;
mod sharing;

use server::Server;
use std::process::ExitCode;
use trials::{Tried, part, try_all};

type Part = trials::Part<Server>;

fn main() -> ExitCode {
    let servers = [("rabbitmq", "ANYBROKER_RABBITMQ"), ("rabbitmq4", "ANYBROKER_RABBITMQ4")];
    try_all(
        servers.into_iter().map(|(name, prefix)| Server::from_environment(name, prefix)).collect(),
        |_| {
            &[
                attribution::PARTS,
                faults::PARTS,
                foreign::PARTS,
                limits::PARTS,
                refusals::PARTS,
                sharing::PARTS,
            ]
        },
    )
}
