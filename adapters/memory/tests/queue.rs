//! One queue: order, settling, delays, leases, prefetch, waiting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use anybroker_contract::{Capability, Channel, ErrorKind, Extend, Outcome, Receive, Room, Settle};
use common::{Lab, Log, ack, kind, messages, now, seen, send, settle, silent, take, wait};
use std::time::Duration;

const Q: Channel = Channel::point_to_point("q");
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn messages_come_once_and_in_order() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a", "b"]));
    send(&mut sender, &messages(&["c"]));
    let deliveries = take(&receiver);
    assert_eq!(seen(&deliveries), "a:1 b:1 c:1");
    for delivery in &deliveries {
        ack(&receiver, delivery);
    }
    silent(&receiver);
    now(receiver.close()).unwrap();
    silent(&lab.receiver(&Q));
}

#[test]
fn a_backlog_comes_in_order() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    (0..2500).for_each(|n| send(&mut sender, &messages(&[&n.to_string()])));
    let receiver = lab.receiver_with(&Q, Room::new(5000, usize::MAX), &Log::default());
    let mut into = Vec::new();
    assert_eq!(receiver.try_receive(Room::new(5000, usize::MAX), &mut into), Some(2500));
    let came = into.iter().map(|delivery| delivery.content.as_ref().unwrap().body());
    assert!(came.eq((0..2500).map(|n| n.to_string()).collect::<Vec<_>>().iter().map(|n| n.as_bytes())));
}

#[test]
fn receiving_and_settling_need_no_waiting() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    let mut into = Vec::new();
    assert_eq!(receiver.try_receive(common::ROOM, &mut into), Some(0));
    send(&mut sender, &messages(&["a", "b", "c"]));
    assert_eq!(receiver.try_receive(Room::new(2, 100), &mut into), Some(2));
    assert_eq!(receiver.try_receive(Room::new(2, 100), &mut into), Some(1));
    assert_eq!(seen(&into), "a:1 b:1 c:1");
    let mut one = Settle::new(into[0].token.clone(), Outcome::Ack);
    assert!(receiver.try_settle(std::slice::from_mut(&mut one)));
    one.result.take().unwrap().unwrap();
    assert!(receiver.try_settle(std::slice::from_mut(&mut one)));
    assert_eq!(kind(one.result.take().unwrap()), Some(ErrorKind::LeaseLost));
    now(receiver.stop()).unwrap();
    assert_eq!(receiver.try_receive(common::ROOM, &mut into), Some(0));
    now(receiver.close()).unwrap();
    assert_eq!(receiver.try_receive(common::ROOM, &mut into), Some(0));
    assert!(receiver.try_settle(std::slice::from_mut(&mut one)));
    assert_eq!(kind(one.result.unwrap()), Some(ErrorKind::Closed));
    assert_eq!(seen(&take(&lab.receiver(&Q))), "b:2 c:2");
}

#[test]
fn a_token_settles_once_and_only_for_its_receiver() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a", "b"]));
    let deliveries = take(&receiver);
    let stranger = lab.receiver(&Q);
    let stolen = settle(&stranger, &deliveries[0].token, Outcome::Ack);
    assert_eq!(kind(stolen), Some(ErrorKind::LeaseLost));
    ack(&receiver, &deliveries[0]);
    let twice = settle(&receiver, &deliveries[0].token, Outcome::Ack);
    assert_eq!(kind(twice), Some(ErrorKind::LeaseLost));
    // Its slot is free and used again; the old token does not reach the new message.
    send(&mut sender, &messages(&["c"]));
    assert_eq!(seen(&take(&receiver)), "c:1");
    let late = settle(&receiver, &deliveries[0].token, Outcome::Ack);
    assert_eq!(kind(late), Some(ErrorKind::LeaseLost));
}

#[test]
fn released_is_back_in_its_old_place_and_not_counted() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a", "b", "c"]));
    let deliveries = take(&receiver);
    send(&mut sender, &messages(&["d"]));
    now(receiver.stop()).unwrap();
    ack(&receiver, &deliveries[1]);
    for delivery in [&deliveries[2], &deliveries[0]] {
        settle(&receiver, &delivery.token, Outcome::Release).unwrap();
    }
    assert_eq!(seen(&take(&lab.receiver(&Q))), "a:1 c:1 d:1");
}

