//! The partitions that a receiver has, and how far each is settled.

use crate::error::error;
use crate::memo::Memo;
use anybroker_contract::{Error, ErrorKind, Outcome, Scope, Settle};
use anybroker_offsets::Tracker;
use std::collections::BTreeMap;
use std::time::Instant;

/// One partition, as long as it is this receiver's.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) number: i32,
    pub(crate) scope: Scope,
    /// From the first record on.
    tracker: Option<Tracker>,
    /// The attempts that come next, of what failed and is held.
    held: BTreeMap<i64, u32>,
    /// What the receiver before this one has left.
    inherited: Memo,
    /// There is something to commit.
    pub(crate) dirty: bool,
    /// What Kafka is known to have.
    pub(crate) committed: Option<i64>,
    /// Until when it has to be given away.
    pub(crate) revoked: Option<Instant>,
    /// Nothing of it is held any more.
    pub(crate) released: bool,
    pub(crate) paused: bool,
}

impl Partition {
    /// The offset to commit, once there is one.
    pub(crate) fn position(&self) -> Option<i64> {
        self.tracker.as_ref().map(Tracker::position)
    }

    /// How many offsets lie between the oldest unsettled record and the newest.
    pub(crate) fn span(&self) -> u64 {
        self.tracker.as_ref().map_or(0, Tracker::span)
    }

    /// Notes a record, and gives the number of its attempt, if that is known. `None` when it is not to be handed out: it was, or is settled.
    pub(crate) fn deliver(&mut self, offset: i64) -> Option<Option<u32>> {
        if self.inherited.is_settled(offset) {
            self.advance_to(offset + 1);
            return None;
        }
        self.tracker.get_or_insert_with(|| Tracker::new(offset)).deliver(offset).ok()?;
        let attempt = self.inherited.take_attempt(offset);
        if let Some(attempt) = attempt {
            self.held.insert(offset, attempt);
        }
        Some(attempt)
    }

    /// Nothing below that offset comes any more.
    pub(crate) fn advance_to(&mut self, offset: i64) {
        let tracker = self.tracker.get_or_insert_with(|| Tracker::new(offset));
        let before = tracker.position();
        tracker.advance_to(offset);
        self.dirty |= tracker.position() != before;
    }

    fn settle(&mut self, offset: i64, outcome: Outcome) -> Result<(), Error> {
        let tracker = self.tracker.as_mut().ok_or_else(lease_lost)?;
        match outcome {
            Outcome::Ack => {
                tracker.settle(offset).map_err(|_| lease_lost())?;
                if !self.held.is_empty() {
                    self.held.remove(&offset);
                }
                self.dirty = true;
            }
            Outcome::Held { attempt } => {
                if !tracker.is_unsettled(offset) {
                    return Err(lease_lost());
                }
                self.held.insert(offset, attempt);
                self.dirty = true;
            }
            // It comes again when the partition is read again, from the oldest unsettled record on.
            Outcome::Release if tracker.is_unsettled(offset) => {}
            Outcome::Release => return Err(lease_lost()),
            _ => {
                return Err(error(ErrorKind::Unsupported, "Kafka brings no single message back")
                    .with_help("hold it until it is due"));
            }
        }
        Ok(())
    }

    /// What is committed beside the position.
    pub(crate) fn memo(&self) -> String {
        let Some(tracker) = &self.tracker else { return String::new() };
        let end = tracker.position().saturating_add(i64::try_from(tracker.span()).unwrap_or(i64::MAX));
        let held = self.held.iter().map(|(offset, attempt)| (*offset, *attempt));
        Memo::write(
            tracker.position(),
            tracker.settled().chain(self.inherited.settled(end)),
            held.chain(self.inherited.attempts()),
        )
    }

    /// Goes on where the receiver before this one has committed.
    pub(crate) fn inherit(&mut self, position: i64, memo: &str) {
        self.tracker = Some(Tracker::new(position));
        self.committed = Some(position);
        self.inherited = Memo::read(position, memo);
    }
}

/// The partitions of a receiver. A scope is the place here and a number that counts assignments, so that a late settlement of an earlier one finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    places: Vec<Option<Partition>>,
    assigned: u64,
}

const PLACES: u64 = 1 << 20;

