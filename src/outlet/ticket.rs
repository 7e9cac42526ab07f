use crate::adapter::{Receipt, SendOutcome};
use crate::{Error, ErrorKind, Result};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The right to one answer in a group of sends. Dropping it unanswered answers "unknown", so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Ticket {
    group: Option<Arc<Group>>,
    index: usize,
}

/// The answers to a group of sends, in their order, once all are there.
#[derive(Debug)]
pub(crate) struct Answers(Arc<Group>);

#[derive(Debug)]
struct Group(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    /// Of one send alone: most are.
    only: Option<Result<Receipt>>,
    results: Vec<Option<Result<Receipt>>>,
    missing: usize,
    waker: Option<Waker>,
}

/// Tickets for that many sends, and their answers.
pub(super) fn tickets(count: usize) -> (impl Iterator<Item = Ticket>, Answers) {
    let several = if count == 1 { 0 } else { count };
    let results = std::iter::repeat_with(|| None).take(several).collect();
    let group = Arc::new(Group(Mutex::new(Waiting { only: None, results, missing: count, waker: None })));
    let answers = Answers(Arc::clone(&group));
    ((0..count).map(move |index| Ticket { group: Some(Arc::clone(&group)), index }), answers)
}

impl Ticket {
    pub(super) fn answer(mut self, result: Result<Receipt>) {
        if let Some(group) = self.group.take() {
            group.answer(self.index, result);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let gone = Error::new(ErrorKind::Closed, "the producer ended while the message was on its way");
            group.answer(self.index, Err(gone.with_operation("send").with_outcome(SendOutcome::Unknown)));
        }
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, index: usize, result: Result<Receipt>) {
        let waker = {
            let mut waiting = self.lock();
            match waiting.results.get_mut(index) {
                Some(place) => *place = Some(result),
                None => waiting.only = Some(result),
            }
            waiting.missing -= 1;
            if waiting.missing == 0 { waiting.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Answers {
    /// Every answer, in the order of the sends.
    pub(crate) async fn all(self) -> Vec<Result<Receipt>> {
        self.wait(|waiting| {
            let several = std::mem::take(&mut waiting.results);
            several.into_iter().chain([waiting.only.take()]).flatten().collect()
        })
        .await
    }

    /// The answer to one send.
    pub(crate) async fn one(self) -> Result<Receipt> {
        let answer = self.wait(|waiting| waiting.only.take()).await;
        answer.unwrap_or_else(|| {
            let what = "there was no answer for the message";
            Err(Error::new(ErrorKind::Other, what).with_outcome(SendOutcome::Unknown))
        })
    }

    /// Takes them once all are there. Cancel-safe.
    async fn wait<T>(&self, take: fn(&mut Waiting) -> T) -> T {
        poll_fn(|cx| {
            let mut waiting = self.0.lock();
            if waiting.missing > 0 {
                waiting.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(take(&mut waiting))
        })
        .await
    }
}
