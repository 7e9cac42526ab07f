use super::parcel::{Parcel, Tie};
use crate::adapter::MessageKey;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The key gate of an ordered channel: one delivery of a key is out at a time, its followers wait behind it, through retries too.
#[derive(Debug, Default)]
pub(super) struct Lanes(HashMap<MessageKey, Lane>);

#[derive(Debug)]
struct Lane {
    owner: u64,
    tie: Arc<Tie>,
    followers: VecDeque<Parcel>,
}

impl Lanes {
    /// The parcel, if nothing of its key is out; else it waits.
    pub(super) fn enter(&mut self, parcel: Parcel) -> Option<Parcel> {
        let Some(key) = parcel.message.key().cloned() else {
            return Some(parcel);
        };
        match self.0.get_mut(&key) {
            Some(lane) => {
                lane.followers.push_back(parcel);
                None
            }
            None => {
                let lane =
                    Lane { owner: parcel.order, tie: Arc::clone(&parcel.tie), followers: VecDeque::new() };
                self.0.insert(key, lane);
                Some(parcel)
            }
        }
    }

    /// The key's next, after its delivery `owner` was settled. Nothing when that is not out any more, as after a loss.
    pub(super) fn leave(&mut self, key: Option<&MessageKey>, owner: u64) -> Option<Parcel> {
        let key = key?;
        let lane = self.0.get_mut(key).filter(|lane| lane.owner == owner)?;
        let next = lane.followers.pop_front();
        match &next {
            Some(parcel) => {
                lane.owner = parcel.order;
                lane.tie = Arc::clone(&parcel.tie);
            }
            None => {
                self.0.remove(key);
            }
        }
        next
    }

    /// Takes out what matches. Keys whose delivery is lost go on with what is left of them.
    pub(super) fn take(&mut self, hit: impl Fn(&Parcel) -> bool) -> (Vec<Parcel>, Vec<Parcel>) {
        let (mut taken, mut freed) = (Vec::new(), Vec::new());
        self.0.retain(|_, lane| {
            for parcel in std::mem::take(&mut lane.followers) {
                if hit(&parcel) { taken.push(parcel) } else { lane.followers.push_back(parcel) }
            }
            if !lane.tie.is_lost() {
                return true;
            }
            match lane.followers.pop_front() {
                Some(next) => {
                    lane.owner = next.order;
                    lane.tie = Arc::clone(&next.tie);
                    freed.push(next);
                    true
                }
                None => false,
            }
        });
        (taken, freed)
    }
}
