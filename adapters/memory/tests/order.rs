//! Order per key: shards, who owns them, and how they move.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use anybroker_contract::{Capability, Channel, ErrorKind, Outcome, Received, Receiver, Scope, Source};
use common::{Lab, Log, ROOM, ack, keyed, kind, messages, now, seen, send, settle, silent, take, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const Q: Channel = Channel::point_to_point("q").order_per_key();
const SECOND: Duration = Duration::from_secs(1);
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";

/// One message for each letter, with that number behind it.
fn round(number: usize) -> Vec<anybroker_contract::Message> {
    let texts: Vec<_> = LETTERS.chars().map(|letter| format!("{letter}{number}")).collect();
    keyed(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn key(delivery: &Received) -> char {
    let message = delivery.content.as_ref().unwrap();
    char::from(message.body()[0])
}

fn keys(deliveries: &[Received]) -> BTreeSet<char> {
    deliveries.iter().map(key).collect()
}

fn scopes(deliveries: &[Received]) -> BTreeSet<Scope> {
    deliveries.iter().map(|delivery| delivery.scope).collect()
}

fn of(deliveries: &[Received], scope: Scope) -> impl Iterator<Item = &Received> {
    deliveries.iter().filter(move |delivery| delivery.scope == scope)
}

#[test]
fn a_key_has_one_consumer_and_its_order() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let (one, two) = (lab.receiver(&Q), lab.receiver(&Q));
    for number in 0..5 {
        send(&mut sender, &round(number));
    }
    let (a, b) = (take(&one), take(&two));
    assert_eq!(a.len() + b.len(), 5 * LETTERS.len());
    assert!(keys(&a).is_disjoint(&keys(&b)));
    assert!(!a.is_empty() && !b.is_empty());
    for deliveries in [&a, &b] {
        let mut last = BTreeMap::new();
        for delivery in deliveries {
            let number = delivery.content.as_ref().unwrap().body()[1];
            let before = last.insert(key(delivery), number);
            assert!(before.is_none_or(|before| before < number), "{} overtook", key(delivery));
        }
    }
    silent(&one);
    silent(&two);
}

#[test]
fn messages_without_key_are_spread() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let (one, two) = (lab.receiver(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["x"; 32]));
    assert_eq!((take(&one).len(), take(&two).len()), (16, 16));
}

#[test]
fn shards_on_which_nobody_works_move_at_once() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let log = Log::default();
    let one = lab.receiver_with(&Q, ROOM, &log);
    send(&mut sender, &messages(&["x"; 32]));
    for delivery in take(&one) {
        ack(&one, &delivery);
    }
    let two = lab.receiver(&Q);
    assert!(log.take().is_empty());
    send(&mut sender, &messages(&["x"; 32]));
    assert_eq!((take(&one).len(), take(&two).len()), (16, 16));
}

#[test]
fn a_joining_consumer_gets_its_share_once_it_is_released_and_no_more_moves() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let log = Log::default();
    let one = lab.receiver_with(&Q, ROOM, &log);
    send(&mut sender, &messages(&["x"; 16]));
    let held = take(&one);
    assert_eq!(scopes(&held).len(), 16);

    let two = lab.receiver(&Q);
    let deadline = anybroker_contract::Clock::now(&lab.clock) + 10 * SECOND;
    let revoked = log.revoked();
    assert_eq!(revoked.len(), 8, "half of them, not more");
    assert!(revoked.iter().all(|(_, until)| *until == deadline));

    // Nothing of a revoked scope is handed out, to neither.
    send(&mut sender, &messages(&["y"; 16]));
    let more = take(&one);
    assert_eq!(more.len(), 8);
    assert!(revoked.iter().all(|(scope, _)| !scopes(&more).contains(scope)));
    let waiting = wait(&two);

    // Settling goes on until the release.
    let (scope, _) = revoked[0];
    of(&held, scope).for_each(|delivery| ack(&one, delivery));
    now(one.release(scope)).unwrap();
    let moved = waiting.finish().unwrap();
    assert_eq!(seen(&moved), "y:1");
    assert_ne!(moved[0].scope, scope, "a new scope for a new owner");
    assert_eq!(kind(now(one.release(scope))), Some(ErrorKind::LeaseLost));

    // What is given away unsettled is back in its place, uncounted.
    let (scope, _) = revoked[1];
    let unsettled = of(&held, scope).next().unwrap();
    settle(&one, &unsettled.token, Outcome::Release).unwrap();
    now(one.release(scope)).unwrap();
    assert_eq!(seen(&take(&two)), "x:1 y:1");
    assert!(log.take().is_empty());
}

