use super::Properties;
use super::search::{NO_TOPIC, Search};
use super::trouble::{Quiet, Trouble};
use crate::error::{code, error, operation};
use anybroker_contract::{Clock, Error, ErrorKind, Result};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Asks the cluster what there is, and makes nothing: unlike a producer it never lets a broker create the topic that it asks for.
pub(crate) struct Observer {
    consumer: BaseConsumer<Quiet>,
    trouble: Arc<Trouble>,
    search: Mutex<Search>,
    clock: Arc<dyn Clock>,
}

/// A topic as it exists.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    /// Numbered from 0.
    pub(crate) partitions: i32,
    /// Brokers that have each message.
    pub(crate) replication: i32,
    /// Every partition has a leader.
    pub(crate) led: bool,
}

/// How long one try may take before it is looked at why there is no answer.
const TRY: Duration = Duration::from_millis(500);

impl Observer {
    pub(crate) fn new(properties: &Properties, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let trouble = Trouble::new();
        let consumer = properties.asking().create_with_context(Quiet(Arc::clone(&trouble)));
        let consumer = consumer.map_err(|e| created(&e))?;
        let search = Mutex::new(Search::new(properties));
        Ok(Arc::new(Self { consumer, trouble, search, clock }))
    }

    /// Whether some broker answers.
    pub(crate) async fn sign_of_life(self: &Arc<Self>, deadline: Instant) -> Result<()> {
        self.ask("asking for a sign of life", deadline, |consumer, wait| {
            consumer.fetch_metadata(Some(NO_TOPIC), wait).map(drop)
        })
        .await
    }

    /// The topic of that name, if there is one.
    pub(crate) async fn topic(self: &Arc<Self>, name: &str, deadline: Instant) -> Result<Option<Topic>> {
        let (what, asked) = (format!("looking for the topic `{name}`"), name.to_owned());
        let found = self
            .ask(&what, deadline, move |consumer, wait| {
                let metadata = consumer.fetch_metadata(Some(&asked), wait)?;
                let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == asked) else {
                    return Ok(Err(Code::UnknownTopicOrPartition));
                };
                if let Some(code) = topic.error().map(Code::from) {
                    return Ok(Err(code));
                }
                let partitions = topic.partitions();
                Ok(Ok(Topic {
                    name: asked.clone(),
                    partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                    replication: partitions
                        .first()
                        .map_or(0, |p| i32::try_from(p.replicas().len()).unwrap_or(i32::MAX)),
                    led: partitions.iter().all(|p| p.leader() >= 0),
                }))
            })
            .await?;
        match found {
            Ok(topic) => Ok(Some(topic)),
            Err(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Err(code) => Err(operation(&what, code)),
        }
    }

    /// The topic of that name.
    pub(crate) async fn require_topic(self: &Arc<Self>, name: &str, deadline: Instant) -> Result<Topic> {
        self.topic(name, deadline).await?.ok_or_else(|| absent(name))
    }

    /// Asks on a thread of its own, until there is an answer, a reason why there is none, or the deadline.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        what: &str,
        deadline: Instant,
        mut ask: impl FnMut(&BaseConsumer<Quiet>, Duration) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T> {
        let (this, doing) = (Arc::clone(self), what.to_owned());
        let asking = tokio::task::spawn_blocking(move || {
            this.persist(&doing, deadline, |wait| ask(&this.consumer, wait))
        });
        match asking.await {
            Ok(answer) => answer,
            Err(broken) => {
                Err(error(ErrorKind::Other, format!("{what}: the thread ended")).with_source(broken))
            }
        }
    }

    /// Tries until there is an answer, a reason why there is none, or the deadline.
    fn persist<T>(
        &self,
        what: &str,
        deadline: Instant,
        mut attempt: impl FnMut(Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        let trouble = &self.trouble;
        // Of an outage that is over, perhaps.
        trouble.well();
        loop {
            let left = deadline.saturating_duration_since(self.clock.now());
            let failed = match attempt(left.min(TRY).max(Duration::from_millis(1))) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            // Why it failed comes here. Without any time, it would look at one event only.
            while self.consumer.poll(Duration::from_millis(1)).is_some() {}
            if let Some(refused) = trouble.refused_before() {
                return Err(refused);
            }
            match code(&failed) {
                Some(code) if !is_passing(code) => return Err(operation(what, code)),
                _ if trouble.is_down() => {
                    return Err(trouble.unavailable(&format!("{what}: no broker can be reached")));
                }
                _ if left <= TRY => {
                    return Err(error(
                        ErrorKind::Timeout,
                        format!("{what}: Kafka has not answered until the deadline"),
                    )
                    .with_source(failed));
                }
                _ => {}
            }
            let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
            search.look(self.consumer.client(), trouble, NO_TOPIC, self.clock.now());
        }
    }
}

/// The same question may have an answer soon.
pub(super) const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::WaitingForCoordinator
            | Code::WaitCache
            | Code::NotCoordinator
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::UnstableOffsetCommit
            | Code::NetworkException
    )
}

/// Why a client could not be made: librdkafka names the property.
pub(super) fn created(failed: &KafkaError) -> Error {
    error(ErrorKind::Config, format!("librdkafka refuses what the configuration makes of it: {failed}"))
        .with_help("correct the file or setting that it names")
}

pub(crate) fn absent(topic: &str) -> Error {
    error(ErrorKind::NotFound, format!("there is no topic `{topic}`"))
        .with_help("declare the channel, or correct its name or address")
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
