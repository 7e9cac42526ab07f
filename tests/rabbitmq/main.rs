//! What RabbitMQ alone has to show, on real servers: `cargo test --features conformance,rabbitmq --test rabbitmq`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests of real servers, in real time"
)]

mod limits;
mod servers;
mod sharing;
