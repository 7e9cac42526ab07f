//! How everything waits: by the contract's clock. A test binary elsewhere includes this file by its path.

#![allow(dead_code, reason = "each test binary uses its share")]

use anybroker::adapter::{Clock, SystemClock};
use std::time::{Duration, Instant};

/// What ends by itself within a few milliseconds, or within a deadline of three seconds, has ended by then on any machine.
pub(crate) const HANG: Duration = Duration::from_secs(15);

pub(crate) fn now() -> Instant {
    SystemClock::new().now()
}

pub(crate) async fn sleep(time: Duration) {
    SystemClock::new().sleep_until(now() + time).await;
}

/// Lets others run, that many times.
pub(crate) async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// The output, unless the future is pending for longer.
pub(crate) async fn within<F: IntoFuture>(time: Duration, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future.into_future() => Some(output),
        () = sleep(time) => None,
    }
}

/// Waits until that is so: whether it was within that time.
pub(crate) async fn until(time: Duration, condition: impl Fn() -> bool) -> bool {
    let end = now() + time;
    while !condition() {
        if now() > end {
            return false;
        }
        sleep(Duration::from_millis(5)).await;
    }
    true
}
