//! Numbers that look random and are the same for a seed. A test binary elsewhere includes this file by its path.

#![allow(dead_code, reason = "each test binary uses its share")]

use std::time::Duration;

/// Xorshift: the same numbers for a seed for ever, which no crate promises.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    pub(crate) fn below_usize(&mut self, bound: u32) -> usize {
        usize::try_from(self.below(u64::from(bound))).expect("it is below a u32")
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Less than that many milliseconds.
    pub(crate) fn millis_below(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    /// One for somebody else to draw from.
    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }
}