#[test]
fn unsettled_is_back_in_its_old_place_and_counted_however_the_receiver_ends() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    send(&mut sender, &messages(&["a", "b", "c"]));
    let closed = lab.receiver(&Q);
    assert_eq!(seen(&take(&closed)), "a:1 b:1 c:1");
    now(closed.close()).unwrap();
    let dropped = lab.receiver(&Q);
    let deliveries = take(&dropped);
    assert_eq!(seen(&deliveries), "a:2 b:2 c:2");
    ack(&dropped, &deliveries[1]);
    drop(dropped);
    let cut = lab.receiver(&Q);
    assert_eq!(seen(&take(&cut)), "a:3 c:3");
    lab.broker.disconnect();
    let mut sender = lab.sender(&Q);
    send(&mut sender, &messages(&["d"]));
    assert_eq!(seen(&take(&lab.receiver(&Q))), "a:4 c:4 d:1");
}

#[test]
fn a_retry_comes_no_earlier_than_asked_and_counted() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a"]));
    let delivery = take(&receiver).remove(0);
    settle(&receiver, &delivery.token, Outcome::Retry { after: 5 * SECOND }).unwrap();
    let waiting = wait(&receiver);
    lab.clock.advance(5 * SECOND - Duration::from_nanos(1));
    let mut waiting = waiting;
    assert!(waiting.poll().is_none(), "a nanosecond too early");
    lab.clock.advance(Duration::from_nanos(1));
    let deliveries = waiting.finish().unwrap();
    assert_eq!(seen(&deliveries), "a:2");
    settle(&receiver, &deliveries[0].token, Outcome::Retry { after: Duration::ZERO }).unwrap();
    let deliveries = take(&receiver);
    assert_eq!(seen(&deliveries), "a:3");
    let never = settle(&receiver, &deliveries[0].token, Outcome::Retry { after: Duration::MAX });
    assert_eq!(kind(never), Some(ErrorKind::Unsupported));
    ack(&receiver, &deliveries[0]);
}

#[test]
fn an_earlier_delay_moves_the_alarm_of_who_waits_already() {
    let lab = Lab::new();
    let (mut sender, first, second) = (lab.sender(&Q), lab.receiver(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["late", "early"]));
    let deliveries = take(&first);
    settle(&first, &deliveries[0].token, Outcome::Retry { after: 9 * SECOND }).unwrap();
    let mut waiting = wait(&second);
    settle(&first, &deliveries[1].token, Outcome::Retry { after: 2 * SECOND }).unwrap();
    assert!(waiting.is_woken(), "to set its alarm to the earlier time");
    assert!(waiting.poll().is_none());
    lab.clock.advance(2 * SECOND);
    assert_eq!(seen(&waiting.finish().unwrap()), "early:2");
}

#[test]
fn the_alarm_passes_on_when_who_has_it_leaves() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let [first, second, third] = [(); 3].map(|()| lab.receiver(&Q));
    send(&mut sender, &messages(&["a"]));
    let delivery = take(&first).remove(0);
    settle(&first, &delivery.token, Outcome::Retry { after: SECOND }).unwrap();
    let (has, mut next) = (wait(&second), wait(&third));
    drop(has);
    now(second.close()).unwrap();
    assert!(next.is_woken(), "to take over");
    assert!(next.poll().is_none());
    lab.clock.advance(SECOND);
    assert_eq!(seen(&next.finish().unwrap()), "a:2");
}

