//! Opening, closing, declaring and deleting.

mod broker;

use super::bare::BareLink;
use super::check::{Check, Checked, Stop, check, ensure};
use super::fixture::differing_in_bound;
use super::lab::{Lab, Route, messages, numbered};
use super::publish_subscribe::arrives;
use super::settlement::{lasting, lasting_with, left_is};
use crate::adapter::{Capability, Declare, ErrorKind, Message, Result, SendOutcome, Topology};
use std::sync::Arc;
use tokio::task::JoinSet;

pub(super) const CHECKS: &[Check] = &[
    check!("lifecycle/health", health),
    check!("lifecycle/close-is-idempotent", close_is_idempotent),
    check!("lifecycle/use-after-close", use_after_close),
    check!("lifecycle/handles-end-with-their-connection", handles_end_with_their_connection),
    check!("lifecycle/stop-ends-receiving", stop_ends_receiving),
    check!("lifecycle/sender-close-flushes", sender_close_flushes),
    check!("lifecycle/missing-is-not-found", missing_is_not_found),
    check!("lifecycle/declare-twice", declare_twice),
    check!("lifecycle/declared-by-many-at-once", declared_by_many_at_once),
    check!("lifecycle/declare-differently", declare_differently),
    check!("lifecycle/verify-makes-nothing", verify_makes_nothing),
    check!("lifecycle/delete", delete),
    check!("lifecycle/a-thousand-opens", a_thousand_opens),
    check!("lifecycle/receive-is-cancel-safe", broker::receive_is_cancel_safe),
    check!("lifecycle/close-flushes", broker::close_flushes),
    check!("lifecycle/use-after-broker-close", broker::use_after_broker_close),
    check!("lifecycle/never-declared-is-not-found", broker::never_declared_is_not_found),
];

async fn health(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    lab.within("health", link.adapter.health()).await??;
    link.close().await?;
    let after = lab.within("health after close", link.adapter.health()).await?;
    closed("health", after)
}

async fn close_is_idempotent(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (mut outlet, _inlet) = link.open(&lab.route(|channel| channel)).await?;
    outlet.send(&messages("p", &[], 1)).await?;
    for _ in 0..3 {
        link.close().await?;
    }
    let never_connected = lab.connect().await?;
    never_connected.close().await?;
    never_connected.close().await
}

async fn use_after_close(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lab.route(|channel| channel);
    link.declare(&route.topology()).await?;
    link.close().await?;
    closed("declare", link.try_declare(&route.topology(), Declare::IfMissing).await?)?;
    closed("open_sender", link.try_sender(route.target()).await?)?;
    closed("open_receiver", link.try_receiver(route.source(), 10).await?)?;
    let deleted = lab.within("delete", link.adapter.delete(&route.topology())).await?;
    closed("delete", deleted)
}

async fn handles_end_with_their_connection(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&lab.route(|channel| channel)).await?;
    outlet.send(&messages("p", &[], 1)).await?;
    let delivery = inlet.next().await?;
    inlet.ack(&delivery).await?;
    link.close().await?;
    let sent = outlet.try_send(&numbered("p", &[], 1..2)).await?.remove(0);
    let Err(error) = sent else {
        return Err(Stop::Failed(String::from("a sender accepted after its connection was closed")));
    };
    let dead = matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Closed);
    ensure!(dead, "a sender whose connection is closed says {error:?}");
    let outcome = error.outcome();
    ensure!(
        matches!(outcome, Some(SendOutcome::NotSent | SendOutcome::Unknown)),
        "…and {outcome:?} of the message"
    );
    match inlet.try_next().await? {
        Some(Err(error)) => {
            let dead = matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Closed);
            ensure!(dead, "a receiver whose connection is closed says {error:?}");
        }
        other => ensure!(false, "a receiver whose connection is closed gave {other:?}"),
    }
    Ok(())
}

