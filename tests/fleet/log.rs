//! What handlers did, in the order of time, whatever process they ran in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// One file for all; a line is one write to its end.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<File>);

/// A line of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An instance handles messages from now on.
    Up,
    Began(u64),
    Finished(u64),
    /// With the number of the attempt.
    Failed(u64, u32),
}

impl Log {
    pub(crate) fn open(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(path).unwrap()))
    }

    pub(crate) fn write(&self, line: Line) {
        let text = match line {
            Line::Up => "up 0 0\n".to_owned(),
            Line::Began(number) => format!("began {number} 0\n"),
            Line::Finished(number) => format!("finished {number} 0\n"),
            Line::Failed(number, attempt) => format!("failed {number} {attempt}\n"),
        };
        (&*self.0).write_all(text.as_bytes()).unwrap();
    }

    /// Words of an instance, for whoever looks for what went wrong.
    pub(crate) fn say(&self, words: &str) {
        let seconds = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let text = format!("{seconds} {}: {words}\n", std::process::id());
        (&*self.0).write_all(text.as_bytes()).unwrap();
    }
}

/// Where the words of instances with that log are.
pub(crate) fn said(log: &Path) -> PathBuf {
    log.with_extension("said")
}

/// Takes away a log that nobody needs any more.
pub(crate) fn remove(log: &Path) -> std::io::Result<()> {
    std::fs::remove_file(said(log))?;
    std::fs::remove_file(log)
}

/// All whole lines so far.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let what = words.next().unwrap();
            let mut number = || words.next().unwrap().parse().unwrap();
            match (what, number(), number()) {
                ("up", ..) => Line::Up,
                ("began", number, _) => Line::Began(number),
                ("finished", number, _) => Line::Finished(number),
                (_, number, attempt) => Line::Failed(number, u32::try_from(attempt).unwrap()),
            }
        })
        .collect()
}

/// What became of messages, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) begun: BTreeMap<u64, usize>,
    pub(crate) finished: BTreeSet<u64>,
    /// Failed at its last attempt at least once.
    pub(crate) exhausted: BTreeSet<u64>,
    /// Begun although it was finished before.
    pub(crate) again: Vec<u64>,
    /// Begun for the first time before one of its key that was sent before it was decided.
    pub(crate) overtook: Vec<u64>,
    pub(crate) failed: usize,
}

impl Story {
    /// Numbers are in the order of sending; those of one key differ by `keys`.
    pub(crate) fn of(lines: &[Line], keys: u64, attempts: u32) -> Self {
        let mut story = Self::default();
        for line in lines {
            match *line {
                Line::Up => {}
                Line::Began(number) => {
                    if story.finished.contains(&number) {
                        story.again.push(number);
                    }
                    let first = !story.begun.contains_key(&number);
                    // Those before the one before were looked at when that began.
                    let before = number.checked_sub(keys);
                    if first && before.is_some_and(|before| !story.is_decided(before)) {
                        story.overtook.push(number);
                    }
                    *story.begun.entry(number).or_default() += 1;
                }
                Line::Finished(number) => {
                    story.finished.insert(number);
                }
                Line::Failed(number, attempt) => {
                    story.failed += 1;
                    if attempt >= attempts {
                        story.exhausted.insert(number);
                    }
                }
            }
        }
        story
    }

    pub(crate) fn is_decided(&self, number: u64) -> bool {
        self.finished.contains(&number) || self.exhausted.contains(&number)
    }

    pub(crate) fn decided(&self) -> usize {
        self.finished.union(&self.exhausted).count()
    }

    pub(crate) fn begins(&self) -> usize {
        self.begun.values().sum()
    }
}