#[test]
fn an_alarm_that_went_off_in_vain_does_not_stand_in_for_the_next() {
    let lab = Lab::new();
    let (mut sender, first, second) = (lab.sender(&Q), lab.receiver(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a"]));
    let delivery = take(&first).remove(0);
    settle(&first, &delivery.token, Outcome::Retry { after: SECOND }).unwrap();
    let mut waiting = wait(&second);
    lab.clock.advance(SECOND);
    // The other one is quicker.
    let delivery = take(&first).remove(0);
    assert!(waiting.is_woken() && waiting.poll().is_none());
    settle(&first, &delivery.token, Outcome::Retry { after: 5 * SECOND }).unwrap();
    assert!(waiting.is_woken() && waiting.poll().is_none());
    lab.clock.advance(5 * SECOND);
    assert_eq!(seen(&waiting.finish().unwrap()), "a:3");
}

#[test]
fn held_keeps_the_token_and_the_count() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a", "b", "c"]));
    let deliveries = take(&receiver);
    for delivery in &deliveries {
        settle(&receiver, &delivery.token, Outcome::Held { attempt: 2 }).unwrap();
    }
    silent(&receiver);
    ack(&receiver, &deliveries[0]);
    settle(&receiver, &deliveries[1].token, Outcome::Held { attempt: 4 }).unwrap();
    settle(&receiver, &deliveries[2].token, Outcome::Retry { after: Duration::ZERO }).unwrap();
    drop(receiver);
    let receiver = lab.receiver(&Q);
    assert_eq!(seen(&take(&receiver)), "b:4 c:3", "held was counted, a failure after it counts anew");
    drop(receiver);
    assert_eq!(seen(&take(&lab.receiver(&Q))), "b:5 c:4", "what was held once is lost like any other now");
}

#[test]
fn an_expired_lease_comes_again_and_settles_no_more() {
    let lab = Lab::with(|config| config.lease = Some(10 * SECOND));
    let (mut sender, slow, other) = (lab.sender(&Q), lab.receiver(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a", "b"]));
    let deliveries = take(&slow);
    let lease = deliveries[0].lease().unwrap();
    assert_eq!(lease.extendable, Some(10 * SECOND));
    let waiting = wait(&other);
    lab.clock.advance(6 * SECOND);
    let mut extend = [Extend::new(deliveries[1].token.clone())];
    now(slow.extend(&mut extend));
    let [Extend { result, .. }] = extend;
    assert_eq!(result.unwrap().unwrap(), lease.expires + 6 * SECOND);
    lab.clock.advance(4 * SECOND);
    assert_eq!(seen(&waiting.finish().unwrap()), "a:2", "b was extended");
    let late = settle(&slow, &deliveries[0].token, Outcome::Ack);
    assert_eq!(kind(late), Some(ErrorKind::LeaseLost));
    ack(&slow, &deliveries[1]);
    let mut extend = [Extend::new(deliveries[0].token.clone())];
    now(slow.extend(&mut extend));
    let [Extend { result, .. }] = extend;
    assert_eq!(kind(result.unwrap()), Some(ErrorKind::LeaseLost));
}

#[test]
fn a_lease_ends_by_the_clock_even_if_nobody_waits() {
    let lab = Lab::with(|config| config.lease = Some(10 * SECOND));
    let (mut sender, slow) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a"]));
    let delivery = take(&slow).remove(0);
    lab.clock.advance(10 * SECOND);
    let late = settle(&slow, &delivery.token, Outcome::Ack);
    assert_eq!(kind(late), Some(ErrorKind::LeaseLost));
    assert_eq!(seen(&take(&slow)), "a:2");
}

#[test]
fn sweeping_the_timers_of_settled_leases_keeps_the_live_one() {
    let lab = Lab::with(|config| config.lease = Some(10 * SECOND));
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["old"]));
    let old = take(&receiver).remove(0);
    for _ in 0..1000 {
        send(&mut sender, &messages(&["a"]));
        ack(&receiver, &take(&receiver)[0]);
        let mut extend = [Extend::new(old.token.clone())];
        now(receiver.extend(&mut extend));
    }
    lab.clock.advance(10 * SECOND);
    assert_eq!(seen(&take(&receiver)), "old:2");
    silent(&receiver);
}

#[test]
fn lease_extension_is_there_with_a_lease_only() {
    let (without, with) = (Lab::new(), Lab::with(|config| config.lease = Some(SECOND)));
    assert!(!without.adapter.capabilities().has(Capability::LeaseExtension));
    assert!(with.adapter.capabilities().has(Capability::LeaseExtension));
    let refusal = without.adapter.capabilities().refusal(Capability::Durable).cloned().unwrap();
    assert_eq!(refusal.why, "cannot keep: its messages end with the process");
    let (mut sender, receiver) = (without.sender(&Q), without.receiver(&Q));
    send(&mut sender, &messages(&["a"]));
    let delivery = take(&receiver).remove(0);
    assert!(delivery.lease().is_none());
    let mut extend = [Extend::new(delivery.token)];
    now(receiver.extend(&mut extend));
    let [Extend { result, .. }] = extend;
    assert_eq!(kind(result.unwrap()), Some(ErrorKind::Unsupported));
}

#[test]
fn prefetch_bounds_what_is_unsettled_in_messages_and_bytes() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    send(&mut sender, &messages(&["a", "b", "cc", "dddddd", "e"]));
    let receiver = lab.receiver_with(&Q, Room::new(3, 3), &Log::default());
    let deliveries = take(&receiver);
    assert_eq!(seen(&deliveries), "a:1 b:1", "`cc` is beyond the bytes");
    let mut waiting = wait(&receiver);
    settle(&receiver, &deliveries[0].token, Outcome::Held { attempt: 2 }).unwrap();
    assert!(waiting.poll().is_none(), "what is held is not settled");
    ack(&receiver, &deliveries[0]);
    let third = waiting.finish().unwrap();
    assert_eq!(seen(&third), "cc:1");
    ack(&receiver, &deliveries[1]);
    ack(&receiver, &third[0]);
    let large = take(&receiver);
    assert_eq!(seen(&large), "dddddd:1", "one message, whatever its size");
    silent(&receiver);
    ack(&receiver, &large[0]);
    assert_eq!(seen(&take(&receiver)), "e:1");
}

