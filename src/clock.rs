use crate::adapter::{BoxFuture, Clock, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// The system's time, with tokio's timer.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl SystemClock {
    /// The system's time.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(until.into()))
    }
}

/// That long after `now`; for durations beyond all time, in ten years.
pub(crate) fn later(now: Instant, by: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    now.checked_add(by).or_else(|| now.checked_add(LONG)).unwrap_or(now)
}

/// Time that stands still until a test moves it. Clones share one time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug)]
struct Manual {
    base: Instant,
    wall: Timestamp,
    passed: Mutex<Duration>,
    moved: Notify,
}

impl ManualClock {
    /// Time that stands at `wall`.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    pub fn at(wall: Timestamp) -> Self {
        let passed = Mutex::new(Duration::ZERO);
        Self(Arc::new(Manual { base: Instant::now(), wall, passed, moved: Notify::new() }))
    }

    /// Moves time on and wakes whoever slept until then.
    pub fn advance(&self, by: Duration) {
        *self.0.passed.lock().unwrap_or_else(PoisonError::into_inner) += by;
        self.0.moved.notify_waiters();
    }

    fn passed(&self) -> Duration {
        *self.0.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.0.base + self.passed()
    }

    fn wall(&self) -> Timestamp {
        self.0.wall.after(self.passed())
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            loop {
                let moved = clock.0.moved.notified();
                let mut moved = std::pin::pin!(moved);
                // Registered before the look at the time, so that a move in between is not missed.
                moved.as_mut().enable();
                if clock.now() >= until {
                    return;
                }
                moved.await;
            }
        })
    }
}