impl Partitions {
    pub(crate) fn assign(&mut self, number: i32) -> &mut Partition {
        self.assigned += 1;
        let place = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place].insert(Partition {
            number,
            scope: Scope::new(self.assigned * PLACES + place as u64),
            tracker: None,
            held: BTreeMap::new(),
            inherited: Memo::default(),
            dirty: false,
            committed: None,
            revoked: None,
            released: false,
            paused: false,
        })
    }

    pub(crate) fn take(&mut self, number: i32) -> Option<Partition> {
        self.places.iter_mut().find(|place| place.as_ref().is_some_and(|p| p.number == number))?.take()
    }

    pub(crate) fn of_scope(&mut self, scope: u64) -> Option<&mut Partition> {
        let place = usize::try_from(scope % PLACES).ok()?;
        self.places.get_mut(place)?.as_mut().filter(|partition| partition.scope.number() == scope)
    }

    pub(crate) fn numbered(&mut self, number: i32) -> Option<&mut Partition> {
        self.iter_mut().find(|partition| partition.number == number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.places.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.places.iter_mut().flatten()
    }

    pub(crate) fn clear(&mut self) {
        self.places.clear();
    }

    /// Settles each and answers each.
    pub(crate) fn settle(&mut self, batch: &mut [Settle]) {
        for settle in batch {
            let result = match self.of_scope(settle.token.part()) {
                Some(partition) => {
                    let offset = settle.token.as_number().cast_signed();
                    partition.settle(offset, settle.outcome)
                }
                None => Err(lease_lost()),
            };
            settle.result = Some(result);
        }
    }
}

pub(crate) fn lease_lost() -> Error {
    error(
        ErrorKind::LeaseLost,
        "the delivery is settled already, or its partition belongs to another consumer",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anybroker_contract::Token;

    fn one(partitions: &mut Partitions, scope: u64, offset: u64, outcome: Outcome) -> Result<(), ErrorKind> {
        let mut batch = [Settle::new(Token::pair(scope, offset), outcome)];
        partitions.settle(&mut batch);
        batch[0].result.take().unwrap().map_err(|error| error.kind())
    }

    #[test]
    fn a_late_settlement_of_an_earlier_assignment_finds_nothing() {
        let mut partitions = Partitions::default();
        let earlier = partitions.assign(3).scope.number();
        assert!(partitions.numbered(3).unwrap().deliver(7).is_some());
        partitions.take(3).unwrap();
        let later = partitions.assign(3).scope.number();
        assert!(partitions.numbered(3).unwrap().deliver(7).is_some());
        assert_ne!(earlier, later);
        assert_eq!(one(&mut partitions, earlier, 7, Outcome::Ack), Err(ErrorKind::LeaseLost));
        assert_eq!(partitions.numbered(3).unwrap().position(), Some(7));
        assert_eq!(one(&mut partitions, later, 7, Outcome::Ack), Ok(()));
        assert_eq!(one(&mut partitions, later, 7, Outcome::Ack), Err(ErrorKind::LeaseLost));
        assert_eq!(partitions.numbered(3).unwrap().position(), Some(8));
    }

    #[test]
    fn the_next_owner_goes_on_where_this_one_was() {
        let mut partitions = Partitions::default();
        let partition = partitions.assign(0);
        let scope = partition.scope.number();
        for offset in 4..9 {
            assert_eq!(partition.deliver(offset), Some(None));
        }
        assert_eq!(one(&mut partitions, scope, 5, Outcome::Held { attempt: 3 }), Ok(()));
        assert_eq!(one(&mut partitions, scope, 6, Outcome::Held { attempt: 2 }), Ok(()));
        assert_eq!(one(&mut partitions, scope, 6, Outcome::Ack), Ok(()));
        assert_eq!(one(&mut partitions, scope, 8, Outcome::Ack), Ok(()));
        let before = partitions.take(0).unwrap();
        let (position, memo) = (before.position().unwrap(), before.memo());
        let next = partitions.assign(0);
        next.inherit(position, &memo);
        assert_eq!((next.position(), next.memo()), (Some(4), memo), "kept for the one after it, too");
        let scope = next.scope.number();
        let delivered: Vec<_> = (4..11).map(|offset| next.deliver(offset)).collect();
        assert_eq!(delivered, [Some(None), Some(Some(3)), None, Some(None), None, Some(None), Some(None)]);
        for offset in [4, 5, 7] {
            assert_eq!(one(&mut partitions, scope, offset, Outcome::Ack), Ok(()));
        }
        assert_eq!(partitions.numbered(0).unwrap().position(), Some(9));
    }

    #[test]
    fn the_memo_follows_what_is_read() {
        let mut partitions = Partitions::default();
        let partition = partitions.assign(0);
        partition.inherit(10, &Memo::write(10, [12..15, 20..30].into_iter(), [(11, 2), (40, 5)].into_iter()));
        for offset in [10, 11, 12] {
            partition.deliver(offset);
        }
        assert_eq!(
            partition.memo(),
            Memo::write(10, [12..13, 13..15, 20..30].into_iter(), [(11, 2), (40, 5)].into_iter())
        );
        assert_eq!(partition.span(), 3);
    }
}
