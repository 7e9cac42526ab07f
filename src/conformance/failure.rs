//! Connections that die, brokers that restart or say nothing, clients that are killed.

use super::check::{Check, Checked, check, ensure};
use super::lab::{Lab, messages, numbered};
use super::settlement::{id, lasting, lasting_with, left_is};
use super::{Faults, History, Hook};
use crate::ErrorKind;
use crate::adapter::{Capability, SendOutcome};
use crate::status::State;
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    check!("failure/cut-ends-every-handle", cut_ends_every_handle).hooks(&[Hook::Cut]),
    check!("failure/cut-answers-every-send", cut_answers_every_send).hooks(&[Hook::Cut]),
    check!("failure/cut-returns-the-unsettled", cut_returns_the_unsettled).hooks(&[Hook::Cut]),
    check!("failure/killed-client", killed_client).hooks(&[Hook::Kill]),
    check!("failure/traffic-through-a-cut", traffic_through_a_cut).hooks(&[Hook::Cut]),
    check!("failure/traffic-through-a-restart", traffic_through_a_restart)
        .hooks(&[Hook::Restart])
        .exercises(&[Capability::Durable]),
    check!("failure/stalled-sends-end", stalled_sends_end).hooks(&[Hook::Stall]),
    check!("failure/what-is-unknown-is-said", what_is_unknown_is_said),
    check!("failure/status-says-so", status_says_so),
];

async fn cut_ends_every_handle(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&numbered("p", &[], 0..1)).await?;
    let delivery = inlet.next().await?;
    lab.fixture().cut().await?;
    if lab.capabilities().reconnects {
        // They go on, and what is held stays held.
        outlet.send(&numbered("p", &[], 1..2)).await?;
        let next = inlet.next().await?;
        ensure!(id(&next) == "p-1", "what is held came again after a cut: {}", id(&next));
        inlet.ack(&delivery).await?;
        inlet.ack(&next).await?;
        inlet.close().await?;
        link.close().await?;
        return left_is(&lab, &route, &[]).await.map(drop);
    }
    match inlet.try_next().await? {
        Some(Err(error)) => ensure!(
            error.kind() == ErrorKind::Disconnected,
            "a receiver whose connection is cut says {error:?}"
        ),
        other => ensure!(false, "a receiver whose connection is cut gave {other:?}"),
    }
    let settled = inlet.try_settle(&delivery.token, crate::adapter::Outcome::Ack).await?;
    ensure!(settled.is_err(), "a delivery was settled on a dead receiver");
    match outlet.try_send(&numbered("p", &[], 1..2)).await?.remove(0) {
        Ok(_) => ensure!(false, "a sender accepted after its connection was cut"),
        Err(error) => ensure!(
            error.kind() == ErrorKind::Disconnected && error.outcome().is_some(),
            "a sender whose connection is cut says {error:?}"
        ),
    }
    // One attempt at a new connection is all it takes.
    let mut again = link.receiver(route.source()).await?;
    let delivery = again.next().await?;
    again.ack(&delivery).await?;
    link.close().await
}

async fn cut_answers_every_send(lab: Lab) -> Checked {
    const COUNT: usize = 200;
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    link.declare(&route.topology()).await?;
    let history = History::new();
    let mut outlet = link.sender(route.target()).await?;
    let sending = {
        let (lab, history) = (lab.clone(), history.clone());
        tokio::spawn(async move {
            for batch in messages("p", &[], COUNT).chunks(5) {
                outlet.try_send_noting(&history, "p", batch).await?;
                lab.pause(Duration::from_millis(1)).await;
            }
            Checked::Ok(())
        })
    };
    lab.until("some messages to be accepted", || history.accepted() >= 20).await?;
    lab.fixture().cut().await?;
    let sent = lab.within("sends whose connection is cut to end", sending).await?;
    sent??;
    let next = lab.connect().await?;
    let mut inlet = next.receiver(route.source()).await?;
    let done = || history.is_complete(&["the channel"]);
    inlet.drain(&history, "the channel", "c", done).await?;
    history.exact_copies(&["the channel"])?;
    next.close().await?;
    link.close().await
}

