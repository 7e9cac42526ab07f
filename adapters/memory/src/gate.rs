use crate::after::{After, lock};
use anybroker_contract::{Event, Events};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

/// What all senders of a broker pass. Open unless a test shuts it, and then one load from memory.
#[derive(Default)]
pub(crate) struct Gate {
    disturbed: AtomicBool,
    counter: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blocked: Option<String>,
    losing: usize,
    senders: BTreeMap<u64, Events>,
    waiting: BTreeMap<u64, Waker>,
}

impl Gate {
    /// A new sender's number. It hears of a block, also of one that is there already.
    pub(crate) fn enter(&self, events: Events) -> u64 {
        let id = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if let Some(reason) = &state.blocked {
            events.report(Event::Blocked { reason: reason.clone() });
        }
        state.senders.insert(id, events);
        id
    }

    pub(crate) fn leave(&self, id: u64) {
        let mut state = lock(&self.state);
        state.senders.remove(&id);
        state.waiting.remove(&id);
    }

    /// Nothing is to be waited for and no confirm is to be lost.
    pub(crate) fn is_open(&self) -> bool {
        !self.disturbed.load(Ordering::Acquire)
    }

    pub(crate) fn poll_open(&self, id: u64, cx: &Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        let mut state = lock(&self.state);
        if state.blocked.is_none() {
            return Poll::Ready(());
        }
        state.waiting.insert(id, cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn set_blocked(&self, reason: Option<String>) {
        self.change(|state, after| {
            if state.blocked.is_some() == reason.is_some() {
                return;
            }
            state.blocked = reason;
            for events in state.senders.values() {
                after.report(
                    events,
                    match &state.blocked {
                        Some(reason) => Event::Blocked { reason: reason.clone() },
                        None => Event::Unblocked,
                    },
                );
            }
            if state.blocked.is_none() {
                state.wake(after);
            }
        });
    }

    pub(crate) fn lose(&self, batches: usize) {
        self.change(|state, _| state.losing = batches);
    }

    /// Whether the confirm of the batch just stored is to be lost.
    pub(crate) fn loses(&self) -> bool {
        !self.is_open()
            && self.change(|state, _| {
                let loses = state.losing > 0;
                state.losing = state.losing.saturating_sub(1);
                loses
            })
    }

    /// Lets those who wait look whether their connection is still there.
    pub(crate) fn wake(&self) {
        self.change(State::wake);
    }

    fn change<R>(&self, change: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let mut after = After::default();
        let mut state = lock(&self.state);
        let result = change(&mut state, &mut after);
        let disturbed = state.blocked.is_some() || state.losing > 0;
        self.disturbed.store(disturbed, Ordering::Release);
        drop(state);
        after.run();
        result
    }
}

impl State {
    fn wake(&mut self, after: &mut After) {
        std::mem::take(&mut self.waiting).into_values().for_each(|waker| after.wake(waker));
    }
}
