//! What the benchmarks share: how one run is timed, and how runs are compared.

mod compare;
mod stopwatch;

pub use compare::{Case, Ranking};
pub use stopwatch::{Sample, Stopwatch};
