//! Brokers are looked for by librdkafka itself, but where it has thrown all of them away.
//!
//! A cluster that starts after a crash answers for a moment that it has topics and no brokers. Librdkafka then forgets every broker that it knew, and goes
//! back to those it was made with only if one of its threads is faster than another: otherwise it never connects again, and says nothing
//! (librdkafka issue 5301). So whoever has heard that all are gone looks whether that is still so, and names the first ones to it again.

use super::trouble::Trouble;
use super::{Properties, queue};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use std::ffi::CString;
use std::time::{Duration, Instant};

/// What a client does while it may have no brokers.
pub(super) struct Search {
    servers: CString,
    look_at: Option<Instant>,
    name_at: Option<Instant>,
    wait: Duration,
}

/// A topic that nobody has: the answer is short whatever there is.
pub(super) const NO_TOPIC: &str = "anybroker.health";

/// How long an answer is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// How soon it is looked again.
const AGAIN: Duration = Duration::from_millis(500);

/// How soon they are named again: librdkafka passes over those that it is still forgetting, and remembers each naming.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Search {
    pub(super) fn new(properties: &Properties) -> Self {
        // A NUL in it would have been refused with the client.
        let servers = CString::new(properties.servers()).unwrap_or_default();
        Self { servers, look_at: None, name_at: None, wait: FIRST_WAIT }
    }

    /// Looks whether there are brokers, if they were said to be gone. It may take as long as [`LOOK`].
    pub(super) fn look<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        trouble: &Trouble,
        topic: &str,
        now: Instant,
    ) {
        if !trouble.are_gone() || self.look_at.is_some_and(|at| at > now) {
            return;
        }
        // An answer without brokers is the one that makes librdkafka forget them.
        let found = client.fetch_metadata(Some(topic), LOOK).is_ok_and(|found| !found.brokers().is_empty());
        if found {
            trouble.found();
            (self.look_at, self.name_at, self.wait) = (None, None, FIRST_WAIT);
            return;
        }
        self.look_at = Some(now + AGAIN);
        self.name(client, now);
    }

    /// Names the first brokers to it again, unless it was just done.
    pub(super) fn name<C: ClientContext>(&mut self, client: &Client<C>, now: Instant) {
        if self.name_at.is_some_and(|at| at > now) {
            return;
        }
        queue::name_brokers(client, &self.servers);
        self.name_at = Some(now + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a moment to count from")]
mod tests {
    use super::{LONGEST_WAIT, NO_TOPIC, Search};
    use crate::client::trouble::Trouble;
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
    use rdkafka::mocking::MockCluster;
    use std::ffi::CString;
    use std::time::{Duration, Instant};

    #[test]
    fn a_client_without_brokers_finds_them_once_they_are_named() {
        let cluster = MockCluster::new(1).unwrap();
        // What librdkafka is like when it has forgotten all.
        let client: BaseConsumer = ClientConfig::new().create().unwrap();
        let (trouble, mut now) = (Trouble::new(), Instant::now());
        let servers = CString::new(cluster.bootstrap_servers()).unwrap();
        let mut search = Search { servers, look_at: None, name_at: None, wait: super::FIRST_WAIT };

        search.look(client.client(), &trouble, NO_TOPIC, now);
        assert!(search.name_at.is_none(), "nobody has said that they are gone");

        trouble.heard(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        // Records that were read before say nothing of brokers.
        trouble.well();
        for _ in 0..100 {
            search.look(client.client(), &trouble, NO_TOPIC, now);
            if !trouble.are_gone() {
                break;
            }
            now += Duration::from_millis(500);
        }
        assert!(!trouble.are_gone() && !trouble.is_down());
        assert!(client.fetch_metadata(Some(NO_TOPIC), Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn brokers_that_stay_away_are_named_ever_more_rarely() {
        let client: BaseConsumer = ClientConfig::new().create().unwrap();
        let (start, mut named) = (Instant::now(), 0);
        // Nobody listens there.
        let servers = CString::new("127.0.0.1:1").unwrap();
        let mut search = Search { servers, look_at: None, name_at: None, wait: super::FIRST_WAIT };
        for seconds in 0..3600 {
            let before = search.name_at;
            search.name(client.client(), start + Duration::from_secs(seconds));
            named += u64::from(search.name_at != before);
        }
        let most = 3600 / LONGEST_WAIT.as_secs() + 6;
        assert!((most / 2..=most).contains(&named), "{named} times in an hour");
    }
}
