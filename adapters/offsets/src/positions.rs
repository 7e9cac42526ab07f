use crate::{OutOfPlace, Tracker};
use std::collections::VecDeque;
use std::fmt;

/// The deliveries of one shard, whose positions are not 64-bit numbers. It numbers them itself: 0, 1, 2, …, in the order in which they are delivered.
///
/// # Guarantees
/// - [`position`](Self::position) is never that of an unsettled delivery or of a later one, and never goes back.
/// - It keeps the positions of all deliveries from the oldest unsettled one on, so that memory follows the [`span`](Self::span).
///
/// ```
/// use anybroker_offsets::Positions;
///
/// # fn main() -> Result<(), anybroker_offsets::OutOfPlace> {
/// let mut shard = Positions::new("the checkpoint of the lease");
/// let first = shard.deliver("49590338271490256608559692538361571095921575989136588898");
/// let second = shard.deliver("49590338271490256608559692540925702759324208523137515618");
///
/// shard.settle(second)?;
/// assert_eq!(*shard.position(), "the checkpoint of the lease");
/// shard.settle(first)?;
/// assert_eq!(*shard.position(), "49590338271490256608559692540925702759324208523137515618");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Positions<P> {
    /// Of numbers.
    tracker: Tracker,
    /// Of the last delivery before the oldest unsettled one.
    position: P,
    /// Of the deliveries after that, each with what was read past behind it.
    ahead: VecDeque<P>,
}

impl<P> Positions<P> {
    /// The positions of a shard that is read from behind this one: a checkpoint, or whatever stands for the beginning.
    #[must_use]
    pub const fn new(start: P) -> Self {
        Self { tracker: Tracker::new(0), position: start, ahead: VecDeque::new() }
    }

    /// Notes that the record at that position was handed out, and gives the number that settles it. Positions come in the order of the shard, which is
    /// not checked.
    #[inline]
    pub fn deliver(&mut self, position: P) -> u64 {
        let number = self.tracker.end();
        // Refused only after as many deliveries as there are numbers, which no process lives to see.
        if self.tracker.deliver(number).is_ok() {
            self.ahead.push_back(position);
        }
        number.cast_unsigned()
    }

    /// Notes that nothing up to and with that position comes any more but what was delivered: where the shard was read past records that are handed out
    /// to nobody.
    pub fn advance_to(&mut self, position: P) {
        *self.ahead.back_mut().unwrap_or(&mut self.position) = position;
    }

    /// Settles the delivery of that number, in any order.
    ///
    /// # Errors
    /// `Passed` when it was settled before, `Ahead` when that number was not given yet.
    #[inline]
    pub fn settle(&mut self, number: u64) -> Result<(), OutOfPlace> {
        self.tracker.settle(signed(number)?)?;
        // As many are ahead as the tracker spans: each is a number, and none is missing.
        while self.ahead.len() as u64 > self.tracker.span() {
            match self.ahead.pop_front() {
                Some(position) => self.position = position,
                None => break,
            }
        }
        Ok(())
    }

    /// The position to commit: that of the last delivery before which, and with which, all is settled. After a restart reading goes on behind it.
    #[must_use]
    #[doc(alias = "checkpoint")]
    #[inline]
    pub const fn position(&self) -> &P {
        &self.position
    }

    /// How many deliveries there are from the oldest unsettled one on: so many come again after a restart. 0 when all is settled.
    #[must_use]
    #[inline]
    pub fn span(&self) -> u64 {
        self.tracker.span()
    }

    /// How many deliveries are unsettled.
    #[must_use]
    #[inline]
    pub const fn unsettled(&self) -> usize {
        self.tracker.unsettled()
    }

    /// Whether the delivery of that number is not settled.
    #[must_use]
    #[inline]
    pub fn is_unsettled(&self, number: u64) -> bool {
        signed(number).is_ok_and(|number| self.tracker.is_unsettled(number))
    }
}

impl<P: fmt::Debug> fmt::Debug for Positions<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Positions")
            .field("position", &self.position)
            .field("span", &self.span())
            .field("unsettled", &self.unsettled())
            .finish()
    }
}

/// What is too large for the tracker was never given.
#[inline]
fn signed(number: u64) -> Result<i64, OutOfPlace> {
    i64::try_from(number).map_err(|_| OutOfPlace::Ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutOfPlace::{Ahead, Passed};

    #[test]
    fn the_position_is_that_of_the_last_settled_one_before_the_oldest_unsettled() {
        let mut shard = Positions::new("start");
        let numbers: Vec<_> = ["a", "b", "c"].map(|position| shard.deliver(position)).into();
        assert_eq!(numbers, [0, 1, 2]);
        shard.settle(1).unwrap();
        assert_eq!((*shard.position(), shard.span(), shard.unsettled()), ("start", 3, 2));
        shard.settle(0).unwrap();
        assert_eq!((*shard.position(), shard.span(), shard.unsettled()), ("b", 1, 1));
        shard.settle(2).unwrap();
        assert_eq!((*shard.position(), shard.span(), shard.unsettled()), ("c", 0, 0));
        assert_eq!(shard.deliver("d"), 3);
        assert_eq!(*shard.position(), "c");
    }

    #[test]
    fn what_is_not_unsettled_is_refused_and_changes_nothing() {
        let mut shard = Positions::new(0);
        assert_eq!(shard.settle(0), Err(Ahead));
        let first = shard.deliver(1);
        let second = shard.deliver(2);
        shard.settle(second).unwrap();
        for (number, why) in [(second, Passed), (2, Ahead), (u64::MAX, Ahead)] {
            assert_eq!(shard.settle(number), Err(why));
            assert!(!shard.is_unsettled(number));
        }
        assert!(shard.is_unsettled(first));
        assert_eq!((*shard.position(), shard.span(), shard.unsettled()), (0, 2, 1));
    }

    #[test]
    fn what_was_read_past_is_committed_with_the_delivery_before_it() {
        let mut shard = Positions::new("start");
        shard.advance_to("empty");
        assert_eq!(*shard.position(), "empty");
        let number = shard.deliver("a");
        shard.advance_to("behind a");
        assert_eq!(*shard.position(), "empty");
        shard.settle(number).unwrap();
        assert_eq!(*shard.position(), "behind a");
    }
}
