//! Where reading begins.

use super::Properties;
use super::observer::{Topic, created, is_passing};
use crate::error::{code, error, operation};
use anybroker_contract::{Clock, Declare, Error, ErrorKind, Result, Start};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commits where a new group begins, so that it is fixed whatever becomes of who asked for it. A group that has positions goes on from them; partitions
/// without one came later, and are read from their beginning.
pub(crate) async fn fix_group(
    properties: &Properties,
    topic: &Topic,
    group: &str,
    start: Start,
    mode: Declare,
    until: Until,
) -> Result<()> {
    let mut config = properties.reading();
    config.set("group.id", group);
    let (topic, group) = (topic.clone(), group.to_owned());
    let fixing = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create().map_err(|e| created(&e))?;
        let (name, count) = (topic.name.as_str(), topic.partitions);
        let doing = format!("committing where the group `{group}` begins");
        while !exists(&consumer, name, count, &group, &until)? {
            if mode == Declare::Verify {
                return Err(missing(&group));
            }
            let offsets = resolve(&consumer, name, &(0..count).collect::<Vec<_>>(), start, &until)?;
            match consumer.commit(&offsets, CommitMode::Sync) {
                Ok(()) => return Ok(()),
                Err(failed) => match code(&failed) {
                    // Others are at work in it: they have fixed it, or are about to.
                    Some(
                        Code::UnknownMemberId
                        | Code::IllegalGeneration
                        | Code::RebalanceInProgress
                        | Code::StaleMemberEpoch,
                    ) => {}
                    Some(code) if is_passing(code) => {}
                    Some(code) => return Err(operation(&doing, code)),
                    None => return Err(other(&doing, &failed)),
                },
            }
            until.pause(&doing)?;
        }
        Ok(())
    });
    fixing.await.unwrap_or_else(|e| Err(error(ErrorKind::Other, "the thread has ended").with_source(e)))
}

/// Whether the group has a position anywhere in the topic.
pub(super) fn exists<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: i32,
    group: &str,
    until: &Until,
) -> Result<bool> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(topic, 0, partitions - 1);
    let committed = until.persist(&format!("asking for the positions of the group `{group}`"), |wait| {
        let committed = consumer.committed_offsets(asked.clone(), wait)?;
        let failed = committed.elements().iter().find_map(|element| element.error().err());
        failed.map_or(Ok(committed), Err)
    })?;
    Ok(committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))))
}

pub(super) fn missing(group: &str) -> Error {
    error(ErrorKind::NotFound, format!("the group `{group}` has no position in the topic"))
        .with_help("declare the subscription, or commit where the group begins with a tool of Kafka's")
}

/// The offsets that those partitions are read from.
pub(super) fn resolve<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    start: Start,
    until: &Until,
) -> Result<TopicPartitionList> {
    // Kafka writes the newest and the oldest offset as times that there are not, by the same numbers as librdkafka has for the two ends.
    let at = |time: Offset| {
        until.persist("asking where the topic begins and ends", |wait| {
            let mut asked = TopicPartitionList::new();
            for partition in partitions {
                asked.add_partition_offset(topic, *partition, time)?;
            }
            let found = consumer.offsets_for_times(asked, wait)?;
            let failed = found.elements().iter().find_map(|element| element.error().err());
            failed.map_or(Ok(found), Err)
        })
    };
    let set = |found: &TopicPartitionList, newest: Option<&TopicPartitionList>| {
        let mut offsets = TopicPartitionList::new();
        for element in found.elements() {
            let offset = match (element.offset(), newest) {
                (Offset::Offset(offset), _) => Offset::Offset(offset),
                // There is nothing of that time or later: it begins with the next.
                (_, Some(newest)) => {
                    let newest = newest.find_partition(topic, element.partition());
                    newest.map_or(Offset::End, |element| element.offset())
                }
                (other, None) => other,
            };
            offsets.add_partition_offset(topic, element.partition(), offset)?;
        }
        Ok(offsets)
    };
    let offsets: KafkaResult<TopicPartitionList> = match start {
        Start::Earliest => set(&at(Offset::Beginning)?, None),
        Start::At(time) => {
            // Asked for first: what comes meanwhile is of that time, or is found.
            let newest = at(Offset::End)?;
            set(&at(Offset::Offset(time.as_millis().max(0)))?, Some(&newest))
        }
        _ => set(&at(Offset::End)?, None),
    };
    offsets.map_err(|e| other("asking where the topic begins and ends", &e))
}

/// Until when something is tried.
pub(crate) struct Until {
    pub(crate) deadline: Instant,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Until {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(self.clock.now())
    }

    fn persist<T>(&self, what: &str, mut attempt: impl FnMut(Duration) -> KafkaResult<T>) -> Result<T> {
        loop {
            let failed = match attempt(self.left().clamp(Duration::from_millis(1), Duration::from_secs(2))) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match code(&failed) {
                Some(code) if is_passing(code) => self.pause(what)?,
                Some(code) => return Err(operation(what, code)),
                None => return Err(other(what, &failed)),
            }
        }
    }

    fn pause(&self, what: &str) -> Result<()> {
        if self.left().is_zero() {
            return Err(error(
                ErrorKind::Timeout,
                format!("{what}: Kafka has not answered until the deadline"),
            ));
        }
        // What else asks it is on its own thread, and would be answered no sooner.
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread of its own, beside a client that has its own time"
        )]
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }
}

fn other(what: &str, failed: &KafkaError) -> Error {
    error(ErrorKind::Other, format!("{what}: {failed}"))
}
