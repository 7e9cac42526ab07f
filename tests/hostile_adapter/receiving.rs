//! Consumers against a receiver that loses its connection, answers late, or gives when it was told to stop.

use crate::bench::{Bench, DEADLINE, ORDERS, PLAIN, ends, kind_of, next, nothing, turns, until};
use crate::script::Call;
use anybroker::ErrorKind::LeaseLost;
use anybroker::status::State;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

#[tokio::test]
async fn a_settlement_of_a_lost_receiver_never_reaches_the_next() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    let count = 100;
    (0..count).for_each(|number| bench.feed(number, "a"));
    let mut deliveries = Vec::new();
    for number in 0..count {
        deliveries.push(next(&mut consumer, number).await);
    }
    bench.script.cut();
    // One at a time between any two turns of the consumer's own tasks: some fall between its end and its beginning.
    let settling = tokio::spawn(poll_fn(move |cx| match deliveries.pop() {
        Some(delivery) => {
            drop(delivery.ack());
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        None => Poll::Ready(()),
    }));
    bench.until(|plan| plan.receivers == 2).await;
    ends(settling).await.unwrap();
    turns().await;
    let log = bench.log();
    assert!(!log.iter().any(|line| line.starts_with("2:")), "the numbers name other messages there: {log:?}");
    // The consumer goes on.
    bench.feed(0, "a");
    ends(next(&mut consumer, 0).await.ack()).await.unwrap();
    assert_eq!(consumer.status().acked + consumer.status().lost, count + 1, "nothing is counted twice");
}

#[tokio::test]
async fn a_settlement_cut_off_by_a_loss_fails_and_so_does_what_waits_behind_it() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    (1..=2).for_each(|number| bench.feed(number, "a"));
    let (first, second) = (next(&mut consumer, 1).await, next(&mut consumer, 2).await);
    bench.script.hang(Call::Settle);
    let on_its_way = first.ack();
    bench.until(|plan| plan.logged("1: ack 1")).await;
    let behind = second.ack();
    bench.script.cut();
    ends(on_its_way).await.unwrap_err();
    assert_eq!(kind_of(ends(behind).await), LeaseLost);
    assert_eq!(consumer.status().failed_settlements, 2);
    assert_eq!(kind_of(ends(consumer.flush()).await), LeaseLost, "once: it says so");
    bench.until(|plan| plan.receivers == 2).await;
    ends(consumer.flush()).await.unwrap();
    assert_eq!(bench.log(), ["1: ack 1"]);
}

#[tokio::test]
async fn a_settlement_behind_one_on_the_applications_thread_never_reaches_the_next_receiver() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    // So many are settled at once on the thread of the last.
    let run = 64;
    (0..=run).for_each(|number| bench.feed(number, "a"));
    let mut deliveries = Vec::new();
    for number in 0..run {
        deliveries.push(next(&mut consumer, number).await);
    }
    let last = next(&mut consumer, run).await;
    let release = bench.script.detain(Call::Settle);
    let settling = thread::spawn(move || deliveries.into_iter().for_each(|delivery| drop(delivery.ack())));
    // Meanwhile the runtime stands still, so that the consumer's own task settles nothing.
    while !bench.script.plan().logged("1: detained") {
        assert!(!settling.is_finished(), "it does not settle on its thread");
        thread::yield_now();
    }
    let behind = last.ack();
    bench.script.cut();
    nothing(&mut consumer).await;
    bench.until(|plan| plan.receivers == 2).await;
    release.send(()).unwrap();
    until(|| settling.is_finished()).await;
    assert_eq!(kind_of(ends(behind).await), LeaseLost);
    assert!(!bench.log().iter().any(|line| line.starts_with("2:")), "{:?}", bench.log());
    assert_eq!(consumer.status().failed_settlements, run + 1);
}

#[tokio::test]
async fn a_delivery_handed_out_again_is_settled_after_it_was_held() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed(1, "a");
    bench.script.hang(Call::Settle);
    drop(next(&mut consumer, 1).await.retry(Duration::ZERO));
    bench.until(|plan| plan.logged("1: hold 1")).await;
    // It is due while the client has not answered the hold, and the application could settle by itself.
    let again = next(&mut consumer, 1).await;
    assert_eq!(again.attempt(), 2);
    let settled = again.ack();
    turns().await;
    assert_eq!(bench.log(), ["1: hold 1"], "one after another");
    bench.script.go_on(Call::Settle);
    ends(settled).await.unwrap();
    ends(consumer.flush()).await.unwrap();
    assert_eq!(bench.log(), ["1: hold 1", "1: ack 1"]);
    assert_eq!(consumer.status().failed_settlements, 0);
}

#[tokio::test]
async fn what_a_stopping_receiver_still_returns_is_given_back() {
    let bench = Bench::open(|_| {}).await;
    let consumer = bench.consumer(&PLAIN).await;
    bench.script.hang(Call::Receive);
    turns().await;
    let closing = tokio::spawn(async move { consumer.close().await });
    bench.until(|plan| plan.logged("1: stop")).await;
    turns().await;
    assert!(!bench.script.plan().logged("1: close"), "the pending call has not returned yet");
    (1..=2).for_each(|number| bench.feed(number, "a"));
    bench.script.go_on(Call::Receive);
    let closed = ends(closing).await.unwrap().unwrap();
    assert_eq!(bench.log(), ["1: stop", "1: release 1", "1: release 2", "1: close"]);
    assert_eq!(closed.given_back, 2);
}

