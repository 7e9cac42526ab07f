//! What fails: connections, brokers, clients, full queues, odd messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use anybroker_contract::{
    Bytes, Capability, Channel, Confirmed, ErrorKind, Event, Events, Message, Outcome, Result, SendOutcome,
    Sender, Source, Target, Topology,
};
use common::{
    Lab, Log, ROOM, Task, ack, all_accepted, kind, messages, now, seen, send, settle, silent, take, wait,
};
use std::sync::Arc;

const Q: Channel = Channel::point_to_point("q");
const T: Channel = Channel::publish_subscribe("t");

fn waiting<'a>(sender: &'a mut Box<dyn Sender>, batch: &'a [Message]) -> Task<'a, Result<Confirmed>> {
    assert!(sender.try_send(batch).is_none());
    Task::waiting(async move { Ok(sender.send_batch(batch).await?.await) })
}

#[test]
fn a_disconnect_ends_every_handle_and_the_next_open_connects_anew() {
    let lab = Lab::new();
    let log = Log::default();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver_with(&Q, ROOM, &log));
    send(&mut sender, &messages(&["a"]));
    let delivery = take(&receiver).remove(0);
    let pending = wait(&receiver);
    lab.broker.disconnect();
    assert_eq!(kind(pending.finish()), Some(ErrorKind::Disconnected));
    assert_eq!(log.lost(), [delivery.scope]);
    let error = sender.try_send(&messages(&["b"])).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Some(SendOutcome::NotSent)));
    let settled = settle(&receiver, &delivery.token, Outcome::Ack);
    assert_eq!(kind(settled), Some(ErrorKind::Disconnected));
    assert_eq!(kind(now(receiver.stop())), Some(ErrorKind::Disconnected));
    now(receiver.close()).unwrap();
    now(lab.adapter.health()).unwrap();
    assert_eq!(seen(&take(&lab.receiver(&Q))), "a:2");
}

#[test]
fn an_adapter_ends_alone() {
    let lab = Lab::new();
    let crashing =
        Lab { adapter: lab.broker.adapter(), broker: lab.broker.clone(), clock: lab.clock.clone() };
    let (mut sender, receiver) = (lab.sender(&Q), crashing.receiver(&Q));
    send(&mut sender, &messages(&["a"]));
    take(&receiver);
    drop(crashing);
    let other = lab.receiver(&Q);
    assert_eq!(seen(&take(&other)), "a:2", "the adapter was dropped: its client has crashed");
    let error = now(receiver.receive_batch(ROOM, &mut Vec::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);

    let (mortal, kill) = lab.broker.mortal_adapter();
    let options = lab.receiving(ROOM, Events::ignored());
    let source = Source::Channel(lab.declare(&Q));
    let doomed = now(mortal.open_receiver(&source, &options)).unwrap().handle;
    send(&mut sender, &messages(&["b"]));
    take(&doomed);
    kill();
    assert_eq!(seen(&take(&other)), "b:2");
    assert_eq!(kind(now(mortal.health())), Some(ErrorKind::Closed));
}

#[test]
fn a_closed_adapter_says_so() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    now(lab.adapter.close()).unwrap();
    now(lab.adapter.close()).unwrap();
    assert_eq!(kind(now(lab.adapter.health())), Some(ErrorKind::Closed));
    assert_eq!(
        kind(lab.sender_to(&Target::Channel(Arc::new(anybroker_contract::Binding::new(Q))))),
        Some(ErrorKind::Closed)
    );
    let error = sender.try_send(&messages(&["a"])).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    let error = now(receiver.receive_batch(ROOM, &mut Vec::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}

#[test]
fn a_closed_sender_sends_no_more() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    now(sender.close()).unwrap();
    let error = sender.try_send(&messages(&["a"])).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Some(SendOutcome::NotSent)));
}

#[test]
fn a_blocked_broker_tells_its_senders_and_lets_them_wait() {
    let lab = Lab::new();
    let log = Log::default();
    let target = Target::Channel(lab.declare(&Q));
    let mut sender = now(lab.adapter.open_sender(&target, &lab.sending(log.sink()))).unwrap().handle;
    lab.broker.block("disk full");
    assert!(matches!(&log.take()[..], [Event::Blocked { reason }] if reason == "disk full"));
    let late = Log::default();
    let opened = now(lab.adapter.open_sender(&target, &lab.sending(late.sink()))).unwrap();
    assert!(matches!(late.take()[..], [Event::Blocked { .. }]), "one that comes later hears of it too");
    drop(opened);
    let batch = messages(&["a"]);
    let task = waiting(&mut sender, &batch);
    let receiver = lab.receiver(&Q);
    silent(&receiver);
    lab.broker.unblock();
    assert!(all_accepted(&task.finish().unwrap()));
    assert!(matches!(log.take()[..], [Event::Unblocked]));
    assert_eq!(seen(&take(&receiver)), "a:1");
    send(&mut sender, &batch);
}

