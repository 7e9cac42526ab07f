use crate::OutOfPlace;
use crate::unsettled::Unsettled;
use std::fmt;
use std::ops::Range;

/// The deliveries of one partition, by offset.
///
/// # Guarantees
/// - [`position`](Self::position) never passes an unsettled delivery, and never goes back.
/// - Offsets that are never delivered (compaction, aborted records, markers of transactions) count as settled, however many there are.
/// - Memory depends on how many deliveries are unsettled, not on how far apart they are or how much was settled behind one that is not: at most 32 bytes
///   for each, and 2 bits where they lie side by side. The buffer doubles when it is full and is kept, so nothing is allocated in steady state.
/// - [`deliver`](Self::deliver) and [`settle`](Self::settle) take a few nanoseconds on average. Where unsettled offsets are scattered with large gaps
///   between them, settling takes a binary search.
#[derive(Clone)]
pub struct Tracker {
    unsettled: Unsettled,
    /// Everything below it was delivered or passed over.
    end: i64,
}

impl Tracker {
    /// A tracker of a partition that is read from this offset on. Allocates nothing.
    #[must_use]
    pub const fn new(start: i64) -> Self {
        Self { unsettled: Unsettled::new(), end: start }
    }

    /// Notes that the record at that offset was handed out. Offsets rise; those left out are gaps.
    ///
    /// # Errors
    /// `Passed` when it is not beyond all that was delivered or passed over: such a record must not be handed out again, because settling one of the two
    /// would settle both. `Ahead` for [`i64::MAX`].
    #[inline]
    pub fn deliver(&mut self, offset: i64) -> Result<(), OutOfPlace> {
        if offset < self.end {
            return Err(OutOfPlace::Passed);
        }
        self.end = offset.checked_add(1).ok_or(OutOfPlace::Ahead)?;
        self.unsettled.push(offset);
        Ok(())
    }

    /// Notes that nothing below that offset comes any more but what was delivered: where the client has read past records that it hands out to nobody,
    /// such as the markers at the end of a partition. Without it the group would never seem to arrive there. Never goes back.
    #[inline]
    pub fn advance_to(&mut self, offset: i64) {
        self.end = self.end.max(offset);
    }

    /// Settles a delivery, in any order.
    ///
    /// # Errors
    /// `Passed` or `Ahead` when it is not unsettled: it was settled before, or never delivered.
    #[inline]
    pub fn settle(&mut self, offset: i64) -> Result<(), OutOfPlace> {
        if self.unsettled.remove(offset) {
            Ok(())
        } else if offset < self.end {
            Err(OutOfPlace::Passed)
        } else {
            Err(OutOfPlace::Ahead)
        }
    }

    /// The offset to commit, which is that of the record to read next after a restart: the oldest unsettled one or, when all is settled, the one behind
    /// all that was delivered or passed over.
    #[must_use]
    #[doc(alias = "prefix", alias = "watermark")]
    #[inline]
    pub fn position(&self) -> i64 {
        self.unsettled.first().unwrap_or(self.end)
    }

    /// Everything below it was delivered or passed over.
    #[inline]
    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    /// How many offsets lie from the position to the newest one that was delivered or passed over, both included: no more records than that come again
    /// after a restart. 0 when all is settled.
    #[must_use]
    #[inline]
    pub fn span(&self) -> u64 {
        self.end.abs_diff(self.position())
    }

    /// The ranges beyond the position that are settled or were passed over, rising: what comes again after a restart, and need not where
    /// this is kept beside the position.
    pub fn settled(&self) -> impl Iterator<Item = Range<i64>> {
        let mut next = self.position();
        self.unsettled.iter().chain([self.end]).filter_map(move |unsettled| {
            let run = next..unsettled;
            next = unsettled.saturating_add(1);
            (!run.is_empty()).then_some(run)
        })
    }

