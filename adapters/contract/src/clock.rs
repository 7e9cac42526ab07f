use crate::Timestamp;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where time comes from. Nothing else in the library asks the system for it, so tests can run in time of their own.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Monotonic time.
    fn now(&self) -> Instant;

    /// Wall-clock time.
    fn wall(&self) -> Timestamp;

    /// Resolves at `until` or later. May be dropped at any time.
    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()>;
}