async fn stop_ends_receiving(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&numbered("p", &[], 0..3)).await?;
    let held = inlet.take(3).await?;
    inlet.stop().await?;
    outlet.send(&numbered("p", &[], 3..6)).await?;
    inlet.silent("it was stopped").await?;
    for delivery in &held {
        inlet.ack(delivery).await?;
    }
    inlet.close().await?;
    let rest: Vec<String> = (3..6).map(|n| format!("p-{n}")).collect();
    left_is(&lab, &route, &rest).await?;
    link.close().await
}

async fn sender_close_flushes(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (mut outlet, mut inlet) = link.open(&lab.route(|channel| channel)).await?;
    let all = messages("p", &[], 30);
    let mut confirms = Vec::new();
    for batch in all.chunks(outlet.capabilities.max_batch_messages.unwrap_or(10).clamp(1, 10)) {
        let confirm = lab.within("send_batch", outlet.sender.send_batch(batch)).await??;
        confirms.push((batch.len(), confirm));
    }
    outlet.close().await?;
    for (count, confirm) in confirms {
        let results = lab.within("a confirm after close", confirm).await?.into_results(count);
        ensure!(results.iter().all(Result::is_ok), "close left sends behind: {results:?}");
    }
    arrives(&mut inlet, &all).await?;
    link.close().await
}

async fn missing_is_not_found(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lab.route(|channel| channel);
    not_found("open_sender", link.try_sender(route.target()).await?)?;
    not_found("open_receiver", link.try_receiver(route.source(), 10).await?)?;
    // Asking must not have made it.
    let verified = link.try_declare(&route.topology(), Declare::Verify).await?;
    not_found("declare to verify", verified)?;
    if lab.capabilities().has(Capability::NamedSubscription) {
        let channel = lab.publish_subscribe();
        let there = Route::subscription(channel.subscription("there"));
        link.declare(&there.topology()).await?;
        let missing = Route::subscription(channel.subscription("missing"));
        let opened = link.try_receiver(missing.source(), 10).await?;
        not_found("open_receiver of a missing subscription", opened)?;
    }
    link.close().await
}

async fn declare_twice(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, inlet) = link.open(&route).await?;
    inlet.close().await?;
    outlet.send(&messages("p", &[], 5)).await?;
    let other = lab.connect().await?;
    link.declare(&route.topology()).await?;
    other.declare(&route.topology()).await?;
    other.try_declare(&route.topology(), Declare::Verify).await??;
    other.close().await?;
    // What was there is still there.
    let all: Vec<String> = (0..5).map(|n| format!("p-{n}")).collect();
    left_is(&lab, &route, &all).await?;
    link.close().await
}

/// As the instances of a service do that all start for the first time.
async fn declared_by_many_at_once(lab: Lab) -> Checked {
    const INSTANCES: usize = 8;
    const TIMES: usize = 5;
    let ordered = lab.capabilities().has(Capability::OrderPerKey);
    let mut links = Vec::new();
    for _ in 0..INSTANCES {
        links.push(Arc::new(lab.connect().await?));
    }
    for _ in 0..TIMES {
        let route = lasting_with(&lab, |channel| if ordered { channel.order_per_key() } else { channel })?;
        let mut opening = JoinSet::new();
        for link in &links {
            let (link, route) = (Arc::clone(link), route.clone());
            opening.spawn(async move {
                link.declare(&route.topology()).await?;
                link.sender(route.target()).await
            });
        }
        let all = messages("p", &["a", "b", "c", "d"], INSTANCES);
        for message in &all {
            let Some(opened) = opening.join_next().await else { break };
            opened??.send(std::slice::from_ref(message)).await?;
        }
        let all: Vec<String> = all.iter().filter_map(Message::id).map(ToString::to_string).collect();
        left_is(&lab, &route, &all).await?;
    }
    for link in &links {
        link.close().await?;
    }
    Ok(())
}

