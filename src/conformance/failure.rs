//! Connections that die, brokers that restart or say nothing, clients that are killed.

use super::check::{Check, Checked, check, ensure};
use super::lab::{Lab, messages, numbered};
use super::settlement::{id, lasting, left_is};
use super::{History, Hook};
use crate::adapter::ErrorKind;

pub(super) const CHECKS: &[Check] = &[
    check!("failure/cut-ends-every-handle", cut_ends_every_handle).hooks(&[Hook::Cut]),
    check!("failure/cut-answers-every-send", cut_answers_every_send).hooks(&[Hook::Cut]),
    check!("failure/cut-returns-the-unsettled", cut_returns_the_unsettled).hooks(&[Hook::Cut]),
    check!("failure/killed-client", killed_client).hooks(&[Hook::Kill]),
];

async fn cut_ends_every_handle(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&numbered("p", &[], 0..1)).await?;
    let delivery = inlet.next().await?;
    lab.fixture().cut().await?;
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
        let history = history.clone();
        tokio::spawn(async move {
            for batch in messages("p", &[], COUNT).chunks(5) {
                outlet.try_send_noting(&history, "p", batch).await?;
                tokio::task::yield_now().await;
            }
            Checked::Ok(())
        })
    };
    lab.until("some messages to be accepted", || history.accepted() >= 20).await?;
    lab.fixture().cut().await?;
    let sent = lab.within("sends whose connection is cut to end", sending).await?;
    sent.map_err(|e| format!("the sending task broke: {e}"))??;
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
    lab.fixture().cut().await?;
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
    kill.await;
    left_is(&lab, &route, &held[1..].iter().map(id).collect::<Vec<_>>()).await?;
    link.close().await
}
