//! What the adapters of Anybroker for log-shaped brokers share: how far a partition or shard may be committed.
//!
//! A log keeps one number for each group and partition: everything before it was handled. Deliveries are settled in any order, so that number has to
//! wait for the oldest unsettled one. This crate knows where it stands, and nothing else: it talks to no broker and has no clock, no task, no lock and
//! no dependency.
//!
//! **The promise: the position never passes an unsettled delivery**, and never goes back. Committed at any moment, it loses nothing; what is delivered
//! and unsettled comes again, and so does what was settled behind it.
//!
//! # Which one
//!
//! - [`Tracker`] where the log numbers its records: Kafka. Offsets may be missing, and those never block.
//! - [`Positions`] where a position is anything else: Kinesis, whose sequence numbers are decimal numbers of up to 129 digits, with a second number for
//!   records that were packed into one. It numbers the deliveries itself and gives the position of the last one before which, and with which, all is
//!   settled.
//!
//! # Use
//!
//! One for each partition or shard *and assignment*, behind the lock that the adapter has anyway. A token is the scope with the offset or number; a
//! partition that comes back, or is read again from elsewhere, has a new scope and a new tracker. So a late settlement of an earlier assignment finds no
//! tracker, and never settles a delivery of the present one.
//!
//! | the adapter | calls |
//! |---|---|
//! | hands out a record | `deliver` |
//! | has read past records without handing one out | `advance_to` |
//! | is told `Ack` | `settle`; where it refuses, the answer is an error |
//! | is told `Held` or `Release` | `is_unsettled` at most: the delivery stays unsettled |
//! | commits: from time to time, on `release` and on `close` | `position` |
//! | decides whether to pause the partition | `span` and `unsettled` |
//!
//! ```
//! use anybroker_offsets::{OutOfPlace, Tracker};
//!
//! # fn main() -> Result<(), OutOfPlace> {
//! let mut partition = Tracker::new(10);
//! for offset in [10, 11, 12, 15] {                // 13 and 14 were compacted away
//!     partition.deliver(offset)?;
//! }
//! partition.settle(12)?;
//! partition.settle(10)?;
//! assert_eq!(partition.position(), 11);           // 11 is unsettled, and holds up
//! assert_eq!(partition.span(), 5);                // 11 to 15
//!
//! partition.settle(11)?;
//! assert_eq!(partition.position(), 15);           // past the gap, up to the next that is unsettled
//!
//! partition.settle(15)?;
//! partition.advance_to(18);                       // 16 and 17 are the markers of a transaction
//! assert_eq!(partition.position(), 18);
//!
//! assert_eq!(partition.settle(15), Err(OutOfPlace::Passed));
//! assert_eq!(partition.settle(20), Err(OutOfPlace::Ahead));
//! # Ok(())
//! # }
//! ```
//!
//! # Units
//!
//! Positions are what the broker commits: a [`Tracker`]'s is the offset of the record to read *next*, as Kafka has it, and that of [`Positions`] is the
//! *last* one that is done with, as Kinesis has it. Beware of clients that add one themselves.

mod out_of_place;
mod positions;
mod tracker;
mod unsettled;

pub use out_of_place::OutOfPlace;
pub use positions::Positions;
pub use tracker::Tracker;
