//! The promises of the portable layer, kept against a client that hangs, loses its connection, answers late or gives what nobody asked for.
//!
//! Time is manual, so deadlines are exact and nothing waits for them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test, in functions that tests share"
)]

mod adapter;
mod bench;
mod closing;
mod corners_receiving;
mod corners_sending;
mod opening;
mod receiving;
mod revoking;
mod script;
mod sending;
mod threads;