#[test]
fn a_shard_that_is_not_released_moves_at_the_deadline() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let log = Log::default();
    let one = lab.receiver_with(&Q, ROOM, &log);
    send(&mut sender, &messages(&["x"; 16]));
    let held = take(&one);
    let two = lab.receiver(&Q);
    let revoked: BTreeSet<_> = log.revoked().into_iter().map(|(scope, _)| scope).collect();
    let mut waiting = wait(&two);
    lab.clock.advance(10 * SECOND - Duration::from_nanos(1));
    assert!(waiting.poll().is_none());
    lab.clock.advance(Duration::from_nanos(1));
    let moved = waiting.finish().unwrap();
    assert_eq!(seen(&moved), ["x:2"; 8].join(" "), "lost attempts count");
    assert_eq!(log.lost().into_iter().collect::<BTreeSet<_>>(), revoked);
    for delivery in &held {
        let settled = settle(&one, &delivery.token, Outcome::Ack);
        let expected = revoked.contains(&delivery.scope).then_some(ErrorKind::LeaseLost);
        assert_eq!(kind(settled), expected);
    }
}

#[test]
fn shards_of_one_that_leaves_go_to_those_who_stay_and_nothing_else_moves() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let logs = [Log::default(), Log::default(), Log::default()];
    let mut receivers: Vec<_> = logs.iter().map(|log| lab.receiver_with(&Q, ROOM, log)).collect();
    send(&mut sender, &messages(&["x"; 16]));
    let held: Vec<_> = receivers.iter().map(take).collect();
    let mut counts: Vec<_> = held.iter().map(Vec::len).collect();
    counts.sort_unstable();
    assert_eq!(counts, [5, 5, 6]);
    drop(receivers.remove(0));
    assert!(logs.iter().all(|log| log.take().is_empty()));
    let inherited: Vec<_> = receivers.iter().map(take).collect();
    assert_eq!(inherited.iter().map(Vec::len).sum::<usize>(), held[0].len());
    for (kept, inherited) in held[1..].iter().zip(&inherited) {
        assert_eq!(kept.len() + inherited.len(), 8);
    }
}

#[test]
fn a_stopped_consumer_keeps_its_shards_until_it_closes() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let (one, two) = (lab.receiver(&Q), lab.receiver(&Q));
    send(&mut sender, &round(0));
    let (leaving, staying) = (take(&one), take(&two));
    now(one.stop()).unwrap();
    send(&mut sender, &round(1));
    assert_eq!(keys(&take(&two)), keys(&staying), "nobody overtakes what the stopped one holds");
    silent(&two);
    let (settled, kept) = leaving.split_at(leaving.len() / 2);
    settled.iter().for_each(|delivery| ack(&one, delivery));
    let waiting = wait(&two);
    now(one.close()).unwrap();
    let inherited = waiting.finish().unwrap();
    assert_eq!(keys(&inherited), keys(&leaving));
    for delivery in kept {
        let of_key: Vec<_> = inherited.iter().filter(|other| key(other) == key(delivery)).collect();
        let attempts: Vec<_> = of_key.iter().map(|other| other.attempt.unwrap()).collect();
        assert_eq!(attempts, [2, 1], "the kept one first, in its old place");
    }
}

#[test]
fn consumers_beyond_the_shards_wait_for_their_turn() {
    let lab = Lab::with(|config| config.shards = 2);
    let mut sender = lab.sender(&Q);
    let receivers = [(); 3].map(|()| lab.receiver(&Q));
    send(&mut sender, &messages(&["x"; 4]));
    assert_eq!((take(&receivers[0]).len(), take(&receivers[1]).len()), (2, 2));
    let waiting = wait(&receivers[2]);
    now(receivers[0].close()).unwrap();
    assert_eq!(seen(&waiting.finish().unwrap()), "x:2 x:2");
}

#[test]
fn a_delayed_retry_is_refused_in_order() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let receiver = lab.receiver(&Q);
    send(&mut sender, &keyed(&["a1"]));
    let delivery = take(&receiver).remove(0);
    let retried = settle(&receiver, &delivery.token, Outcome::Retry { after: SECOND });
    assert_eq!(kind(retried), Some(ErrorKind::Unsupported));
    ack(&receiver, &delivery);
}

#[test]
fn the_channel_says_whether_it_keeps_order() {
    let lab = Lab::new();
    let plain = Channel::point_to_point("plain");
    for (channel, order, delay) in [(Q, true, false), (plain, false, true)] {
        let binding = lab.declare(&channel);
        let opened = lab.receiver_from(&Source::Channel(binding)).unwrap();
        assert_eq!(opened.capabilities.has(Capability::OrderPerKey), order);
        assert_eq!(opened.capabilities.has(Capability::DelayedRetry), delay);
        assert!(!opened.capabilities.has(Capability::Bounded));
    }
    assert!(lab.adapter.capabilities().has(Capability::OrderPerKey));
}

#[test]
fn the_order_of_subscriptions_is_kept_too() {
    let lab = Lab::new();
    let topic = Channel::publish_subscribe("t").order_per_key();
    let mut sender = lab.sender(&topic);
    let both: [Arc<dyn Receiver>; 2] = [(); 2].map(|()| lab.subscriber(&topic.subscription("s")));
    send(&mut sender, &round(0));
    send(&mut sender, &round(1));
    let [a, b] = both.each_ref().map(take);
    assert!(keys(&a).is_disjoint(&keys(&b)));
    assert_eq!(a.len() + b.len(), 2 * LETTERS.len());
}