async fn cut_returns_the_unsettled(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&messages("p", &[], 8)).await?;
    let held = inlet.take(8).await?;
    for delivery in &held[..3] {
        inlet.ack(delivery).await?;
    }
    inlet.flush().await?;
    lab.fixture().cut().await?;
    // Where the client connects again by itself they are this receiver's still.
    if lab.capabilities().reconnects {
        inlet.crash().await?;
    }
    left_is(&lab, &route, &held[3..].iter().map(id).collect::<Vec<_>>()).await?;
    link.close().await
}

async fn killed_client(lab: Lab) -> Checked {
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    link.declare(&route.topology()).await?;
    let mut outlet = link.sender(route.target()).await?;
    outlet.send(&messages("p", &[], 8)).await?;
    let (adapter, kill) = lab.fixture().mortal().await?;
    let doomed = lab.link(adapter);
    let mut inlet = doomed.receiver(route.source()).await?;
    let held = inlet.take(8).await?;
    inlet.ack(&held[0]).await?;
    inlet.flush().await?;
    kill.await;
    left_is(&lab, &route, &held[1..].iter().map(id).collect::<Vec<_>>()).await?;
    link.close().await
}

async fn traffic_through_a_cut(lab: Lab) -> Checked {
    traffic(&lab, async |lab: &Lab| Ok(lab.fixture().cut().await?)).await
}

async fn traffic_through_a_restart(lab: Lab) -> Checked {
    traffic(&lab, async |lab: &Lab| Ok(lab.fixture().restart().await?)).await
}

/// Two producers and two consumers at work while all connections fail three times. Every accepted message arrives, under its id; a copy too many is
/// of a message that was unconfirmed or unsettled at a failure.
async fn traffic(lab: &Lab, fail: impl AsyncFn(&Lab) -> Checked) -> Checked {
    const EACH: usize = 200;
    const PREFETCH: usize = 16;
    const WINDOW: usize = 8;
    const FAILURES: usize = 3;
    let durable = lab.capabilities().has(Capability::Durable);
    let route = lasting_with(lab, |channel| if durable { channel.durable() } else { channel })?;
    let history = History::new();
    let sent = || history.accepted() + history.failed();
    let mut working = tokio::task::JoinSet::new();
    for n in 0..2 {
        let broker = lab.broker().await?;
        let mut consumer = lab.consumer_of(&broker, route.from(), PREFETCH).await?;
        let (lab, history) = (lab.clone(), history.clone());
        working.spawn(async move {
            let done =
                || history.accepted() + history.failed() == 2 * EACH && history.is_complete(&["the channel"]);
            // Slower than the producers, so that there are unsettled ones at every failure.
            let work = Duration::from_millis(1);
            lab.drain_slowly(&mut consumer, &history, "the channel", &format!("c{n}"), work, done).await?;
            lab.close(&broker).await
        });
    }
    for n in 0..2 {
        let broker = lab.broker().await?;
        let producer = lab.producer(&broker, &route).await?;
        let (lab, history) = (lab.clone(), history.clone());
        working.spawn(async move {
            let name = format!("p{n}");
            for some in messages(&name, &[], EACH).chunks(WINDOW) {
                lab.send_all(&producer, &history, &name, some).await?;
                lab.pause(Duration::from_millis(1)).await;
            }
            lab.close(&broker).await
        });
    }
    for part in 1..=FAILURES {
        lab.until("traffic", || sent() >= part * EACH / 2).await?;
        fail(lab).await?;
    }
    let ended = lab.within_time(lab.timing().patience * 3, "the traffic to end", working.join_all()).await;
    history.nothing_lost(&["the channel"])?;
    history.nothing_made_up()?;
    ended?.into_iter().collect::<Checked>()?;
    ensure!(history.failed() == 0, "{} of {} sends failed for good", history.failed(), 2 * EACH);
    let (again, most) = (history.duplicates().len(), FAILURES * 2 * (PREFETCH + WINDOW));
    // What was settled and not committed yet comes again, too, and nobody knows how much that was.
    ensure!(
        again <= most || lab.capabilities().commits_later,
        "{again} messages came more than once, at most {most} were on their way at a failure"
    );
    Ok(())
}