    /// How many deliveries are unsettled.
    #[must_use]
    #[inline]
    pub const fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// Whether that offset was delivered and is not settled.
    #[must_use]
    #[inline]
    pub fn is_unsettled(&self, offset: i64) -> bool {
        self.unsettled.contains(offset)
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("position", &self.position())
            .field("span", &self.span())
            .field("unsettled", &self.unsettled())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutOfPlace::{Ahead, Passed};

    fn delivered(start: i64, offsets: &[i64]) -> Tracker {
        let mut tracker = Tracker::new(start);
        for offset in offsets {
            tracker.deliver(*offset).unwrap();
        }
        tracker
    }

    #[test]
    fn the_position_waits_for_the_oldest_unsettled() {
        let mut tracker = delivered(7, &[7, 8, 9]);
        assert_eq!((tracker.position(), tracker.span(), tracker.unsettled()), (7, 3, 3));
        tracker.settle(9).unwrap();
        tracker.settle(8).unwrap();
        assert_eq!((tracker.position(), tracker.span(), tracker.unsettled()), (7, 3, 1));
        tracker.settle(7).unwrap();
        assert_eq!((tracker.position(), tracker.span(), tracker.unsettled()), (10, 0, 0));
    }

    #[test]
    fn what_is_settled_beyond_the_position_is_known() {
        let ranges = |tracker: &Tracker| tracker.settled().collect::<Vec<_>>();
        let mut tracker = delivered(7, &[7, 8, 9, 70, 200]);
        assert_eq!(ranges(&tracker), [10..70, 71..200], "gaps count as settled");
        tracker.settle(8).unwrap();
        tracker.settle(70).unwrap();
        assert_eq!(ranges(&tracker), [8..9, 10..200]);
        tracker.settle(200).unwrap();
        assert_eq!(ranges(&tracker), [8..9, 10..201]);
        tracker.settle(7).unwrap();
        assert_eq!(tracker.position(), 9);
        assert_eq!(ranges(&tracker).first(), Some(&(10..201)));
        tracker.settle(9).unwrap();
        assert_eq!((tracker.position(), ranges(&tracker)), (201, vec![]));
    }

    #[test]
    fn before_the_first_delivery_the_position_is_the_start() {
        assert_eq!(Tracker::new(42).position(), 42);
        assert_eq!(Tracker::new(42).settle(42), Err(Ahead));
        assert_eq!(Tracker::new(42).settle(41), Err(Passed));
        assert_eq!(Tracker::new(42).deliver(41), Err(Passed));
    }

    #[test]
    fn gaps_are_passed_up_to_the_next_unsettled_one() {
        let mut tracker = delivered(0, &[3, 5, 1000]);
        assert_eq!(tracker.position(), 3);
        tracker.settle(3).unwrap();
        assert_eq!(tracker.position(), 5);
        tracker.settle(5).unwrap();
        assert_eq!(tracker.position(), 1000);
        tracker.settle(1000).unwrap();
        assert_eq!(tracker.position(), 1001);
    }

    #[test]
    fn what_is_not_unsettled_is_refused_and_changes_nothing() {
        let mut tracker = delivered(0, &[1, 4]);
        tracker.settle(4).unwrap();
        for (offset, why) in
            [(4, Passed), (2, Passed), (0, Passed), (-1, Passed), (5, Ahead), (i64::MAX, Ahead)]
        {
            assert_eq!(tracker.settle(offset), Err(why), "{offset}");
            assert!(!tracker.is_unsettled(offset));
        }
        assert_eq!(tracker.deliver(4), Err(Passed));
        assert_eq!(tracker.deliver(2), Err(Passed));
        assert_eq!((tracker.position(), tracker.span(), tracker.unsettled()), (1, 4, 1));
    }

    #[test]
    fn what_was_read_past_is_committed_when_all_is_settled() {
        let mut tracker = delivered(0, &[0]);
        tracker.advance_to(5);
        assert_eq!((tracker.position(), tracker.span()), (0, 5));
        tracker.advance_to(3);
        tracker.settle(0).unwrap();
        assert_eq!((tracker.position(), tracker.span()), (5, 0));
        assert_eq!(tracker.deliver(4), Err(Passed));
        assert_eq!(tracker.settle(4), Err(Passed));
    }

    #[test]
    fn both_ends_of_the_numbers_are_safe() {
        let mut tracker = delivered(i64::MIN, &[i64::MIN, -1, 0, i64::MAX - 1]);
        assert_eq!(tracker.deliver(i64::MAX), Err(Ahead));
        assert_eq!(tracker.span(), u64::MAX);
        for offset in [0, i64::MAX - 1, -1] {
            tracker.settle(offset).unwrap();
        }
        assert_eq!(tracker.position(), i64::MIN);
        tracker.settle(i64::MIN).unwrap();
        assert_eq!(tracker.position(), i64::MAX);
    }
}
