//! A set of rising numbers from which any may be taken.
//!
//! Only what is unsettled is kept, and nothing about the rest: the position is the least of the set, and whether a number outside of it was settled or
//! never existed makes no difference to it. The set is a bitmap of which only those words are stored that have a bit, each with its place.
//!
//! - A whole bitmap from the position on needs a bit for each missing offset, and the gaps of compacted topics span billions.
//! - Numbering the deliveries without gaps needs a list of gaps to translate, and a topic with a transaction for each record has a gap behind each.
//! - Both grow as long as one message blocks, with every record that passes it. This does not.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub(crate) struct Unsettled {
    /// By rising place. The first and the last have bits.
    words: VecDeque<Word>,
    /// How many of them have none.
    empty: usize,
    /// How many bits there are.
    len: usize,
}

/// The 64 numbers from 64 times `place` on, with a bit for each that is in the set.
#[derive(Clone, Copy, Debug)]
struct Word {
    place: i64,
    bits: u64,
}

impl Unsettled {
    pub(crate) const fn new() -> Self {
        Self { words: VecDeque::new(), empty: 0, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The least.
    #[inline]
    pub(crate) fn first(&self) -> Option<i64> {
        let Word { place, bits } = self.words.front()?;
        Some(place << SHIFT | i64::from(bits.trailing_zeros()))
    }

    /// Adds a number greater than all that were ever in the set.
    #[inline]
    pub(crate) fn push(&mut self, number: i64) {
        let (place, bit) = locate(number);
        self.len += 1;
        match self.words.back_mut() {
            Some(word) if word.place == place => word.bits |= bit,
            _ => self.words.push_back(Word { place, bits: bit }),
        }
    }

    /// Takes a number out; whether it was there.
    #[inline]
    pub(crate) fn remove(&mut self, number: i64) -> bool {
        let (place, bit) = locate(number);
        let Some(word) = self.find(place).and_then(|index| self.words.get_mut(index)) else {
            return false;
        };
        if word.bits & bit == 0 {
            return false;
        }
        word.bits ^= bit;
        self.len -= 1;
        if word.bits == 0 {
            self.tidy();
        }
        true
    }

    #[inline]
    pub(crate) fn contains(&self, number: i64) -> bool {
        let (place, bit) = locate(number);
        let word = self.find(place).and_then(|index| self.words.get(index));
        word.is_some_and(|word| word.bits & bit != 0)
    }

    /// All of them, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> {
        self.words.iter().flat_map(|word| {
            let mut bits = word.bits;
            std::iter::from_fn(move || {
                let lowest = bits.trailing_zeros();
                bits &= bits.checked_sub(1)?;
                Some(word.place << SHIFT | i64::from(lowest))
            })
        })
    }

    /// The index of the word at that place.
    #[inline]
    fn find(&self, place: i64) -> Option<usize> {
        let (first, last) = (self.words.front()?.place, self.words.back()?.place);
        if !(first..=last).contains(&place) {
            return None;
        }
        // Where no place is missing before it, or behind it, its distance from that end says where it lies.
        let is_here = |index: &usize| self.words.get(*index).is_some_and(|word| word.place == place);
        let from_first = Some(distance(first, place));
        let from_last = || (self.words.len() - 1).checked_sub(distance(place, last));
        if let Some(index) = from_first.filter(is_here).or_else(|| from_last().filter(is_here)) {
            return Some(index);
        }
        let index = self.words.partition_point(|word| word.place < place);
        (self.words.get(index)?.place == place).then_some(index)
    }

    /// Called when one more word has lost its last bit. Those at the ends go at once, and those between when they are the majority: so memory follows
    /// what is unsettled, and each word that is swept past is paid for by one that goes.
    fn tidy(&mut self) {
        self.empty += 1;
        while self.words.pop_front_if(|word| word.bits == 0).is_some() {
            self.empty -= 1;
        }
        while self.words.pop_back_if(|word| word.bits == 0).is_some() {
            self.empty -= 1;
        }
        if self.empty > self.words.len() / 2 {
            self.words.retain(|word| word.bits != 0);
            self.empty = 0;
        }
    }
}

/// A number without its last so many binary digits is its place; they are its bit.
const SHIFT: u32 = u64::BITS.trailing_zeros();

#[inline]
const fn locate(number: i64) -> (i64, u64) {
    (number >> SHIFT, 1 << (number & (u64::BITS as i64 - 1)))
}

/// How far apart two places are; too far for any index is further than all.
#[inline]
fn distance(from: i64, to: i64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_number_costs_one_word_however_much_passes_it() {
        let mut set = Unsettled::new();
        set.push(0);
        for number in 1..1_000_000 {
            set.push(number);
            assert!(set.remove(number));
        }
        assert_eq!((set.first(), set.len()), (Some(0), 1));
        assert!(set.words.capacity() < 8, "{}", set.words.capacity());
    }

    #[test]
    fn a_gap_costs_nothing() {
        let mut set = Unsettled::new();
        for number in 0..1000 {
            set.push(number * 1_000_000_000);
        }
        assert_eq!(set.words.len(), 1000);
        for number in (0..1000).rev() {
            assert!(!set.remove(number * 1_000_000_000 + 1));
            assert!(set.remove(number * 1_000_000_000));
        }
        assert_eq!((set.words.len(), set.len()), (0, 0));
    }

    #[test]
    fn side_by_side_it_is_two_bits_each() {
        let mut set = Unsettled::new();
        (0..64_000).for_each(|number| set.push(number));
        assert_eq!(set.words.len() * size_of::<Word>(), 16_000);
    }

    #[test]
    fn words_without_bits_are_never_the_majority() {
        let mut set = Unsettled::new();
        (0..64 * 101).for_each(|number| set.push(number));
        // All but the first and the last of every tenth word.
        for number in (0..64 * 101).filter(|number| number % 640 != 0) {
            assert!(set.remove(number));
            assert_eq!(set.empty, set.words.iter().filter(|word| word.bits == 0).count());
            assert!(set.empty <= set.words.len() / 2);
        }
        assert_eq!(set.len(), 11);
        assert!(set.words.len() <= 2 * 11);
        for number in (0..=10).map(|tenth| tenth * 640) {
            assert_eq!(set.first(), Some(number));
            assert!(set.contains(number) && set.remove(number));
        }
        assert!(set.words.is_empty());
    }

    #[test]
    fn a_word_that_fills_again_is_not_counted_as_empty() {
        let mut set = Unsettled::new();
        set.push(0);
        for number in 64..70 {
            set.push(number);
            assert!(set.remove(number));
            assert_eq!((set.words.len(), set.empty), (1, 0));
        }
    }
}
