use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

/// Xorshift.
pub(crate) struct Random(u64);

impl Random {
    #[expect(clippy::print_stderr, reason = "a failure is played again by its seed")]
    pub(crate) fn seeded() -> Self {
        let given = std::env::var("ANYBROKER_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0) | 1);
        eprintln!("seed {seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// From minus `most` to `most`.
    pub(crate) fn near(&mut self, most: i64) -> i64 {
        i64::try_from(self.below(2 * most.cast_unsigned() + 1)).unwrap() - most
    }

    /// Where a partition is read from: the beginning, anywhere, and where nobody expects it.
    pub(crate) fn start(&mut self) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => -self.near(1000),
            2 => i64::try_from(self.below(1 << 40)).unwrap(),
            _ => i64::MIN + 2000,
        }
    }

    /// One of the oldest, one of the newest, or any.
    pub(crate) fn pick<T: Copy>(&mut self, set: &BTreeSet<T>) -> Option<T> {
        let near = usize::try_from(self.below(8)).unwrap();
        match self.below(4) {
            0 | 1 => set.iter().nth(near % set.len().max(1)).copied(),
            2 => set.iter().rev().nth(near % set.len().max(1)).copied(),
            _ => set.iter().nth(usize::try_from(self.next() % set.len().max(1) as u64).unwrap()).copied(),
        }
    }
}
