use anybroker_contract::{Bytes, Message, Scope};
use std::time::Instant;

/// What a broker stores, and its size, measured once.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) record: Record,
    pub(crate) size: usize,
}

/// A message, or bytes that are none.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Message(Message),
    Raw(Bytes),
}

impl Content {
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match &self.record {
            Record::Message(message) => message.key().map(|key| key.as_bytes()),
            Record::Raw(_) => None,
        }
    }
}

/// Copies of the first messages, so many at most, up to one that is too large.
#[inline]
pub(crate) fn fitting(batch: &[Message], room: usize, largest: usize) -> impl Iterator<Item = Content> {
    batch.iter().take(room).map_while(move |message| {
        let size = message.size();
        (size <= largest).then(|| Content { record: Record::Message(message.clone()), size })
    })
}

/// One message of one queue, from its acceptance until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    /// Its place in the order of acceptance, for good.
    pub(crate) place: u64,
    pub(crate) shard: usize,
    /// The attempt that runs, or comes next.
    pub(crate) attempt: u32,
    /// The running attempt was counted by `Held` already.
    pub(crate) held: bool,
    pub(crate) standing: Standing,
    /// Changes with every hand-out and delay, so that an old token or timer finds nothing.
    pub(crate) number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    Delayed,
    Out { consumer: u64, scope: Scope, expires: Option<Instant> },
}

/// The entries of a queue in numbered slots. A freed slot is the next to be filled, so that a busy queue stays in the cache.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    // Inlined, as its caller is, so that a message is not moved about before it is in its slot.
    #[inline]
    pub(crate) fn insert(&mut self, entry: Entry) -> usize {
        if let Some(slot) = self.free.pop() {
            self.slots[slot] = Some(entry);
            slot
        } else {
            self.slots.push(Some(entry));
            self.slots.len() - 1
        }
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Entry> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Entry> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        if let Some(entry) = self.slots.get_mut(slot).filter(|entry| entry.is_some()) {
            // Dropped where it is: moving it out first would cost more than the rest of this.
            *entry = None;
            self.free.push(slot);
        }
        // What a backlog has taken is given back once it is worked off.
        if self.len() == 0 && self.slots.len() > 4096 {
            *self = Self::default();
        }
    }

    /// The slots of those handed out that `which` picks by consumer and scope.
    pub(crate) fn handed_out(&self, which: impl Fn(u64, Scope) -> bool) -> Vec<usize> {
        let picked = |entry: &Entry| match entry.standing {
            Standing::Out { consumer, scope, .. } => which(consumer, scope),
            Standing::Ready | Standing::Delayed => false,
        };
        let slots = self.slots.iter().enumerate();
        slots.filter(|(_, entry)| entry.as_ref().is_some_and(picked)).map(|(slot, _)| slot).collect()
    }
}
