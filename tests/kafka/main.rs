//! What only Kafka can show, on each version that `scripts/brokers` starts: `cargo test --features full --test kafka`.
//!
//! - [`faults`]: nothing is lost and no key out of order while servers are killed and connections cut.
//! - [`foreign`]: Kafka's own tools read what we send, and send what we read.
//! - [`poison`]: a message that fails again and again holds up nothing but its key.
//! - [`refusals`]: each mistake has an error of its own.

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
#[path = "../topics/mod.rs"]
mod topics;
#[path = "../trials/mod.rs"]
mod trials;
#[path = "../stress/wait.rs"]
mod wait;

mod alone;
mod faults;
mod foreign;
mod poison;
mod refusals;
mod server;

use server::Server;
use std::process::ExitCode;
use trials::{Tried, part, try_all};

type Part = trials::Part<Server>;

fn main() -> ExitCode {
    let servers = [("kafka", "ANYBROKER_KAFKA"), ("kafka3", "ANYBROKER_KAFKA3")];
    let servers: Result<Vec<_>, _> =
        servers.into_iter().map(|(name, prefix)| Server::from_environment(name, prefix)).collect();
    if let Some(ended) = alone::act(&servers, &[poison::SCENES, refusals::SCENES]) {
        return ended;
    }
    servers.iter().flatten().for_each(|server| server.clear());
    try_all(servers, &[faults::PARTS, foreign::PARTS, poison::PARTS, refusals::PARTS])
}
