//! What the benchmarks share: how one run is timed, how runs are compared, and what can be asked for.

mod compare;
mod options;
mod stopwatch;

pub use compare::{Case, Ranking};
pub use options::Options;
pub use stopwatch::{Sample, Stopwatch};
