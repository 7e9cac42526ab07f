//! The conformance suite: what every adapter has to keep, as experiments against a real broker.
//!
//! An adapter joins with one [`Fixture`] and no test code: it runs every one of [`checks`] with [`run`] and reports the [`Verdict`]s. Checks judge
//! from the full [`History`] of what was accepted and what arrived, never through a reader that deduplicates. Where a promise is the adapter's
//! they use the bare contract; where it is what users get, a [`crate::Broker`] over the adapter.
//!
//! ```
//! use anybroker::adapter::{Adapter, Result, SystemClock, async_trait};
//! use anybroker::conformance::{Fixture, Verdict, checks, run};
//! use anybroker::memory::MemoryBroker;
//! use std::sync::Arc;
//!
//! struct Mine(MemoryBroker);
//!
//! #[async_trait]
//! impl Fixture for Mine {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!
//!     async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
//!         Ok(self.0.adapter())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mine = Arc::new(Mine(MemoryBroker::new(Arc::new(SystemClock::new()))));
//! for check in checks() {
//! #   if check.name != "fidelity/every-field" { continue }
//!     match run(check, Arc::clone(&mine) as Arc<dyn Fixture>).await {
//!         Verdict::Passed => println!("{}: passed", check.name),
//!         Verdict::Skipped(reason) => println!("{}: skipped, because {reason}", check.name),
//!         verdict => panic!("{}: {verdict:?}", check.name),
//!     }
//! }
//! # }
//! ```
//!
//! A check of which [`Check::disturbs`] says so has to run while no other uses the broker. At the end of a whole run [`unexercised`] says what was
//! declared and never shown.
//!
//! [`Faults`] stands between an adapter and its user and fails on command. The suite uses it for failures that no broker makes on request; a
//! fixture whose broker cannot be cut off may build its hooks on it.

mod bare;
mod body;
mod check;
mod faults;
mod fixture;
mod history;
mod lab;
mod portable;

mod capabilities;
mod failure;
mod fidelity;
mod foreign;
mod lifecycle;
mod limits;
mod order;
mod point_to_point;
mod publish_subscribe;
mod request_reply;
mod scopes;
mod secrets;
mod settlement;

pub use check::{Check, Verdict, checks, run, unexercised};
pub use faults::Faults;
pub use fixture::{Fixture, Hook, Timing};
pub use history::{Arrival, History, Sent};
