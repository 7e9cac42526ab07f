//! Random use beside models that keep everything, so slow that they are plainly right.
//!
//! Every run has another seed, which is printed; `ANYBROKER_SEED=… cargo test -p anybroker-offsets --test model` plays one again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod positions;
mod random;
mod tracker;

const OPERATIONS: usize = 300_000;
