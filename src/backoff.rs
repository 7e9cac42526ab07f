use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits that double from `min` to `max`, each cut by up to half at random, so that many clients do not come back at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, tries: 0 }
    }

    /// The wait before the next try.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = self.wait_after(self.tries);
        self.tries += 1;
        wait
    }

    /// The wait of what has been tried again so often before, whatever was waited for here.
    pub(crate) fn wait_after(&self, tries: u32) -> Duration {
        let full = self.min.saturating_mul(1 << tries.min(20)).min(self.max);
        let random = u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
        full - full / 2 * (random >> 16) / 0xffff
    }

    /// The longest wait: for what time alone does not heal.
    pub(crate) const fn longest(&self) -> Duration {
        self.max
    }

    /// Begins again with the shortest wait.
    pub(crate) const fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_never_fall_below_half() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            assert!(
                wait <= Duration::from_millis(full) && wait >= Duration::from_millis(full / 2),
                "{wait:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
