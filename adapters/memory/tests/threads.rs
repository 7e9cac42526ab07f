//! Many threads at once: nothing is lost, doubled or reordered, and nobody sleeps through.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use anybroker_contract::{Channel, Message, Receive, Receiver, Room};
use common::{Lab, ack, all_accepted, now};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const Q: Channel = Channel::point_to_point("q");

#[test]
fn no_message_waits_while_a_consumer_does() {
    const MESSAGES: usize = 2000;
    let lab = Lab::new();
    lab.declare(&Q);
    let receivers = [(); 3].map(|()| lab.receiver(&Q));
    let acked = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut sender = lab.sender(&Q);
                for n in 0..MESSAGES {
                    common::send(&mut sender, &[Message::new(n.to_string())]);
                }
            });
        }
        for receiver in &receivers {
            let (receivers, acked) = (&receivers, &acked);
            threads.spawn(move || {
                let mut into = Vec::new();
                while block(receiver.receive_batch(Room::new(2, 100), &mut into)).unwrap() == Receive::More {
                    for delivery in into.drain(..) {
                        ack(receiver, &delivery);
                        if acked.fetch_add(1, Ordering::SeqCst) + 1 == 2 * MESSAGES {
                            receivers.iter().for_each(|receiver| now(receiver.stop()).unwrap());
                        }
                    }
                }
            });
        }
    });
    assert_eq!(acked.into_inner(), 2 * MESSAGES);
}

#[test]
fn a_sender_and_a_consumer_wake_each_other_and_no_more_than_the_bound_waits() {
    const MESSAGES: usize = 5000;
    for bound in [1, 3, 64] {
        let lab = Lab::new();
        let channel = Q.bounded(bound);
        let (mut sender, receiver) = (lab.sender(&channel), lab.receiver(&channel));
        let numbers: Vec<_> = (0..MESSAGES).map(|n| Message::new(n.to_string())).collect();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut rest = &numbers[..];
                while !rest.is_empty() {
                    let (batch, later) = rest.split_at((rest.len() % 5 + 1).min(rest.len()));
                    block(async { assert!(all_accepted(&sender.send_batch(batch).await.unwrap().await)) });
                    rest = later;
                }
            });
            threads.spawn(|| {
                let (mut next, mut into) = (0, Vec::new());
                while next < MESSAGES {
                    // Looks first, as the portable layer does, then waits.
                    if receiver.try_receive(common::ROOM, &mut into) == Some(0) {
                        block(receiver.receive_batch(common::ROOM, &mut into)).unwrap();
                    }
                    assert!(into.len() <= bound, "{} waited of at most {bound}", into.len());
                    for delivery in into.drain(..) {
                        assert_eq!(delivery.content.as_ref().unwrap().body(), next.to_string().as_bytes());
                        ack(&receiver, &delivery);
                        next += 1;
                    }
                }
            });
        });
        common::silent(&receiver);
    }
}

#[test]
fn nothing_is_lost_or_doubled_or_reordered_among_threads_that_come_and_go() {
    const MESSAGES: usize = 1500;
    let lab = Arc::new(Lab::new());
    let channel = Q.order_per_key().bounded(200);
    lab.declare(&channel);
    let handled = Mutex::new(BTreeMap::<String, Vec<usize>>::new());
    let count = || handled.lock().unwrap().values().map(Vec::len).sum::<usize>();
    std::thread::scope(|threads| {
        for producer in 0..2 {
            let (lab, channel) = (&lab, &channel);
            threads.spawn(move || {
                let mut sender = lab.sender(channel);
                let one = |n: usize| {
                    let key = format!("{producer}-{}", n % 7);
                    Message::new(n.to_string()).with_key(key)
                };
                let batch: Vec<_> = (0..MESSAGES).map(one).collect();
                for batch in batch.chunks(13) {
                    block(async { assert!(all_accepted(&sender.send_batch(batch).await.unwrap().await)) });
                }
            });
        }
        for consumer in 0..3 {
            let (lab, channel, handled, count) = (&lab, &channel, &handled, &count);
            threads.spawn(move || {
                let mut turn = consumer;
                while count() < 2 * MESSAGES {
                    turn += 1;
                    let receiver = lab.receiver(channel);
                    consume(&receiver, turn, handled);
                    // One in two crashes, the other leaves.
                    if turn % 2 == 0 {
                        now(receiver.close()).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(count(), 2 * MESSAGES);
    for (key, numbers) in handled.into_inner().unwrap() {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{key}: {numbers:?}");
    }
}

/// Receives a little, acknowledges half of it, notes that, and leaves the rest unsettled.
fn consume(receiver: &Arc<dyn Receiver>, turn: usize, handled: &Mutex<BTreeMap<String, Vec<usize>>>) {
    for _ in 0..turn % 4 + 1 {
        let mut deliveries = Vec::new();
        let nothing_there = {
            let room = Room::new(turn % 11 + 1, usize::MAX);
            let mut receiving = receiver.receive_batch(room, &mut deliveries);
            receiving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        if nothing_there {
            std::thread::yield_now();
            return;
        }
        for delivery in &deliveries[..deliveries.len().div_ceil(2)] {
            // Noted under one lock with the settling: from then on another consumer may have the next message of its key.
            let mut handled = handled.lock().unwrap();
            ack(receiver, delivery);
            let message = delivery.content.as_ref().unwrap();
            let number = std::str::from_utf8(message.body()).unwrap().parse().unwrap();
            let key = message.key().unwrap().as_text().unwrap();
            handled.entry(key.to_owned()).or_default().push(number);
        }
        if deliveries.len() > 1 {
            return;
        }
    }
}

/// Runs a future on this thread to its end. Fails instead of sleeping for good.
fn block<T>(future: impl Future<Output = T>) -> T {
    #[derive(Default)]
    struct Bell(Mutex<bool>, Condvar);
    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }
    }
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // Looks for a while: who sleeps at once comes too late for the narrow races.
        (0..1000).take_while(|_| !*bell.0.lock().unwrap()).for_each(|_| std::hint::spin_loop());
        let limit = Duration::from_secs(60);
        let (mut rung, waited) =
            bell.1.wait_timeout_while(bell.0.lock().unwrap(), limit, |rung| !*rung).unwrap();
        assert!(!waited.timed_out(), "nobody woke it");
        *rung = false;
    }
}