async fn declare_differently(lab: Lab) -> Checked {
    let name = lab.name();
    let two = match lab.fixture().conflicting(&name) {
        None if lab.capabilities().has(Capability::Bounded) => Some(differing_in_bound(&name)),
        two => two,
    };
    let Some([one, other]) = two.map(|two| two.map(|binding| Topology::Channel(Arc::new(binding)))) else {
        return Err(Stop::Skipped(String::from("the fixture names no two declarations that differ")));
    };
    let link = lab.connect().await?;
    link.declare(&one).await?;
    for mode in [Declare::IfMissing, Declare::Verify] {
        match link.try_declare(&other, mode).await? {
            Ok(()) => ensure!(false, "a different declaration was accepted ({mode:?})"),
            Err(error) => ensure!(
                error.kind() == ErrorKind::Conflict,
                "a different declaration ({mode:?}) gives {error:?}"
            ),
        }
    }
    link.declare(&one).await?;
    link.close().await
}

async fn verify_makes_nothing(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    for _ in 0..2 {
        let verified = link.try_declare(&route.topology(), Declare::Verify).await?;
        not_found("declare to verify", verified)?;
    }
    link.declare(&route.topology()).await?;
    link.try_declare(&route.topology(), Declare::Verify).await??;
    link.close().await
}

async fn delete(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lasting(&lab)?;
    let (mut outlet, inlet) = link.open(&route).await?;
    inlet.close().await?;
    outlet.send(&messages("p", &[], 5)).await?;
    outlet.close().await?;
    for _ in 0..2 {
        let deleted = lab.within("delete", link.adapter.delete(&route.topology())).await?;
        deleted.map_err(|e| format!("delete, also of what is not there, succeeds: {e:?}"))?;
    }
    not_found("open_receiver after delete", link.try_receiver(route.source(), 10).await?)?;
    link.declare(&route.topology()).await?;
    left_is(&lab, &route, &[]).await?;
    link.close().await
}

async fn a_thousand_opens(lab: Lab) -> Checked {
    const TIMES: usize = 1000;
    const ROUND: usize = 100;
    let route = lasting(&lab)?;
    let link = lab.connect().await?;
    link.declare(&route.topology()).await?;
    // What the first rounds make once and keep is not a leak.
    open_and_close(&link, &route, 20).await?;
    let before = alive();
    // Where each takes the better part of a second, as joining a group does, a hundred tell as much.
    let enough = lab.clock().now() + lab.timing().patience;
    let mut times = 0;
    while times < TIMES && (times == 0 || lab.clock().now() < enough) {
        let opening = open_and_close(&link, &route, ROUND);
        lab.within_time(lab.timing().patience * 6, "a hundred opens and closes", opening).await??;
        times += ROUND;
    }
    lab.until("the tasks of closed handles to end", || alive() <= before + 20).await.map_err(|_| {
        Stop::Failed(format!("{} tasks before {times} opens and closes, {} after", before, alive()))
    })?;
    // No handle that was closed still takes a share.
    let (mut outlet, mut inlet) = link.open(&route).await?;
    let all = messages("p", &["a", "b", "c"], 60);
    outlet.send(&all).await?;
    arrives(&mut inlet, &all).await?;
    link.close().await
}

async fn open_and_close(link: &BareLink, route: &Route, times: usize) -> Checked {
    for _ in 0..times {
        let (mut outlet, inlet) = link.open(route).await?;
        outlet.close().await?;
        inlet.close().await?;
    }
    Ok(())
}

fn alive() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn closed<T>(operation: &str, result: Result<T>) -> Checked {
    refused(operation, result, ErrorKind::Closed)
}

fn not_found<T>(operation: &str, result: Result<T>) -> Checked {
    refused(operation, result, ErrorKind::NotFound)
}

fn refused<T>(operation: &str, result: Result<T>, kind: ErrorKind) -> Checked {
    match result {
        Ok(_) => Err(Stop::Failed(format!("{operation} succeeds in place of {kind:?}"))),
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(Stop::Failed(format!("{operation} gives, in place of {kind:?}: {error:?}"))),
    }
}
