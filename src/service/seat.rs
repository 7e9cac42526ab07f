use super::context::{Call, Lent};
use super::desk::{Begun, Desk};
use super::handler::{Answer, Endpoint};
use super::{Failure, Handling, spans};
use crate::Delivery;
use crate::adapter::BoxFuture;
use crate::clock::later;
use std::future::{Future, pending, poll_fn};
use std::mem::replace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_util::sync::ReusableBoxFuture;
use tracing::Span;

/// Where one message after another has its first turn. What one needed in memory serves the next, so that most cost no allocation.
pub(super) struct Seat<S> {
    desk: Arc<Desk<S>>,
    sitting: Option<Sitting<S>>,
    work: Work,
    /// What is to be waited for beside, or after, a handler.
    job: Option<BoxFuture<'static, ()>>,
    /// That of the message before.
    call: Option<Arc<Call<S>>>,
    /// To be acknowledged, mostly together with receiving the next.
    handled: Option<Delivery>,
}

/// What a handler does for one message.
pub(super) type Work = ReusableBoxFuture<'static, Answer>;

/// A message that is being handled.
struct Sitting<S> {
    lent: Lent<S>,
    span: Span,
}

impl<S: Send + Sync + 'static> Seat<S> {
    pub(super) fn new(desk: Arc<Desk<S>>) -> Self {
        Self { desk, sitting: None, work: nothing(), job: None, call: None, handled: None }
    }

    /// Takes the delivery, unless it is settled without a handler.
    pub(super) fn take(&mut self, delivery: Delivery) -> bool {
        let Some((delivery, endpoint)) = self.desk.admit(delivery) else { return false };
        if self.desk.policy.duplicates.is_some() {
            self.job = Some(Box::pin(once(Arc::clone(&self.desk), delivery)));
        } else {
            self.sitting = Some(sit(&self.desk, endpoint, delivery, self.call.take(), &mut self.work));
        }
        true
    }

    /// The first turn; whether no other is needed.
    pub(super) async fn first_turn(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.turn(cx))).await
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(sitting) = &self.sitting {
            let Poll::Ready(outcome) = sitting.turn(&mut self.work, cx) else { return false };
            self.settle(outcome);
        }
        let Some(job) = &mut self.job else { return true };
        let done = job.as_mut().poll(cx).is_ready();
        if done {
            self.job = None;
        }
        done
    }

    fn settle(&mut self, outcome: Answer) {
        let Some((delivery, call)) = self.sitting.take().and_then(|sitting| sitting.lent.back()) else {
            return;
        };
        self.call = Some(call);
        match outcome {
            Ok(None) => self.handled = self.desk.handled(delivery),
            Err(failure) => self.desk.fail(delivery, &failure),
            Ok(reply) => {
                let desk = Arc::clone(&self.desk);
                self.job = Some(Box::pin(async move { desk.finish(delivery, reply, None).await }));
            }
        }
    }

    /// What was handled and is to be acknowledged.
    pub(super) const fn handled(&mut self) -> Option<Delivery> {
        self.handled.take()
    }

    /// What is left to do, elsewhere.
    pub(super) fn leave(&mut self) -> BoxFuture<'static, ()> {
        match (self.job.take(), self.sitting.take()) {
            (Some(job), _) => job,
            (None, Some(sitting)) => {
                let work = replace(&mut self.work, nothing());
                Box::pin(go_on(Arc::clone(&self.desk), sitting, work, None))
            }
            (None, None) => Box::pin(std::future::ready(())),
        }
    }
}

impl<S> Sitting<S> {
    /// A panic is a failure.
    fn turn(&self, work: &mut Work, cx: &mut Context<'_>) -> Poll<Answer> {
        catch_unwind(AssertUnwindSafe(|| self.span.in_scope(|| work.poll(cx))))
            .unwrap_or_else(|panic| Poll::Ready(Err(Failure::panicked(&*panic))))
    }
}

/// Work without memory.
pub(super) fn nothing() -> Work {
    ReusableBoxFuture::new(pending())
}

fn sit<S: Send + Sync + 'static>(
    desk: &Arc<Desk<S>>,
    endpoint: &Endpoint<S>,
    delivery: Delivery,
    call: Option<Arc<Call<S>>>,
    work: &mut Work,
) -> Sitting<S> {
    let span = spans::process(&desk.name, desk.channel(), delivery.message(), delivery.attempt());
    let (lent, context) = Lent::new(desk, delivery, call);
    match desk.shared.layers.clone() {
        None => endpoint.begin(context, work),
        Some(layers) => work.set(async move { layers.run(context).await }),
    }
    Sitting { lent, span }
}

/// Has the delivery handled and settles it, unless it was handled before.
async fn once<S: Send + Sync + 'static>(desk: Arc<Desk<S>>, delivery: Delivery) {
    let handling = match desk.begin_once(&delivery).await {
        Begun::New(handling) => handling,
        Begun::Duplicate => return desk.repeated(delivery),
        // It comes again by itself.
        Begun::Lost => return,
    };
    let Some((delivery, endpoint)) = desk.admit(delivery) else { return };
    let mut work = nothing();
    let sitting = sit(&desk, endpoint, delivery, None, &mut work);
    go_on(Arc::clone(&desk), sitting, work, handling).await;
}

/// Waits until the message is handled, or has taken too long, and settles it.
async fn go_on<S: Send + Sync + 'static>(
    desk: Arc<Desk<S>>,
    sitting: Sitting<S>,
    mut work: Work,
    handling: Option<Box<dyn Handling>>,
) {
    let outcome = within(&desk, &sitting.lent, poll_fn(|cx| sitting.turn(&mut work, cx))).await;
    // What is ended early lets go of its context here.
    drop(work);
    let Some((delivery, _)) = sitting.lent.back() else { return };
    match outcome {
        Ok(reply) => desk.finish(delivery, reply, handling).await,
        Err(failure) => {
            // Given up before the message comes again.
            drop(handling);
            desk.fail(delivery, &failure);
        }
    }
}

/// What takes too long is a failure, unless its handler has asked for more time.
async fn within<S: Send + Sync>(
    desk: &Desk<S>,
    lent: &Lent<S>,
    handled: impl Future<Output = Answer> + Send,
) -> Answer {
    let Some(within) = desk.policy.timeout else { return handled.await };
    let clock = &desk.shared.clock;
    let mut until = later(clock.now(), within);
    let mut handled = pin!(handled);
    loop {
        tokio::select! {
            biased;
            outcome = &mut handled => return outcome,
            () = clock.sleep_until(until) => {}
        }
        match lent.until().filter(|more| *more > clock.now()) {
            Some(more) => until = more,
            None => return Err(Failure::retry(format!("the handler took longer than {within:?}"))),
        }
    }
}
