//! The routing keys of channels in order.
//!
//! A key must lead to the same queue as long as the queues are there. RabbitMQ's consistent-hash exchange does not keep that: where a server starts with its
//! metadata in Mnesia, it fills the ring anew, now and then in another order (seen with 3.10.8), and keys change their queues. So a sender puts each key into one of a
//! fixed number of buckets, the bucket is the routing key, and each bucket is bound to one queue, which a server remembers.

use lapin::types::ShortString;
use std::sync::LazyLock;

/// How many there are, for all channels and for ever. Most numbers of queues divide it, so that each queue has as many.
pub(crate) const BUCKETS: usize = 120;

/// The one for a message with that key; CRC-32, because every language has it.
pub(crate) fn of_key(key: &[u8]) -> ShortString {
    numbered(crc32fast::hash(key) as usize)
}

/// One for each number; numbers that follow one another have others.
pub(crate) fn numbered(number: usize) -> ShortString {
    NAMES[number % BUCKETS].clone()
}

/// Those that lead to this one of so many queues.
pub(crate) fn of_shard(number: usize, shards: usize) -> impl Iterator<Item = ShortString> {
    (number..BUCKETS).step_by(shards.max(1)).map(numbered)
}

/// Whether the routing key is one of them; else somebody sent a key itself.
pub(crate) fn is_bucket(routing_key: &str) -> bool {
    let number = routing_key.strip_prefix(BEGINNING).and_then(|number| number.parse().ok());
    number.is_some_and(|number: usize| number < BUCKETS)
}

const BEGINNING: char = '#';

static NAMES: LazyLock<Vec<ShortString>> =
    LazyLock::new(|| (0..BUCKETS).map(|number| format!("{BEGINNING}{number}").into()).collect());

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_key_has_its_bucket_for_ever() {
        // The published check value of CRC-32.
        assert_eq!(of_key(b"123456789").as_str(), format!("#{}", 0xcbf4_3926_u32 % 120));
        assert_eq!(of_key(b"").as_str(), "#0");
        assert!(is_bucket("#0") && is_bucket("#119"));
        assert!(!is_bucket("#120") && !is_bucket("7") && !is_bucket("#") && !is_bucket(""));
    }

    #[test]
    fn every_bucket_leads_to_one_queue_and_every_queue_has_its_share() {
        for shards in 1..=BUCKETS {
            let mut all = BTreeSet::new();
            for number in 0..shards {
                let of_it: Vec<_> = of_shard(number, shards).collect();
                assert!((BUCKETS / shards..=BUCKETS.div_ceil(shards)).contains(&of_it.len()));
                all.extend(of_it.iter().map(|name| name.as_str().to_owned()));
            }
            assert_eq!(all.len(), BUCKETS);
        }
    }
}
