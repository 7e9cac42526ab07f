use crate::OPERATIONS;
use crate::random::Random;
use anybroker_offsets::{OutOfPlace, Positions};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn positions_do_what_the_model_does() {
    let mut random = Random::seeded();
    let mut shard = Positions::new(0_u128);
    // By number, the position that is reached with it.
    let mut reached: BTreeMap<u64, u128> = BTreeMap::new();
    let mut start = 0;
    let mut unsettled = BTreeSet::new();
    let mut newest = 0;
    for _ in 0..OPERATIONS {
        match random.below(16) {
            0..8 if unsettled.len() < 500 => {
                newest += 1 + u128::from(random.next());
                let number = shard.deliver(newest);
                assert_eq!(number, reached.len() as u64);
                reached.insert(number, newest);
                unsettled.insert(number);
            }
            0..14 => {
                // Any number at all is mostly one that was settled.
                let any = random.below(2 + reached.len() as u64);
                let number = random.pick(&unsettled).filter(|_| random.below(8) > 0).unwrap_or(any);
                let expected = if unsettled.remove(&number) {
                    Ok(())
                } else if number < reached.len() as u64 {
                    Err(OutOfPlace::Passed)
                } else {
                    Err(OutOfPlace::Ahead)
                };
                assert_eq!(shard.settle(number), expected);
            }
            14 => {
                newest += 1;
                shard.advance_to(newest);
                *reached.values_mut().next_back().unwrap_or(&mut start) = newest;
            }
            _ => {
                let number = random.below(2 + reached.len() as u64);
                assert_eq!(shard.is_unsettled(number), unsettled.contains(&number));
            }
        }
        let oldest = unsettled.first().copied().unwrap_or(reached.len() as u64);
        let position = oldest.checked_sub(1).map_or(start, |before| reached[&before]);
        assert_eq!(*shard.position(), position);
        assert_eq!(shard.span(), reached.len() as u64 - oldest);
        assert_eq!(shard.unsettled(), unsettled.len());
    }
}
