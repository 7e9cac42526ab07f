use super::{FAREWELL, Reading, TICK, failed, unassign};
use anybroker_contract::Event;
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// Partitions that go to another consumer.
pub(super) struct Leaving {
    partitions: TopicPartitionList,
    deadline: Instant,
    /// The last commit is under way.
    committing: bool,
}

impl Reading<'_> {
    pub(super) fn assigned(&mut self, partitions: &TopicPartitionList) {
        // Where that is not known, librdkafka asks again.
        let committed = self.consumer.committed_offsets(partitions.clone(), Duration::from_secs(2));
        let known = committed.as_ref().is_ok_and(|all| all.elements().iter().all(|one| one.error().is_ok()));
        let from = committed.unwrap_or_else(|_| partitions.clone());
        for element in partitions.elements() {
            let number = element.partition();
            let mut begin = from.find_partition(&self.terms.topic, number);
            {
                let mut state = self.shared.state();
                state.partitions.take(number);
                let partition = state.partitions.assign(number);
                if let Some((committed, Offset::Offset(offset))) = begin.as_ref().map(|it| (it, it.offset()))
                {
                    partition.inherit(offset, committed.metadata());
                }
            }
            if let Some(begin) = begin.as_mut().filter(|begin| known && begin.offset() == Offset::Invalid) {
                // It fails for partitions that are not in the list only.
                let _ = begin.set_offset(Offset::Beginning);
            }
            self.inbox.take_over(&self.terms.topic, number);
        }
        let assigning = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&from),
            _ => self.consumer.assign(&from),
        };
        if let Err(refused) = assigning {
            return self.shared.die(failed("taking partitions", &refused));
        }
        if partitions.count() > 0 {
            self.unknown_since = None;
        }
        self.consumer.context().trouble.well();
        self.report(Ok(()));
    }

    pub(super) fn revoked(&mut self, partitions: TopicPartitionList, lost: bool) {
        if lost {
            self.leaving = None;
            return self.let_go(&partitions);
        }
        let deadline = self.now() + self.revoke_within;
        for element in partitions.elements() {
            let scope = {
                let mut state = self.shared.state();
                let Some(partition) = state.partitions.numbered(element.partition()) else { continue };
                partition.revoked = Some(deadline);
                let scope = partition.scope;
                state.forget(scope);
                scope
            };
            self.terms.events.report(Event::Revoking { scope, deadline });
        }
        self.leaving = Some(Leaving { partitions, deadline, committing: false });
    }

    /// Gives away what was revoked, once nothing of it is held and its last position is committed, or the time is over.
    pub(super) fn give_away(&mut self) {
        let now = self.now();
        let Some(leaving) = &mut self.leaving else { return };
        let overdue = leaving.deadline <= now;
        if !leaving.committing {
            let state = self.shared.state();
            let held = state.partitions.iter().any(|p| p.revoked.is_some() && !p.released);
            if held && !overdue && self.closing.is_none() {
                return;
            }
        }
        let first = !std::mem::replace(&mut leaving.committing, true);
        if first && self.commit.under_way.is_none() {
            self.commit_now();
        }
        let dirty = self.shared.state().partitions.iter().any(|p| p.revoked.is_some() && p.dirty);
        let too_late = self.leaving.as_ref().is_some_and(|leaving| leaving.deadline + FAREWELL <= now);
        if (dirty || self.commit.under_way.is_some()) && !too_late {
            if dirty && self.commit.is_due(now, TICK) {
                self.commit_now();
            }
            return;
        }
        if let Some(leaving) = self.leaving.take() {
            self.let_go(&leaving.partitions);
        }
    }

    /// Those partitions are another's from now on.
    fn let_go(&mut self, partitions: &TopicPartitionList) {
        for element in partitions.elements() {
            let number = element.partition();
            let scope = {
                let mut state = self.shared.state();
                let Some(partition) = state.partitions.take(number) else { continue };
                state.forget(partition.scope);
                (!partition.released).then_some(partition.scope)
            };
            self.inbox.give_back(&self.terms.topic, number);
            if let Some(scope) = scope {
                self.terms.events.report(Event::Lost { scope });
            }
        }
        unassign(self.consumer, partitions);
    }
}
