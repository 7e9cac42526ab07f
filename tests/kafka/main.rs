//! What only Kafka can show, on each version that `scripts/brokers` starts: `cargo test --features full --test kafka`. Where the cluster `kafka-a`, `kafka-b`,
//! `kafka-c` is up, which has to be asked for, its nodes are killed one after another: `-- cluster`.
//!
//! - [`faults`]: nothing is lost and no key out of order while servers are killed and connections cut.
//! - [`foreign`]: Kafka's own tools read what we send, and send what we read.
//! - [`poison`]: a message that fails again and again holds up nothing but its key.
//! - [`refusals`]: each mistake has an error of its own.
//! - [`restarts`]: whoever is connected goes on after a crash of the server.

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
mod restarts;
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
    let with_cluster = servers.and_then(|mut servers| {
        servers.extend(Server::cluster_from_environment()?);
        Ok(servers)
    });
    with_cluster.iter().flatten().for_each(|server| server.clear());
    try_all(with_cluster, |server| match server.name {
        "cluster" => &[faults::PARTS, faults::PARTS_IN_GROUPS_OF_THE_BROKER],
        "kafka3" => &[faults::PARTS, foreign::PARTS, poison::PARTS, refusals::PARTS, restarts::PARTS],
        _ => &[
            faults::PARTS,
            faults::PARTS_IN_GROUPS_OF_THE_BROKER,
            foreign::PARTS,
            poison::PARTS,
            refusals::PARTS,
            restarts::PARTS,
        ],
    })
}
