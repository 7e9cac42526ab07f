use std::error::Error;
use std::fmt;

/// Why an offset or number was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutOfPlace {
    /// It is behind what was read, and not unsettled: it was settled already, or was passed over and never delivered. Which of the two is not known,
    /// because nothing is kept about either.
    Passed,
    /// It is ahead of what was read: it was never delivered. [`crate::Tracker::deliver`] says so of [`i64::MAX`], behind which there is no position.
    Ahead,
}

impl fmt::Display for OutOfPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "settled already, or never delivered",
            Self::Ahead => "not delivered yet",
        })
    }
}

impl Error for OutOfPlace {}
