use super::Properties;
use super::observer::{Observer, Topic, absent, created};
use super::search::Search;
use super::trouble::{Quiet, Trouble};
use crate::config::ChannelConfig;
use crate::error::{code, error, operation};
use anybroker_contract::{Clock, Declare, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Makes, compares and deletes topics and groups.
pub(crate) struct Topics {
    admin: AdminClient<Quiet>,
    observer: Arc<Observer>,
    search: Mutex<Search>,
    clock: Arc<dyn Clock>,
}

/// Of a topic that is made without being told: as many consumers can share its work.
const PARTITIONS: i32 = 6;

/// How long the first try may take, and each later one twice as long: a slow cluster gets its time. Each may be made again, as what is there already or
/// is gone already is no error.
const TRY: Duration = Duration::from_secs(3);

const RETENTION: &str = "retention.ms";
const LARGEST: &str = "max.message.bytes";

impl Topics {
    pub(crate) fn new(
        properties: &Properties,
        observer: Arc<Observer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let admin = properties.asking().create_with_context(Quiet(Trouble::new()));
        let search = Mutex::new(Search::new(properties));
        Ok(Self { admin: admin.map_err(|e| created(&e))?, observer, search, clock })
    }

    /// Makes or verifies a topic.
    pub(crate) async fn declare(
        &self,
        name: &str,
        like: &ChannelConfig,
        mode: Declare,
        deadline: Instant,
    ) -> Result<()> {
        let found = self.observer.topic(name, deadline).await?;
        match (found, mode) {
            (Some(topic), _) => self.compare(&topic, like, deadline).await,
            (None, Declare::IfMissing) => self.create(name, like, deadline).await,
            (None, _) => Err(absent(name)),
        }
    }

    async fn create(&self, name: &str, like: &ChannelConfig, deadline: Instant) -> Result<()> {
        let what = format!("making the topic `{name}`");
        let retention = like.retention.map(|millis| millis.to_string());
        // The cluster's own default, unless it is told.
        let replication = TopicReplication::Fixed(like.replication.unwrap_or(-1));
        let mut topic = NewTopic::new(name, like.partitions.unwrap_or(PARTITIONS), replication);
        if let Some(retention) = &retention {
            topic = topic.set(RETENTION, retention);
        }
        let made = self.persist(&what, deadline, |options| self.admin.create_topics([&topic], options));
        match first(made.await?) {
            Ok(()) => self.settle(name, deadline).await,
            // Somebody else has made it just now.
            Err(Code::TopicAlreadyExists) => {
                self.settle(name, deadline).await?;
                let topic = self.observer.require_topic(name, deadline).await?;
                self.compare(&topic, like, deadline).await
            }
            Err(code) => Err(operation(&what, code)),
        }
    }

    /// Waits until it is there for everybody: it is made before its partitions have leaders.
    async fn settle(&self, name: &str, deadline: Instant) -> Result<()> {
        loop {
            if self.observer.topic(name, deadline).await?.is_some_and(|topic| topic.led) {
                return Ok(());
            }
            let now = self.clock.now();
            if now >= deadline {
                return Err(error(
                    ErrorKind::Timeout,
                    format!("the topic `{name}` was made and has no leader yet"),
                ));
            }
            self.clock.sleep_until(now + Duration::from_millis(20)).await;
        }
    }

    /// What is asked for by number has to be so.
    async fn compare(&self, topic: &Topic, like: &ChannelConfig, deadline: Instant) -> Result<()> {
        differs(&topic.name, "partitions", like.partitions.map(i64::from), topic.partitions.into())?;
        differs(&topic.name, "replication", like.replication.map(i64::from), topic.replication.into())?;
        if let Some(retention) = like.retention {
            let setting = self.setting(&topic.name, RETENTION, deadline).await?;
            if let Some(there) = setting {
                differs(&topic.name, "retention", Some(retention), there)?;
            }
        }
        Ok(())
    }

    /// The largest batch that the topic takes, if the user may know it.
    pub(crate) async fn largest(&self, topic: &str, deadline: Instant) -> Result<Option<usize>> {
        match self.setting(topic, LARGEST, deadline).await {
            Ok(bytes) => Ok(bytes.and_then(|bytes| usize::try_from(bytes).ok())),
            Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn setting(&self, topic: &str, name: &str, deadline: Instant) -> Result<Option<i64>> {
        let what = format!("asking for `{name}` of the topic `{topic}`");
        let asked = [ResourceSpecifier::Topic(topic)];
        let described =
            self.persist(&what, deadline, |options| self.admin.describe_configs(&asked, options)).await?;
        match described.into_iter().next() {
            Some(Ok(topic)) => {
                let value = topic.get(name).and_then(|entry| entry.value.clone());
                Ok(value.and_then(|value| value.parse().ok()))
            }
            Some(Err(code)) => Err(operation(&what, code)),
            None => Ok(None),
        }
    }

    /// Deletes a topic; one that is not there is deleted.
    pub(crate) async fn delete_topic(&self, name: &str, deadline: Instant) -> Result<()> {
        let what = format!("deleting the topic `{name}`");
        let deleted = self.persist(&what, deadline, |options| self.admin.delete_topics(&[name], options));
        match first(deleted.await?) {
            Ok(()) => self.vanish(name, deadline).await,
            Err(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(()),
            Err(code) => Err(operation(&what, code)),
        }
    }

    /// Waits until nobody finds it any more.
    async fn vanish(&self, name: &str, deadline: Instant) -> Result<()> {
        while self.observer.topic(name, deadline).await?.is_some() && self.clock.now() < deadline {
            self.clock.sleep_until(self.clock.now() + Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Deletes a group with its positions; one that is not there is deleted.
    pub(crate) async fn delete_group(&self, name: &str, deadline: Instant) -> Result<()> {
        let what = format!("deleting the group `{name}`");
        loop {
            let deleted =
                self.persist(&what, deadline, |options| self.admin.delete_groups(&[name], options)).await?;
            match first(deleted) {
                Ok(()) | Err(Code::GroupIdNotFound) => return Ok(()),
                Err(code) if super::observer::is_passing(code) && self.clock.now() < deadline => {
                    self.clock.sleep_until(self.clock.now() + Duration::from_millis(50)).await;
                }
                Err(code) => return Err(operation(&what, code)),
            }
        }
    }

    /// Tries until there is an answer or the deadline. Whether there are brokers to answer, this client does not say.
    async fn persist<T, F: Future<Output = KafkaResult<T>> + Send>(
        &self,
        what: &str,
        deadline: Instant,
        attempt: impl Fn(&AdminOptions) -> F + Sync,
    ) -> Result<T> {
        let mut wait = TRY;
        loop {
            let now = self.clock.now();
            let left = deadline.saturating_duration_since(now).max(Duration::from_millis(10));
            let options =
                AdminOptions::new().request_timeout(Some(left.min(wait))).operation_timeout(Some(left));
            match attempt(&options).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => match code(&failed) {
                    Some(Code::OperationTimedOut) => {}
                    Some(code) => return Err(operation(what, code)),
                    None => return Err(error(ErrorKind::Other, format!("{what}: {failed}"))),
                },
            }
            {
                let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
                search.name(self.admin.inner(), now);
            }
            if left <= wait {
                return Err(operation(what, Code::OperationTimedOut));
            }
            // While no broker can be reached, what waits for one keeps librdkafka's threads busy.
            self.observer.sign_of_life(deadline).await?;
            wait *= 2;
        }
    }
}

/// The only result, of an operation on one thing.
fn first(results: Vec<TopicResult>) -> Result<(), Code> {
    results.into_iter().next().map_or(Ok(()), |result| result.map(drop).map_err(|(_, code)| code))
}

fn differs(topic: &str, property: &str, asked: Option<i64>, there: i64) -> Result<()> {
    match asked {
        Some(asked) if asked != there => Err(error(
            ErrorKind::Conflict,
            format!("the topic `{topic}` has `{property}` {there}, and the channel's is {asked}"),
        )
        .with_help(format!(
            "set the channel's `{property}` to {there} or leave it out, or change the topic"
        ))),
        _ => Ok(()),
    }
}
