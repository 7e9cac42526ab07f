use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Why a handler did not handle its message. Any error becomes one by `?`: the message is tried again with back-off, and goes to the dead letters when
/// its attempts are used up.
///
/// ```
/// use anybroker::Failure;
/// use std::time::Duration;
///
/// fn bake(dishes: u8, oven: std::io::Result<()>) -> Result<(), Failure> {
///     if dishes == 0 {
///         return Err(Failure::reject("no dishes"));
///     }
///     oven?;
///     Ok(())
/// }
///
/// assert!(bake(0, Ok(())).unwrap_err().is_rejection());
/// assert!(!bake(1, Err(std::io::Error::other("the oven is cold"))).unwrap_err().is_rejection());
/// ```
pub struct Failure {
    verdict: Verdict,
    error: Box<dyn StdError + Send + Sync>,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It comes again: by the policy, or after that time.
    Retry(Option<Duration>),
    Reject,
}

impl Failure {
    /// Never to be handled: the message goes to the dead letters now, with that reason.
    #[must_use]
    pub fn reject(reason: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { verdict: Verdict::Reject, error: reason.into() }
    }

    /// The message comes again after the wait that the policy has for this attempt, as with `?`. For reasons that are no errors.
    #[must_use]
    pub fn retry(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { verdict: Verdict::Retry(None), error: error.into() }
    }

    /// The message comes again after that time. It is an attempt like any other.
    #[must_use]
    pub fn retry_after(error: impl Into<Box<dyn StdError + Send + Sync>>, after: Duration) -> Self {
        Self { verdict: Verdict::Retry(Some(after)), error: error.into() }
    }

    /// Whether the message goes to the dead letters without another attempt.
    #[must_use]
    pub const fn is_rejection(&self) -> bool {
        matches!(self.verdict, Verdict::Reject)
    }

    /// The failure that went through layers as an error; any other error is one to retry.
    #[must_use]
    pub fn from_boxed(error: Box<dyn StdError + Send + Sync>) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(other) => Self { verdict: Verdict::Retry(None), error: other },
        }
    }

    /// What a handler that panicked has left behind.
    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::retry(format!("the handler panicked: {}", said.unwrap_or("it did not say why")))
    }

    pub(super) const fn verdict(&self) -> Verdict {
        self.verdict
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl From<Failure> for Box<dyn StdError + Send + Sync> {
    fn from(failure: Failure) -> Self {
        Box::new(Boxed(failure))
    }
}

/// A failure as an error. [`Failure`] itself cannot be one: any error becomes a failure.
#[derive(Debug)]
struct Boxed(Failure);

impl StdError for Boxed {}

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("verdict", &self.verdict).field("error", &self.error).finish()
    }
}
