//! What is committed beside a position, so that whoever reads the partition next knows more than where to begin: what is settled behind an unsettled
//! record, and the attempts of what is held. Other clients pass it over.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Of one partition.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Settled by the one before, rising.
    settled: VecDeque<Range<i64>>,
    /// The attempts that come next.
    attempts: BTreeMap<i64, u32>,
}

/// `anybroker settled attempts`, each a list between commas of `offset+length` and `offset:attempt`, with offsets counted from the position.
const MARK: &str = "anybroker ";

/// Brokers take 4096 bytes unless told otherwise.
const LONGEST: usize = 3500;

/// How much of it attempts may take.
const ATTEMPTS: usize = 1500;

impl Memo {
    /// What was committed beside that position; nothing when it is another client's.
    pub(crate) fn read(position: i64, text: &str) -> Self {
        let Some((settled, attempts)) = text.strip_prefix(MARK).and_then(|text| text.split_once(' ')) else {
            return Self::default();
        };
        let settled = pairs(settled, '+').filter_map(|(offset, length)| {
            let start = position.checked_add(offset)?;
            Some(start..start.checked_add(i64::from(length))?)
        });
        let attempts = pairs(attempts, ':')
            .filter_map(|(offset, attempt)| Some((position.checked_add(offset)?, attempt)));
        Self { settled: settled.collect(), attempts: attempts.collect() }
    }

    /// Writes as much as a broker takes. What is left out comes again after a change of consumers, and is counted from one.
    pub(crate) fn write(
        position: i64,
        settled: impl Iterator<Item = Range<i64>>,
        attempts: impl Iterator<Item = (i64, u32)>,
    ) -> String {
        let mut counted = String::new();
        for (offset, attempt) in attempts {
            if counted.len() > ATTEMPTS {
                break;
            }
            counted.push_str(&format!("{}:{attempt},", offset - position));
        }
        let mut text = String::from(MARK);
        for run in settled {
            if text.len() + counted.len() > LONGEST {
                break;
            }
            text.push_str(&format!("{}+{},", run.start - position, run.end - run.start));
        }
        if text.len() == MARK.len() && counted.is_empty() {
            return String::new();
        }
        text.push(' ');
        text + &counted
    }

    /// Whether that offset is settled. Asked for rising offsets.
    pub(crate) fn is_settled(&mut self, offset: i64) -> bool {
        while self.settled.pop_front_if(|run| run.end <= offset).is_some() {}
        self.settled.front().is_some_and(|run| run.contains(&offset))
    }

    /// The attempt that comes next of that record, if it is known.
    pub(crate) fn take_attempt(&mut self, offset: i64) -> Option<u32> {
        if self.attempts.is_empty() { None } else { self.attempts.remove(&offset) }
    }

    /// What is settled from that offset on.
    pub(crate) fn settled(&self, from: i64) -> impl Iterator<Item = Range<i64>> {
        self.settled.iter().map(move |run| run.start.max(from)..run.end).filter(|run| !run.is_empty())
    }

    pub(crate) fn attempts(&self) -> impl Iterator<Item = (i64, u32)> {
        self.attempts.iter().map(|(offset, attempt)| (*offset, *attempt))
    }
}

fn pairs(list: &str, between: char) -> impl Iterator<Item = (i64, u32)> {
    list.split(',').filter_map(move |pair| {
        let (offset, value) = pair.split_once(between)?;
        Some((offset.parse().ok()?, value.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let text = Memo::write(100, [103..104, 106..200].into_iter(), [(101, 3), (105, 2)].into_iter());
        assert_eq!(text, "anybroker 3+1,6+94, 1:3,5:2,");
        let mut memo = Memo::read(100, &text);
        assert_eq!(memo.settled(100).collect::<Vec<_>>(), [103..104, 106..200]);
        assert_eq!(memo.settled(150).next(), Some(150..200));
        let settled: Vec<i64> = (100..210).filter(|offset| memo.is_settled(*offset)).collect();
        assert_eq!(settled, std::iter::once(103).chain(106..200).collect::<Vec<_>>());
        assert_eq!(
            (memo.take_attempt(101), memo.take_attempt(101), memo.take_attempt(105)),
            (Some(3), None, Some(2))
        );
        assert_eq!(Memo::write(7, std::iter::empty(), std::iter::empty()), "");
    }

    #[test]
    fn what_others_wrote_says_nothing() {
        for text in [
            "",
            "anybroker",
            "anybroker ",
            "something else",
            "anybroker x+y,+,3+-1, 1:,a:b",
            "anybroker 9223372036854775807+5, ",
        ] {
            let mut memo = Memo::read(5, text);
            assert!((0..20).all(|offset| !memo.is_settled(offset)), "{text:?}");
            assert_eq!(memo.attempts().count(), 0, "{text:?}");
        }
    }

    #[test]
    fn it_stays_within_what_brokers_take() {
        let settled = (0..5000).map(|n| 1_000_000_000 + 2 * n..1_000_000_001 + 2 * n);
        let attempts = (0..5000).map(|n| (1_000_000_001 + 2 * n, 4));
        let text = Memo::write(0, settled.clone(), attempts);
        assert!(text.len() < 4096, "{}", text.len());
        let memo = Memo::read(0, &text);
        assert!(memo.attempts().count() > 50 && memo.settled(0).count() > 50);
        assert!(memo.settled(0).zip(settled).all(|(read, written)| read == written));
    }
}
