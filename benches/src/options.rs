use crate::{Case, Ranking};
use std::env;

/// What the command line of a benchmark asks for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Options {
    /// `--rounds`: how often each case runs, beside once to warm up.
    pub rounds: usize,
    /// `--workers`: threads of the runtime.
    pub workers: usize,
    /// `--group`: a part of the titles of the comparisons to make.
    pub group: String,
    /// `--only`: a part of the names of the cases to run; the first that is left is what the others are compared with.
    pub only: String,
}

impl Options {
    /// The first two lines of the table.
    pub const HEAD: &'static str = "| | speed | CPU | k msg/s | ns CPU |\n|---|---:|---:|---:|---:|";

    /// Reads the command line, with that default for the rounds.
    #[must_use]
    pub fn read(rounds: usize) -> Self {
        Self {
            rounds: number("--rounds").unwrap_or(rounds),
            workers: number("--workers").unwrap_or(2),
            group: option("--group").unwrap_or_default(),
            only: option("--only").unwrap_or_default(),
        }
    }

    /// What follows that name on the command line, for what only one benchmark has.
    #[must_use]
    pub fn text(name: &str) -> Option<String> {
        option(name)
    }

    /// Makes a comparison if it is asked for, and returns its part of the table.
    #[must_use]
    pub fn compare<'a>(&self, title: &str, cases: impl FnOnce() -> Vec<Case<'a>>) -> String {
        if !title.contains(&self.group) {
            return String::new();
        }
        let mut cases = cases();
        cases.retain(|case| case.name().contains(&self.only));
        format!("| **{title}** | | | | |\n{}", Ranking::measure(cases, self.rounds))
    }
}

#[expect(clippy::panic, reason = "a benchmark that cannot be understood has no result")]
fn number(name: &str) -> Option<usize> {
    option(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text:?}")))
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
