//! Services among their like, on real brokers: instances that are processes, that are killed, told to end, and replaced.
//!
//! `cargo test --features full --test fleet`
//!
//! - [`order`]: nothing is lost, no key out of order, and the dead letters are right, whoever is killed.
//! - [`drain`]: told to end under load, a service leaves nothing half done.
//! - [`alike`]: one service, one test, any broker.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what cannot go on ends the trial")]
#![expect(clippy::print_stderr, reason = "the figures of a run")]

#[path = "../stress/rng.rs"]
mod rng;
#[path = "../trials/mod.rs"]
mod trials;
#[path = "../stress/wait.rs"]
mod wait;

mod alike;
mod drain;
mod instance;
mod log;
mod order;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use trials::{Tried, variable};

const SERVERS: &str = "rabbitmq rabbitmq4 kafka";

/// A broker that services run on.
#[derive(Clone, Debug)]
struct Place {
    name: &'static str,
    /// For instances of this process, and for others where there are any.
    url: String,
}

fn main() -> ExitCode {
    if let Some(ended) = instance::act() {
        return ended;
    }
    let places = match places() {
        Ok(places) => places,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for place in &places {
        let (order, drain) = (place.clone(), place.clone());
        trials.push(trial(&format!("{}::order", place.name), async move || order::order(order).await));
        trials.push(trial(&format!("{}::drain", place.name), async move || drain::drain(drain).await));
    }
    trials.push(trial("all::alike", async move || alike::alike(places).await));
    // Each has processes of its own at work: more at once would only wait.
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn places() -> Result<Vec<Place>, String> {
    let url = |name: &str| variable(name, SERVERS);
    Ok(vec![
        Place { name: "memory", url: format!("memory://{}", trials::fresh("fleet")) },
        Place { name: "rabbitmq", url: url("ANYBROKER_RABBITMQ_URL")? },
        Place { name: "rabbitmq4", url: url("ANYBROKER_RABBITMQ4_URL")? },
        // One that was killed is missed after so many milliseconds.
        Place { name: "kafka", url: url("ANYBROKER_KAFKA_URL")? + "?session-timeout=3000" },
    ])
}

fn trial<F>(name: &str, run: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = Tried>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(run())
    })
}
