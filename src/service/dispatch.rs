use super::desk::Desk;
use super::seat::Seat;
use crate::{Consumer, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Gives what comes to the handlers, until the consumer leaves; then waits for those that run. Dropped, it ends them.
pub(super) async fn dispatch<S: Send + Sync + 'static>(
    desk: Arc<Desk<S>>,
    mut consumer: Consumer,
) -> Result<()> {
    let mut running = JoinSet::new();
    let mut pace = Pace::default();
    let mut seat = Seat::new(Arc::clone(&desk));
    loop {
        while !running.is_empty() && running.try_join_next().is_some() {}
        if running.len() >= desk.policy.concurrency {
            running.join_next().await;
            continue;
        }
        let Some(delivery) = consumer.receive_after(seat.handled()).await else { break };
        if !seat.take(delivery) {
            continue;
        }
        if pace.is_alone() {
            running.spawn(seat.leave());
            continue;
        }
        // Most handlers that wait for nothing are done at their first turn: a task of their own would cost more than they do.
        let began = pace.is_measured().then(|| desk.shared.clock.now());
        let done = seat.first_turn().await;
        if let Some(began) = began {
            pace.measured(desk.shared.clock.now().saturating_duration_since(began));
        }
        if !done {
            running.spawn(seat.leave());
        }
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

/// Whether first turns are short enough to be taken one after another on one task.
#[derive(Debug, Default)]
struct Pace {
    turn: u8,
    long: bool,
}

/// One turn of so many is measured.
const EVERY: u8 = 16;

/// Longer turns are taken on tasks of their own, on as many threads as there are.
const LONG: Duration = Duration::from_micros(50);

impl Pace {
    fn is_alone(&mut self) -> bool {
        self.turn = (self.turn + 1) % EVERY;
        self.long && !self.is_measured()
    }

    const fn is_measured(&self) -> bool {
        self.turn == 0
    }

    fn measured(&mut self, took: Duration) {
        self.long = took > LONG;
    }
}
