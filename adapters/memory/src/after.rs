use anybroker_contract::{Event, Events};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What is to be done once the lock is free: a woken task or a reported event may come straight back for it.
#[derive(Default)]
pub(crate) struct After {
    // Nearly always there is one task to wake, and waking it allocates nothing.
    first: Option<Waker>,
    more: Vec<Waker>,
    events: Vec<(Events, Event)>,
}

impl After {
    pub(crate) fn wake(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.more.push(waker);
        }
    }

    pub(crate) fn report(&mut self, to: &Events, event: Event) {
        self.events.push((to.clone(), event));
    }

    pub(crate) fn run(self) {
        if !self.events.is_empty() {
            self.events.into_iter().for_each(|(events, event)| events.report(event));
        }
        if let Some(first) = self.first {
            first.wake();
            self.more.into_iter().for_each(Waker::wake);
        }
    }
}

/// Locks, also after a panic: the others can go on with what is there.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