async fn stalled_sends_end(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let history = History::new();
    let opening = broker.producer(route.named()).deadline(lab.timing().quiet * 3);
    let producer = lab.within("the producer to open", opening).await??;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    lab.send_all(&producer, &history, "p", &numbered("p", &[], 0..3)).await?;
    lab.fixture().stall().await?;
    let clock = lab.clock();
    let begun = clock.now();
    let stalled = lab.send_all(&producer, &history, "p", &numbered("p", &[], 3..9)).await;
    let took = clock.now() - begun;
    lab.fixture().resume().await?;
    stalled?;
    ensure!(history.accepted() == 3, "a broker that answers nothing accepted {}", history.accepted() - 3);
    ensure!(took < lab.timing().quiet * 6, "the sends ended after {took:?}, not at their deadline");
    lab.send(&producer, &messages("afterwards", &[], 1)).await?;
    history.sent("p", &messages("afterwards", &[], 1)[0], None);
    lab.drain(&mut consumer, &history, "the channel", "c", || history.is_complete(&["the channel"])).await?;
    history.exact_copies(&["the channel"])?;
    lab.close(&broker).await
}

async fn what_is_unknown_is_said(lab: Lab) -> Checked {
    let faults = Faults::new();
    let route = lasting(&lab)?;
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let opening = broker.producer(route.named()).deadline(lab.timing().quiet * 3);
    let producer = lab.within("the producer to open", opening).await??;
    // The broker has the first three of six and answers none; then nothing can be reached until the deadline has passed.
    faults.swallow_after(3);
    let history = History::new();
    let all = messages("p", &[], 6);
    let sending = producer.send_all(all.iter().cloned());
    let (results, ()) = tokio::join!(lab.within("sends without an answer to end", sending), async {
        lab.quiet().await;
        faults.down();
    });
    faults.up();
    for (result, message) in results?.into_iter().zip(&all) {
        let Err(error) = result else {
            return Err(format!("{:?} was accepted, and nobody answered", message.id()).into());
        };
        let outcome = error.outcome();
        ensure!(
            outcome == Some(SendOutcome::Unknown),
            "{:?} was handed over and never answered, and the outcome is {outcome:?}",
            message.id()
        );
        ensure!(error.message().is_some(), "{:?} is not given back", message.id());
        history.sent("p", message, outcome);
    }
    // Those that the broker has do arrive.
    lab.drain(&mut consumer, &history, "the channel", "c", || history.distinct("the channel") >= 3).await?;
    history.nothing_made_up()?;
    let arrived = history.distinct("the channel");
    ensure!(arrived == 3, "the broker had 3 of them, {arrived} arrived");
    lab.close(&broker).await
}

async fn status_says_so(lab: Lab) -> Checked {
    let faults = Faults::new();
    let route = lasting(&lab)?;
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    let status = broker.status();
    let is = |state: State| status.borrow().brokers.values().all(|broker| broker.state == state);
    lab.until("the status to be connected", || is(State::Connected)).await?;
    faults.down();
    lab.until("the status to be reconnecting", || is(State::Reconnecting)).await?;
    let reason = status.borrow().brokers.values().find_map(|broker| broker.reason.clone());
    ensure!(reason.is_some(), "reconnecting, and no reason is given");
    lab.silent(&mut consumer, "there is no connection").await?;
    faults.up();
    lab.until("the status to be connected again", || is(State::Connected)).await?;
    lab.send(&producer, &messages("p", &[], 3)).await?;
    for _ in 0..3 {
        lab.next(&mut consumer).await?.ack();
    }
    lab.close(&broker).await?;
    lab.until("the status to be closed", || is(State::Closed)).await
}
