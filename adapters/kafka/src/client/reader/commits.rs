use super::{FAREWELL, From, Parting, Reading};
use crate::error::error;
use anybroker_contract::{ErrorKind, Result, Scope};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Commits, one at a time.
#[derive(Default)]
pub(super) struct Commit {
    /// Since when, and which partitions with which offsets.
    pub(super) under_way: Option<(Instant, Vec<(i32, i64)>)>,
    last: Option<Instant>,
}

/// The positions that have to be committed, and who waits for that.
pub(super) type Flush = (Vec<(Scope, i64)>, oneshot::Sender<Result<()>>);

impl Reading<'_> {
    pub(super) const fn commits(&self) -> bool {
        matches!(self.terms.from, From::Group { .. })
    }

    pub(super) fn commit_when_due(&mut self) {
        let now = self.now();
        if self.commit.under_way.as_ref().is_some_and(|(since, _)| *since + FAREWELL <= now) {
            // Its answer will hardly come any more.
            self.committed(Ok(Vec::new()));
        }
        let wait = match self.flushes.is_empty() && self.closing.is_none() {
            true => self.commit_interval,
            false => Duration::from_millis(20),
        };
        if self.commits() && self.commit.is_due(now, wait) {
            self.commit_now();
        }
    }

    pub(super) fn commit_now(&mut self) {
        if !self.commits() {
            self.shared.state().partitions.iter_mut().for_each(|partition| partition.dirty = false);
            return;
        }
        let mut positions = TopicPartitionList::new();
        let mut sent = Vec::new();
        {
            let mut state = self.shared.state();
            for partition in state.partitions.iter_mut().filter(|partition| partition.dirty) {
                partition.dirty = false;
                let Some(position) = partition.position() else { continue };
                let mut element = positions.add_partition(&self.terms.topic, partition.number);
                let memo = partition.memo();
                if element.set_offset(Offset::Offset(position)).is_ok() && !memo.is_empty() {
                    element.set_metadata(memo);
                }
                sent.push((partition.number, position));
            }
        }
        self.commit.last = Some(self.now());
        if sent.is_empty() {
            return;
        }
        self.commit.under_way = Some((self.now(), sent));
        if let Err(code) = self.inbox.commit(&positions) {
            self.committed(Err(code));
        }
    }

    /// Notes what Kafka has now; what it was sent besides is to be committed still.
    pub(super) fn committed(&mut self, answer: std::result::Result<Vec<(i32, i64)>, Code>) {
        if answer.is_ok() {
            self.consumer.context().trouble.well();
        }
        let Some((_, sent)) = self.commit.under_way.take() else { return };
        let taken = answer.unwrap_or_default();
        let mut state = self.shared.state();
        for (number, offset) in sent {
            let Some(partition) = state.partitions.numbered(number) else { continue };
            match taken.contains(&(number, offset)) {
                true => partition.committed = Some(offset),
                false => partition.dirty = true,
            }
        }
    }

    pub(super) fn flush(&mut self, answer: oneshot::Sender<Result<()>>) {
        if !self.commits() {
            let _ = answer.send(Ok(()));
            return;
        }
        let state = self.shared.state();
        let position =
            |partition: &crate::partitions::Partition| Some((partition.scope, partition.position()?));
        self.flushes.push((state.partitions.iter().filter_map(position).collect(), answer));
    }

    pub(super) fn answer_flushes(&mut self) {
        for (wanted, answer) in std::mem::take(&mut self.flushes) {
            let mut missing = false;
            let mut lost = false;
            {
                let mut state = self.shared.state();
                for (scope, position) in &wanted {
                    match state.partitions.of_scope(scope.number()) {
                        None => lost = true,
                        Some(partition) => match partition.committed {
                            Some(committed) => missing |= committed < *position,
                            // Nothing to tell: it stands where it began.
                            None => missing |= partition.dirty || self.commit.under_way.is_some(),
                        },
                    }
                }
            }
            match (lost, missing) {
                (true, _) => drop(answer.send(Err(crate::partitions::lease_lost()))),
                (_, false) => drop(answer.send(Ok(()))),
                _ if answer.is_closed() => {}
                _ => self.flushes.push((wanted, answer)),
            }
        }
    }

    /// Closes once all is committed, or the time for it is over.
    pub(super) fn close(&mut self) -> Option<Parting> {
        let (_, deadline) = self.closing.as_ref()?;
        let deadline = *deadline;
        let dirty = self.shared.state().partitions.iter().any(|partition| partition.dirty);
        let waits = self.commits() && (dirty || self.commit.under_way.is_some());
        if waits && self.now() < deadline {
            return None;
        }
        let closed = match waits {
            false => Ok(()),
            true => Err(error(
                ErrorKind::Disconnected,
                "Kafka has not taken the last positions: what was settled since comes again",
            )),
        };
        self.closing.take().map(|(answer, _)| Some((answer, closed)))
    }
}

impl Commit {
    /// Whether it is time for another.
    pub(super) fn is_due(&self, now: Instant, interval: Duration) -> bool {
        self.under_way.is_none() && self.last.is_none_or(|last| last + interval <= now)
    }
}