#[test]
fn who_waits_in_front_of_a_blocked_broker_is_cut_off_too() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    lab.broker.block("maintenance");
    let batch = messages(&["a"]);
    let task = waiting(&mut sender, &batch);
    lab.broker.disconnect();
    let error = task.finish().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Some(SendOutcome::NotSent)));
}

#[test]
fn refused_connections_are_unavailable() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let target = Target::Channel(lab.declare(&Q));
    lab.broker.refuse_connections(true);
    assert_eq!(kind(now(lab.adapter.health())), Some(ErrorKind::Unavailable));
    assert_eq!(kind(lab.sender_to(&target)), Some(ErrorKind::Unavailable));
    send(&mut sender, &messages(&["a"]));
    lab.broker.refuse_connections(false);
    now(lab.adapter.health()).unwrap();
}

#[test]
fn a_lost_confirm_leaves_the_outcome_unknown_and_the_message_stored() {
    let lab = Lab::new();
    lab.broker.lose_next_confirms(2);
    for n in 0..2 {
        let mut sender = lab.sender(&Q);
        let batch = messages(&["a", "b"]);
        let confirm = now(sender.send_batch(&batch)).unwrap();
        for result in now(confirm).into_results(2) {
            let error = result.unwrap_err();
            let expected = (ErrorKind::Disconnected, Some(SendOutcome::Unknown));
            assert_eq!((error.kind(), error.outcome()), expected, "batch {n}");
        }
        let again = sender.try_send(&batch).unwrap().unwrap_err();
        assert_eq!(again.outcome(), Some(SendOutcome::NotSent));
    }
    send(&mut lab.sender(&Q), &messages(&["c"]));
    assert_eq!(seen(&take(&lab.receiver(&Q))), "a:1 b:1 a:1 b:1 c:1");
}

#[test]
fn a_message_that_is_too_large_is_refused_alone_with_both_numbers() {
    let lab = Lab::with(|config| config.max_message = 3);
    let mut sender = lab.sender(&Q);
    assert_eq!(lab.adapter.capabilities().max_message_bytes, Some(3));
    let batch = messages(&["abc", "abcd", "d"]);
    assert_eq!(sender.measure(&batch[1]).unwrap(), 4);
    let results = now(now(sender.send_batch(&batch)).unwrap()).into_results(3);
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::PayloadTooLarge, Some(SendOutcome::Refused)));
    assert!(error.to_string().starts_with("the message has 4 bytes, and at most 3 bytes are taken"));
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(seen(&take(&lab.receiver(&Q))), "abc:1 d:1");
}

#[test]
fn a_full_channel_takes_what_fits_and_the_rest_in_order() {
    let lab = Lab::new();
    let bounded = Q.bounded(3);
    let (mut sender, receiver) = (lab.sender(&bounded), lab.receiver(&bounded));
    let batch = messages(&["a", "b", "c", "d", "e", "f", "g"]);
    let mut task = waiting(&mut sender, &batch);
    let first = take(&receiver);
    assert_eq!(seen(&first), "a:1 b:1 c:1");
    assert!(task.is_woken() && task.poll().is_none());
    let second = take(&receiver);
    assert_eq!(seen(&second), "d:1 e:1 f:1", "what is in hand does not count");
    assert!(all_accepted(&task.finish().unwrap()));
    assert_eq!(seen(&take(&receiver)), "g:1");
    send(&mut sender, &batch[..3]);
    // What comes back has a place even where there is none.
    now(receiver.close()).unwrap();
    let receiver = lab.receiver(&bounded);
    assert_eq!(take(&receiver).len(), 10);
    let opened = lab.receiver_from(&Source::Channel(lab.declare(&bounded))).unwrap();
    assert!(opened.capabilities.has(Capability::Bounded));
}

#[test]
fn room_wakes_one_sender_and_what_it_leaves_the_next() {
    let lab = Lab::new();
    let bounded = Q.bounded(2);
    let mut senders = [(); 3].map(|()| lab.sender(&bounded));
    let receiver = lab.receiver(&bounded);
    send(&mut senders[0], &messages(&["x", "x"]));
    let (a, b, c) = (messages(&["a"]), messages(&["b"]), messages(&["c"]));
    let [one, two, three] = &mut senders;
    let (one, two, three) = (waiting(one, &a), waiting(two, &b), waiting(three, &c));
    take(&receiver);
    assert_eq!((one.is_woken(), two.is_woken(), three.is_woken()), (true, false, false));
    one.finish().unwrap();
    assert_eq!((two.is_woken(), three.is_woken()), (true, false));
    two.finish().unwrap();
    assert!(!three.is_woken(), "the channel is full again");
    assert_eq!(seen(&take(&receiver)), "a:1 b:1");
    three.finish().unwrap();
}

