use crate::after::After;
use crate::entries::Content;
use crate::queue::Waiter;
use std::collections::VecDeque;
use std::task::Waker;

/// What senders have put down and no consumer has looked at yet. Its lock is not the state's, so that the two meet once per many messages: a consumer
/// that has nothing left brings in what is here. While one waits, senders do.
pub(crate) struct Incoming {
    pub(crate) contents: Vec<Content>,
    pub(crate) view: View,
    /// Senders that wait for room, the longest waiting first.
    senders: VecDeque<(u64, Waker)>,
}

/// What senders have to know of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// How many more messages may wait.
    pub(crate) room: usize,
    /// A consumer waits.
    pub(crate) awaited: bool,
    pub(crate) gone: bool,
}

/// So many are brought in at the latest: moving them takes time in which nobody else gets at the state.
pub(crate) const MANY: usize = 1024;

impl Incoming {
    pub(crate) const fn new(view: View) -> Self {
        Self { contents: Vec::new(), view, senders: VecDeque::new() }
    }

    pub(crate) fn room(&mut self, waiter: Waiter<'_>) -> usize {
        let room = self.view.room.saturating_sub(self.contents.len());
        if let Some((id, waker)) = waiter {
            self.senders.retain(|(sender, _)| *sender != id);
            if room == 0 {
                self.senders.push_back((id, waker.clone()));
            }
        }
        room
    }

    /// Whether the sender has to bring in what is here.
    pub(crate) fn is_due(&self) -> bool {
        !self.contents.is_empty() && (self.view.awaited || self.contents.len() >= MANY)
    }

    /// What senders know; nothing while some wait. One that was woken may not come, so that those behind it are seen to with every change.
    pub(crate) fn shown(&self) -> Option<View> {
        self.senders.is_empty().then_some(self.view)
    }

    /// One sender at a time, if there is room: it takes what it needs, and what is left wakes the next.
    pub(crate) fn wake_sender(&mut self, after: &mut After) {
        if !self.senders.is_empty()
            && self.room(None) > 0
            && let Some((_, waker)) = self.senders.pop_front()
        {
            after.wake(waker);
        }
    }

    pub(crate) fn wake_senders(&mut self, after: &mut After) {
        self.senders.drain(..).for_each(|(_, waker)| after.wake(waker));
    }
}
