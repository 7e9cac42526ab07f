//! Services on memory: what becomes of messages, in which order, and how a service begins and ends.

#![expect(
    clippy::panic_in_result_fn,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, and functions that they share; their real time only ends what hangs"
)]

mod duplicates;
mod failing;
mod handling;
mod kitchen;
mod layers;
mod leaving;
mod ordering;
mod registering;
mod spans;