#[test]
fn a_woken_sender_that_does_not_come_keeps_nobody_waiting() {
    let lab = Lab::new();
    let bounded = Q.bounded(1);
    let (mut one, mut two) = (lab.sender(&bounded), lab.sender(&bounded));
    let receiver = lab.receiver(&bounded);
    let batch = messages(&["x"]);
    send(&mut one, &batch);
    let (gone, other) = (waiting(&mut one, &batch), waiting(&mut two, &batch));
    let delivery = take(&receiver).remove(0);
    assert!(gone.is_woken() && !other.is_woken());
    drop(gone);
    ack(&receiver, &delivery);
    other.finish().unwrap();
}

#[test]
fn a_sender_that_looks_twice_waits_once() {
    let lab = Lab::new();
    let bounded = Q.bounded(1);
    let (mut one, mut two) = (lab.sender(&bounded), lab.sender(&bounded));
    let receiver = lab.receiver(&bounded);
    let batch = messages(&["x"]);
    send(&mut one, &batch);
    let mut first = waiting(&mut one, &batch);
    assert!(first.poll().is_none());
    let second = waiting(&mut two, &batch);
    take(&receiver);
    first.finish().unwrap();
    take(&receiver);
    second.finish().unwrap();
}

#[test]
fn a_sender_that_is_cut_off_in_the_middle_says_what_was_taken() {
    let lab = Lab::new();
    let bounded = Q.bounded(2);
    let mut sender = lab.sender(&bounded);
    let batch = messages(&["a", "b", "c"]);
    let task = waiting(&mut sender, &batch);
    lab.broker.disconnect();
    let results = task.finish().unwrap().into_results(3);
    assert!(results[0].is_ok() && results[1].is_ok());
    let error = results[2].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Disconnected, Some(SendOutcome::NotSent)));
    assert_eq!(seen(&take(&lab.receiver(&bounded))), "a:1 b:1");
}

#[test]
fn the_fullest_subscription_counts() {
    let lab = Lab::new();
    let bounded = T.bounded(2);
    let mut sender = lab.sender(&bounded);
    send(&mut sender, &messages(&["nobody", "is", "there"]));
    let (slow, quick) = (bounded.subscription("slow"), bounded.subscription("quick"));
    let (slow, quick) = (lab.subscriber(&slow), lab.subscriber(&quick));
    send(&mut sender, &messages(&["a", "b"]));
    assert_eq!(seen(&take(&quick)), "a:1 b:1");
    let batch = messages(&["c"]);
    let task = waiting(&mut sender, &batch);
    silent(&quick);
    assert_eq!(seen(&take(&slow)), "a:1 b:1");
    task.finish().unwrap();
    assert_eq!(seen(&take(&quick)), "c:1");
    // Deleting the full subscription makes room as well.
    send(&mut sender, &messages(&["d"]));
    let batch = messages(&["e", "f"]);
    let task = waiting(&mut sender, &batch);
    let binding = lab.declare(&bounded);
    let topology = Topology::Subscription(binding, bounded.subscription("slow"));
    take(&quick);
    now(lab.adapter.delete(&topology)).unwrap();
    task.finish().unwrap();
}

#[test]
fn what_is_no_message_comes_as_it_is_between_the_others() {
    let lab = Lab::new();
    let receiver = lab.receiver(&Q);
    let subscriber = lab.subscriber(&T.subscription("s"));
    for (channel, receiver) in [("q", &receiver), ("t", &subscriber)] {
        lab.broker.publish(channel, Message::new("bare")).unwrap();
        lab.broker.publish_undecodable(channel, &b"\xff\x00"[..]).unwrap();
        lab.broker.publish(channel, Message::new("next")).unwrap();
        let deliveries = take(receiver);
        let [bare, odd, _] = &deliveries[..] else { panic!("three were sent") };
        assert_eq!(bare.content.as_ref().unwrap(), &Message::new("bare"));
        let undecodable = odd.content.as_ref().unwrap_err();
        assert_eq!(undecodable.raw, Bytes::from_static(b"\xff\x00"));
        assert_eq!(undecodable.error.kind(), ErrorKind::InvalidMessage);
        assert_eq!(odd.attempt, Some(1));
        deliveries.iter().for_each(|delivery| ack(receiver, delivery));
    }
    assert_eq!(kind(lab.broker.publish("none", Message::new(""))), Some(ErrorKind::NotFound));
    assert_eq!(kind(lab.broker.publish_undecodable("none", Bytes::new())), Some(ErrorKind::NotFound));
}
