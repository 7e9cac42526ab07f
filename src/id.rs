use crate::adapter::{MessageId, Timestamp};
use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use uuid::Uuid;

/// A new UUIDv7 for that moment. Ids of one thread ascend.
///
/// Kept per thread, because the `uuid` crate's own generator asks the system for time and randomness each time and costs more than a send on memory.
pub(crate) fn new_id(now: Timestamp) -> MessageId {
    thread_local! {
        static LAST: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
        static RANDOM: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    }
    let now = u64::try_from(now.as_millis()).unwrap_or(0);
    let (last, count) = LAST.get();
    let (millis, count) = match (now > last, count < 0xfff) {
        (true, _) => (now, 0),
        (false, true) => (last, count + 1),
        (false, false) => (last + 1, 0),
    };
    LAST.set((millis, count));
    // SplitMix64: a full-period sequence from a random start, one per thread.
    let step = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(step);
    let mut random = step;
    random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    random ^= random >> 31;
    let high = (millis << 16) | 0x7000 | count;
    let low = (random & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    Uuid::from_u64_pair(high, low).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_over_threads_and_ascend_within_one() {
        let moment = Timestamp::from_millis(1_700_000_000_000);
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(move || (0..50_000).map(|_| new_id(moment)).collect::<Vec<_>>()))
            .collect();
        let mut all = HashSet::new();
        for thread in threads {
            let ids = thread.join().expect("no panic");
            assert!(ids.is_sorted());
            assert_eq!(ids[0].as_uuid().expect("a UUID").get_version_num(), 7);
            all.extend(ids);
        }
        assert_eq!(all.len(), 200_000);
    }
}