#[tokio::test]
async fn a_receiver_that_never_returns_is_left_at_the_close_deadline() {
    let bench = Bench::open(|_| {}).await;
    let consumer = bench.consumer(&PLAIN).await;
    bench.script.hang(Call::Receive);
    turns().await;
    let closing = tokio::spawn(async move { consumer.close().await });
    bench.until(|plan| plan.logged("1: stop")).await;
    bench.advance(DEADLINE).await;
    assert_eq!(ends(closing).await.unwrap().unwrap().given_back, 0);
    // What comes now comes to nobody: the client's close has given it back.
    bench.feed(1, "a");
    bench.script.go_on(Call::Receive);
    turns().await;
    assert_eq!(bench.log(), ["1: stop", "1: close"]);
}

#[tokio::test]
async fn what_the_application_received_by_itself_while_leaving_is_given_back() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    turns().await;
    // Parked, so that giving it back keeps the consumer busy.
    bench.feed(1, "a");
    drop(next(&mut consumer, 1).await.retry(DEADLINE));
    ends(consumer.flush()).await.unwrap();
    let release = bench.script.detain(Call::Receive);
    bench.feed(2, "b");
    let runtime = tokio::runtime::Handle::current();
    // On a thread that stays in the client's call while the consumer leaves.
    let receiving = thread::spawn(move || {
        let mut receiving = std::pin::pin!(consumer.receive());
        let _entered = runtime.enter();
        let mut cx = Context::from_waker(Waker::noop());
        // Until the consumer has left, nothing is to be had; then it ends.
        loop {
            if let Poll::Ready(received) = receiving.as_mut().poll(&mut cx) {
                return received.unwrap().is_none();
            }
        }
    });
    bench.until(|plan| plan.logged("1: detained")).await;
    bench.script.hang(Call::Settle);
    let broker = bench.broker.clone();
    let closing = tokio::spawn(async move { broker.close().await });
    bench.until(|plan| plan.logged("1: release 1")).await;
    release.send(()).unwrap();
    until(|| receiving.is_finished()).await;
    assert!(receiving.join().unwrap(), "nothing is handed out while leaving");
    bench.script.go_on(Call::Settle);
    let closed = ends(closing).await.unwrap().unwrap();
    assert_eq!(bench.log().last().map(String::as_str), Some("1: close"));
    assert!(bench.script.plan().logged("1: release 2"), "{:?}", bench.log());
    assert_eq!(closed.given_back, 2);
}

#[tokio::test]
async fn a_closed_consumer_says_nothing_about_its_broker() {
    let bench = Bench::open(|_| {}).await;
    let (closed, _open) = (bench.consumer(&PLAIN).await, bench.consumer(&ORDERS).await);
    ends(closed.close()).await.unwrap();
    assert_eq!(closed.status().state, State::Closed);
    assert_eq!(bench.broker.status().borrow().brokers["main"].state, State::Connected);
    ends(bench.broker.close()).await.unwrap();
    assert_eq!(bench.broker.status().borrow().brokers["main"].state, State::Closed);
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_stored_does_not_hold_up_a_consumer_that_leaves() {
    let bench = Bench::open(|plan| plan.refuses_dead_letters = true).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    (1..=2).for_each(|number| bench.feed(number, "a"));
    let rejecting = next(&mut consumer, 1).await.reject("bad");
    until(|| consumer.status().state == State::Stalled).await;
    // Time stands still: it does not wait for the next try.
    let closed = ends(consumer.close()).await.unwrap();
    assert_eq!(bench.log(), ["1: stop", "1: release 1", "1: release 2", "1: close"]);
    assert_eq!(closed.given_back, 2);
    ends(rejecting).await.unwrap_err();
    assert!(bench.script.plan().dead_letters.is_empty());
}

#[tokio::test]
async fn a_consumer_goes_on_when_the_client_panics() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    turns().await;
    bench.script.plan().panics.insert(Call::Receive);
    // It is lost with its receiver.
    bench.feed(1, "a");
    bench.until(|plan| plan.receivers == 2).await;
    bench.script.plan().panics.insert(Call::Settle);
    bench.feed(2, "a");
    drop(next(&mut consumer, 2).await.ack());
    // Not at once: nobody waits for the settlement.
    bench.until(|plan| plan.panics.is_empty()).await;
    bench.script.cut();
    bench.until(|plan| plan.receivers == 3).await;
    bench.feed(3, "a");
    ends(next(&mut consumer, 3).await.ack()).await.unwrap();
    ends(bench.broker.close()).await.unwrap();
}

#[tokio::test]
async fn a_settlement_ends_when_the_client_panics() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    bench.feed(1, "a");
    let delivery = next(&mut consumer, 1).await;
    bench.script.plan().panics.insert(Call::Settle);
    ends(delivery.ack()).await.unwrap_err();
    assert_eq!(consumer.status().failed_settlements, 1);
}

#[tokio::test]
async fn a_connection_that_breaks_at_every_receive_is_not_opened_without_pause() {
    let bench = Bench::open(|plan| plan.dead = usize::MAX).await;
    let _consumer = bench.consumer(&PLAIN).await;
    for _ in 0..10 {
        turns().await;
    }
    // Time stands still: what is tried now is tried without a pause.
    let tries = bench.script.plan().receivers;
    assert!(tries <= 3, "opened {tries} times in no time");
}
