use super::DuplicateStore;
use crate::backoff::Backoff;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// How the messages of a channel are handled: how many at once, and what happens to those that fail.
///
/// ```
/// use anybroker::service::{Followers, Policy};
/// use std::time::Duration;
///
/// let patient = Policy::new()
///     .concurrency(8)
///     .attempts(10)
///     .backoff(Duration::from_millis(50), Duration::from_secs(60))
///     .followers(Followers::Follow);
/// # let _ = patient;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Policy {
    pub(super) concurrency: usize,
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) followers: Followers,
    pub(super) timeout: Option<Duration>,
    pub(super) duplicates: Option<Arc<dyn DuplicateStore>>,
}

/// What becomes of the messages behind one that has failed for good, with the same key, on a channel with order per key. While a message is tried
/// again, the messages of its key wait in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Followers {
    /// It goes to the dead letters, and the next is handled.
    #[default]
    GoOn,
    /// It goes to the dead letters, and all that have its key follow it there, in their order, until the service ends: somebody has to look at them.
    /// Another instance of the service, and this one after a restart, does not know of that and goes on.
    Follow,
    /// It does not go to the dead letters: it is tried again for ever, and those behind it wait. Rejecting it does not change that.
    Wait,
}

impl Policy {
    /// What a service does unless it is told otherwise.
    pub const fn new() -> Self {
        Self {
            concurrency: 64,
            attempts: 5,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            followers: Followers::GoOn,
            timeout: None,
            duplicates: None,
        }
    }

    /// The most messages of the channel that are handled at once. The default is 64; zero is taken as one.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.concurrency = messages.max(1);
        self
    }

    /// The attempts after which a message goes to the dead letters. The default is 5; zero is taken as one. A channel that requires
    /// [`dead_letter_after`](crate::Channel::dead_letter_after) has the last word.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The waits before further attempts: they double from `min` to `max`, each cut by up to half at random. The default is 200 ms to 30 s.
    pub const fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Backoff::new(min, max);
        self
    }

    /// What becomes of the messages behind one that has failed for good.
    pub const fn followers(mut self, followers: Followers) -> Self {
        self.followers = followers;
        self
    }

    /// How long one attempt may take; then it counts as failed, and its future is dropped. There is no such limit unless it is set.
    /// A handler asks for more by [`Context::extend`](super::Context::extend).
    pub const fn timeout(mut self, within: Duration) -> Self {
        self.timeout = Some(within);
        self
    }

    /// Handles no message again that the store knows as handled; it is acknowledged and counted. Messages without an id are always handled.
    ///
    /// The store knows a message once its handler has ended well, before the message is acknowledged. After a crash between the two it is handled again
    /// where the store was only memory, or where what the handler did and what the store knows are not one transaction. A duplicate that comes while the
    /// first is being handled waits for that. A duplicate of a command gets no second reply.
    #[doc(alias = "idempotent")]
    pub fn discard_duplicates(mut self, store: impl DuplicateStore + 'static) -> Self {
        self.duplicates = Some(Arc::new(store));
        self
    }

    /// Refuses what contradicts the channel's requirements, or what it has.
    pub(super) fn check(
        &self,
        channel: &str,
        dead_letter_after: Option<u32>,
        dead_letters: bool,
        longest_hold: Option<Duration>,
    ) -> Result<()> {
        let refuse = |what: String, help: &str| Err(Error::new(ErrorKind::Config, what).with_help(help));
        match (self.followers, dead_letter_after) {
            (Followers::Wait, Some(attempts)) => refuse(
                format!(
                    "channel `{channel}` has a dead letter after {attempts} attempts, and its service waits for ever"
                ),
                "drop `dead_letter_after` from the channel, or choose `Followers::GoOn` or `Followers::Follow`",
            ),
            (Followers::GoOn | Followers::Follow, _) if !dead_letters => refuse(
                format!(
                    "channel `{channel}` has no dead letters here, where messages go that cannot be handled"
                ),
                "subscribe by a name, bind the channel to a broker with dead letters, or choose `Followers::Wait`, which tries for ever",
            ),
            _ => match longest_hold.filter(|longest| *longest < self.backoff.longest()) {
                Some(longest) => refuse(
                    format!(
                        "the service waits up to {:?} before it tries a message of channel `{channel}` again, and its broker lets a message be held for {longest:?}",
                        self.backoff.longest()
                    ),
                    "shorten `Policy::backoff`",
                ),
                None => Ok(()),
            },
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
