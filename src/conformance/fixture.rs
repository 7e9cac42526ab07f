use crate::adapter::{Adapter, Binding, BoxFuture, Bytes, Channel, Error, ErrorKind, Result, async_trait};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How the suite reaches one adapter and its broker. All that an adapter writes to join.
///
/// Only [`Fixture::name`] and [`Fixture::adapter`] are needed. Each hook adds checks; the others are reported as skipped.
#[async_trait]
pub trait Fixture: Send + Sync + 'static {
    /// The name in reports, usually the adapter's.
    fn name(&self) -> &str;

    /// A connection of its own to the same broker, each time.
    ///
    /// # Errors
    /// What opening the adapter gives.
    async fn adapter(&self) -> Result<Arc<dyn Adapter>>;

    /// How patient the checks have to be with this broker.
    fn timing(&self) -> Timing {
        Timing::default()
    }

    /// A URL with a user name and a password, for the check that no credential shows. The adapter need not be able to connect by it.
    fn url(&self) -> Option<String> {
        None
    }

    /// Two declarations of one channel that the broker can tell apart, so that the second is a conflict. By default they differ in their bound,
    /// where the adapter declares [`crate::adapter::Capability::Bounded`].
    fn conflicting(&self, name: &str) -> Option<[Binding; 2]> {
        let _ = name;
        None
    }

    /// Called at the end of each check, with what the names of all that it has made begin with. A broker that suffers from what nobody uses any more
    /// is freed of it here; by default it stays.
    async fn tidy(&self, names: &str) {
        let _ = names;
    }

    /// Which of the methods below work.
    fn hooks(&self) -> &[Hook] {
        &[]
    }

    /// [`Hook::Restart`]: stops the broker, starts it again, and returns when it takes connections.
    ///
    /// # Errors
    /// What went wrong.
    async fn restart(&self) -> Result<()> {
        Err(absent(Hook::Restart))
    }

    /// [`Hook::Cut`]: ends every connection of this fixture at once. New ones work.
    ///
    /// # Errors
    /// What went wrong.
    async fn cut(&self) -> Result<()> {
        Err(absent(Hook::Cut))
    }

    /// [`Hook::Stall`]: from now on the broker answers nothing, and no connection ends.
    ///
    /// # Errors
    /// What went wrong.
    async fn stall(&self) -> Result<()> {
        Err(absent(Hook::Stall))
    }

    /// [`Hook::Stall`]: the broker answers again, also what it was sent meanwhile.
    ///
    /// # Errors
    /// What went wrong.
    async fn resume(&self) -> Result<()> {
        Err(absent(Hook::Stall))
    }

    /// [`Hook::Kill`]: a connection, and what kills its client without a word to the broker.
    ///
    /// # Errors
    /// What opening the adapter gives.
    async fn mortal(&self) -> Result<(Arc<dyn Adapter>, BoxFuture<'static, ()>)> {
        Err(absent(Hook::Kill))
    }

    /// [`Hook::Lease`]: a connection whose deliveries are leased for about that long.
    ///
    /// # Errors
    /// What opening the adapter gives.
    async fn leased(&self, lease: Duration) -> Result<Arc<dyn Adapter>> {
        let _ = lease;
        Err(absent(Hook::Lease))
    }

    /// [`Hook::Foreign`]: sends that payload with the broker's own client, with no field of ours.
    ///
    /// # Errors
    /// What went wrong.
    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        let _ = (to, payload);
        Err(absent(Hook::Foreign))
    }

    /// [`Hook::Undecodable`]: sends, with the broker's own client, a record that the adapter cannot translate, and returns its raw bytes as a
    /// receiver is to show them.
    ///
    /// # Errors
    /// What went wrong.
    async fn send_undecodable(&self, to: &Binding) -> Result<Bytes> {
        let _ = to;
        Err(absent(Hook::Undecodable))
    }
}

/// A group of checks that needs a method of the [`Fixture`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hook {
    /// [`Fixture::restart`].
    Restart,
    /// [`Fixture::cut`].
    Cut,
    /// [`Fixture::stall`] and [`Fixture::resume`].
    Stall,
    /// [`Fixture::mortal`].
    Kill,
    /// [`Fixture::leased`].
    Lease,
    /// [`Fixture::send_foreign`].
    Foreign,
    /// [`Fixture::send_undecodable`].
    Undecodable,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Kill => "kill",
            Self::Lease => "lease",
            Self::Foreign => "foreign",
            Self::Undecodable => "undecodable",
        })
    }
}

/// How long the checks wait, with this broker.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timing {
    /// For what has to happen. A passing check never waits that long; default 10 s.
    pub patience: Duration,
    /// For what must not happen: longer than the broker needs to bring back what it wrongly kept; default 100 ms.
    pub quiet: Duration,
}

impl Timing {
    /// That much patience and quiet.
    #[must_use]
    pub const fn new(patience: Duration, quiet: Duration) -> Self {
        Self { patience, quiet }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Duration::from_secs(10), Duration::from_millis(100))
    }
}

/// Two declarations that differ in nothing but their bound.
pub(super) fn differing_in_bound(name: &str) -> [Binding; 2] {
    [10, 20].map(|bound| {
        let channel = Channel::named(crate::adapter::ChannelKind::PointToPoint, name);
        Binding::new(channel.bounded(bound))
    })
}

fn absent(hook: Hook) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the fixture names the hook `{hook}` and lacks its method"))
}