#[test]
fn never_more_than_asked_for() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["aaa", "b", "c", "d"]));
    let mut into = Vec::new();
    now(receiver.receive_batch(Room::new(10, 2), &mut into)).unwrap();
    assert_eq!(seen(&into), "aaa:1");
    now(receiver.receive_batch(Room::new(2, 100), &mut into)).unwrap();
    assert_eq!(seen(&into), "aaa:1 b:1 c:1", "appended");
}

#[test]
fn competing_consumers_take_turns_as_they_ask_and_one_is_woken() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let [first, second, third] = [(); 3].map(|()| lab.receiver(&Q));
    let tasks = [wait(&first), wait(&second), wait(&third)];
    send(&mut sender, &messages(&["a"]));
    assert_eq!([true, false, false], [0, 1, 2].map(|n| tasks[n].is_woken()));
    send(&mut sender, &messages(&["b"]));
    assert_eq!([true, true, false], [0, 1, 2].map(|n| tasks[n].is_woken()));
    let [one, two, mut last] = tasks;
    assert_eq!(seen(&one.finish().unwrap()), "a:1 b:1");
    let mut two = two;
    assert!(two.poll().is_none());
    send(&mut sender, &messages(&["c"]));
    assert_eq!((last.is_woken(), two.is_woken()), (true, false), "who waits longest comes first");
    assert!(last.poll().is_some());
}

#[test]
fn who_only_looks_is_not_woken_in_place_of_who_waits() {
    let lab = Lab::new();
    let (mut sender, looking, waiting) = (lab.sender(&Q), lab.receiver(&Q), lab.receiver(&Q));
    assert_eq!(looking.try_receive(common::ROOM, &mut Vec::new()), Some(0));
    let task = wait(&waiting);
    send(&mut sender, &messages(&["a"]));
    assert_eq!(seen(&task.finish().unwrap()), "a:1");
}

#[test]
fn what_a_woken_consumer_leaves_wakes_the_next() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    let small = lab.receiver_with(&Q, Room::new(1, usize::MAX), &Log::default());
    let (gone, other) = (lab.receiver(&Q), lab.receiver(&Q));
    let (one, two, three) = (wait(&small), wait(&gone), wait(&other));
    send(&mut sender, &messages(&["a", "b"]));
    assert_eq!(seen(&one.finish().unwrap()), "a:1");
    assert!(two.is_woken() && !three.is_woken());
    // The woken one crashes without having taken anything.
    drop(two);
    drop(gone);
    assert_eq!(seen(&three.finish().unwrap()), "b:1");
}

#[test]
fn stop_ends_receiving_and_settling_goes_on_until_close() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    send(&mut sender, &messages(&["a", "b"]));
    let deliveries = take(&receiver);
    let waiting = wait(&receiver);
    now(receiver.stop()).unwrap();
    assert!(waiting.finish().unwrap().is_empty());
    send(&mut sender, &messages(&["c"]));
    assert_eq!(now(receiver.receive_batch(common::ROOM, &mut Vec::new())).unwrap(), Receive::Ended);
    ack(&receiver, &deliveries[0]);
    now(receiver.close()).unwrap();
    let late = settle(&receiver, &deliveries[1].token, Outcome::Ack);
    assert_eq!(kind(late), Some(ErrorKind::Closed));
    assert_eq!(seen(&take(&lab.receiver(&Q))), "b:2 c:1");
}
