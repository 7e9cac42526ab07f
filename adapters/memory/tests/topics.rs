//! Publish-subscribe: fan-out, subscriptions, and where they start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use anybroker_contract::{
    Binding, Channel, Clock, Declare, ErrorKind, Settings, Source, Start, Target, Topology, Value,
};
use common::{Lab, ack, kind, messages, now, seen, send, silent, take, wait};
use std::sync::Arc;
use std::time::Duration;

const T: Channel = Channel::publish_subscribe("t");

#[test]
fn every_subscription_gets_every_message_and_its_consumers_share_them() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    send(&mut sender, &messages(&["nobody"]));
    let (one, two) = (lab.subscriber(&T.subscription("a")), lab.subscriber(&T.subscription("a")));
    let other = lab.subscriber(&T.subscription("b"));
    send(&mut sender, &messages(&["x", "y"]));
    assert_eq!(seen(&take(&one)), "x:1 y:1");
    silent(&two);
    let deliveries = take(&other);
    assert_eq!(seen(&deliveries), "x:1 y:1");
    ack(&other, &deliveries[0]);
    now(one.close()).unwrap();
    assert_eq!(seen(&take(&two)), "x:2 y:2", "of no concern to the other subscription");
}

#[test]
fn a_named_subscription_collects_while_nobody_reads_it() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    now(lab.subscriber(&T.subscription("a")).close()).unwrap();
    send(&mut sender, &messages(&["x"]));
    lab.broker.disconnect();
    assert_eq!(seen(&take(&lab.subscriber(&T.subscription("a")))), "x:1");
}

#[test]
fn an_ephemeral_subscription_ends_with_its_consumer() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    let (closed, dropped) = (lab.subscriber(&T.ephemeral()), lab.subscriber(&T.ephemeral()));
    send(&mut sender, &messages(&["x"]));
    assert_eq!(seen(&take(&closed)), "x:1");
    assert_eq!(seen(&take(&dropped)), "x:1");
    now(closed.close()).unwrap();
    drop(dropped);
    send(&mut sender, &messages(&["y"]));
    let cut = lab.subscriber(&T.ephemeral());
    lab.broker.disconnect();
    let error = now(cut.receive_batch(common::ROOM, &mut Vec::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    silent(&lab.subscriber(&T.ephemeral()));
}

#[test]
fn a_new_subscription_starts_where_it_says() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    send(&mut sender, &messages(&["a", "b"]));
    lab.clock.advance(Duration::from_millis(1));
    let then = lab.clock.wall();
    send(&mut sender, &messages(&["c"]));
    lab.clock.advance(Duration::from_secs(9));
    let starts = [
        (Start::Earliest, "a:1 b:1 c:1 d:1"),
        (Start::At(then), "c:1 d:1"),
        (Start::At(lab.clock.wall()), "d:1"),
        (Start::Latest, "d:1"),
    ];
    let named = starts.map(|(start, _)| T.subscription(format!("{start:?}")).from(start));
    let ephemeral = starts.map(|(start, _)| T.ephemeral().from(start));
    let receivers: Vec<_> = named.iter().chain(&ephemeral).map(|s| lab.subscriber(s)).collect();
    send(&mut sender, &messages(&["d"]));
    for (receiver, (start, expected)) in receivers.iter().zip(starts.iter().cycle()) {
        assert_eq!(seen(&take(receiver)), *expected, "{start:?}");
    }
}

#[test]
fn the_start_of_a_subscription_that_exists_is_where_it_was() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    send(&mut sender, &messages(&["a"]));
    now(lab.subscriber(&T.subscription("s")).close()).unwrap();
    send(&mut sender, &messages(&["b"]));
    assert_eq!(seen(&take(&lab.subscriber(&T.subscription("s").from(Start::Earliest)))), "b:1");
}

#[test]
fn a_subscription_starts_when_it_is_declared() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    let binding = Arc::new(Binding::new(T));
    let subscription = T.subscription("s");
    let topology = Topology::Subscription(Arc::clone(&binding), subscription.clone());
    now(lab.adapter.declare(&topology, Declare::IfMissing)).unwrap();
    send(&mut sender, &messages(&["a"]));
    now(lab.adapter.declare(&topology, Declare::Verify)).unwrap();
    let receiver = lab.receiver_from(&Source::Subscription(binding, subscription)).unwrap().handle;
    assert_eq!(seen(&take(&receiver)), "a:1");
}

#[test]
fn so_many_messages_are_retained_as_configured() {
    let lab = Lab::with(|config| config.retain = 2);
    let mut sender = lab.sender(&T);
    send(&mut sender, &messages(&["a", "b", "c"]));
    assert_eq!(seen(&take(&lab.subscriber(&T.ephemeral().from(Start::Earliest)))), "b:1 c:1");

    let mut settings = Settings::default();
    settings.insert("retain", Value::Integer(0));
    let none = Channel::publish_subscribe("none");
    let binding = Arc::new(Binding::new(none.clone()).with_settings(settings));
    now(lab.adapter.declare(&Topology::Channel(Arc::clone(&binding)), Declare::IfMissing)).unwrap();
    let mut sender = lab.sender_to(&Target::Channel(binding)).unwrap();
    send(&mut sender, &messages(&["a"]));
    silent(&lab.subscriber(&none.ephemeral().from(Start::Earliest)));
}

#[test]
fn a_deleted_subscription_gets_nothing_and_ends_its_consumers() {
    let lab = Lab::new();
    let mut sender = lab.sender(&T);
    let (gone, stays) = (lab.subscriber(&T.subscription("gone")), lab.subscriber(&T.subscription("stays")));
    let waiting = wait(&gone);
    let binding = Arc::new(Binding::new(T));
    let topology = Topology::Subscription(binding, T.subscription("gone"));
    now(lab.adapter.delete(&topology)).unwrap();
    assert_eq!(kind(waiting.finish()), Some(ErrorKind::NotFound));
    send(&mut sender, &messages(&["a"]));
    assert_eq!(seen(&take(&stays)), "a:1");
    now(lab.adapter.delete(&topology)).unwrap();
    silent(&lab.subscriber(&T.subscription("gone")));
}
