use super::{From, Reading, failed};
use crate::client::queue::Item;
use crate::wire;
use anybroker_contract::{Event, Received, Token};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Partition and offset, the record, and whether it is meant for us.
pub(super) type Read = (i32, i64, Received, bool);

/// How many are taken at a time.
const BATCH: usize = 512;

impl Reading<'_> {
    /// Takes records while there is room for them.
    pub(super) fn fetch(&mut self) -> usize {
        {
            let mut state = self.shared.state();
            if state.stopped || !state.has_room() {
                state.full = true;
                return 0;
            }
        }
        let owner = match &self.terms.from {
            From::Alone { only: Some((_, owner)), .. } => Some(owner.as_str()),
            _ => None,
        };
        let batch = &mut self.batch;
        let mut troubles = Vec::new();
        let count = self.inbox.drain(BATCH, |item| match item {
            Item::Record(taken) => {
                // Scope and token are filled in below, under the lock.
                let decoded = match taken.headers {
                    Some(headers) => wire::decode(&taken.content, headers, Token::number(0)),
                    None => wire::unreadable(&taken.content, Token::number(0)),
                };
                let meant = owner.is_none_or(|owner| decoded.to.as_ref().is_some_and(|to| *to == *owner));
                batch.push((taken.partition, taken.offset, decoded.received, meant));
            }
            Item::Failed { partition, code } => troubles.push((partition, code)),
        });
        if !self.batch.is_empty() {
            self.unknown_since = None;
            self.consumer.context().trouble.well();
            if self.take_in() {
                self.shared.wake();
            }
        }
        for (partition, code) in troubles {
            match code {
                Code::AutoOffsetReset => self.begin_anew(partition),
                code => self.failed(&KafkaError::MessageConsumption(code)),
            }
        }
        count
    }

    /// The partition does not have the record that comes next: nothing of it was read before, that record was deleted for its age, or the topic was made
    /// anew. Reads from the oldest that there is.
    fn begin_anew(&self, number: i32) {
        let lost = {
            let mut state = self.shared.state();
            let Some(before) = state.partitions.take(number) else { return };
            state.forget(before.scope);
            state.partitions.assign(number);
            before.position().map(|_| before.scope)
        };
        if let Some(scope) = lost {
            self.terms.events.report(Event::Lost { scope });
            self.terms.events.report(Event::Gap { messages: None });
        }
        let mut anew = TopicPartitionList::new();
        anew.add_partition(&self.terms.topic, number);
        // Librdkafka has stopped reading it, and goes nowhere else in it.
        let begun = self.consumer.incremental_unassign(&anew).and_then(|()| {
            self.inbox.take_over(&self.terms.topic, number);
            anew.set_all_offsets(Offset::Beginning)?;
            self.consumer.incremental_assign(&anew)
        });
        if let Err(refused) = begun {
            self.shared.die(failed("reading from the oldest record", &refused));
        }
    }

    /// True when there is something new to hand out.
    fn take_in(&mut self) -> bool {
        let mut state = self.shared.state();
        let mut any = false;
        for (number, offset, mut received, meant) in self.batch.drain(..) {
            let Some(partition) = state.partitions.numbered(number) else { continue };
            if partition.revoked.is_some() {
                continue;
            }
            if !meant {
                partition.advance_to(offset + 1);
                continue;
            }
            let Some(attempt) = partition.deliver(offset) else { continue };
            received.token = Token::pair(partition.scope.number(), offset.unsigned_abs());
            received.scope = partition.scope;
            received.attempt = attempt;
            state.push(received);
            any = true;
        }
        any
    }

    /// Reads no further of a partition whose oldest unsettled record is far behind.
    pub(super) fn keep_within_bounds(&mut self) {
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        let mut paused = None;
        {
            let mut state = self.shared.state();
            for partition in state.partitions.iter_mut() {
                let span = partition.span();
                if !partition.paused && span > self.max_ahead {
                    partition.paused = true;
                    pause.add_partition(&self.terms.topic, partition.number);
                    paused = Some((partition.number, span));
                } else if partition.paused && span <= self.max_ahead / 2 {
                    partition.paused = false;
                    resume.add_partition(&self.terms.topic, partition.number);
                }
            }
        }
        if let Some((number, span)) = paused {
            let _ = self.consumer.pause(&pause);
            let reason = format!(
                "partition {number} of `{}` is read {span} records beyond its oldest unsettled one",
                self.terms.topic
            );
            self.terms.events.report(Event::Paused { reason });
        }
        if resume.count() > 0 {
            let _ = self.consumer.resume(&resume);
            if self.shared.state().partitions.iter().all(|partition| !partition.paused) {
                self.terms.events.report(Event::Connected);
            }
        }
    }
}
