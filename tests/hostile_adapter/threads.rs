//! Handles that leave the runtime: on plain threads, in any order, and after its end.

use crate::bench::{Bench, DEADLINE, PLAIN, accepted, begin, ends, message, next, until};
use crate::script::Script;
use anybroker::{Channel, Consumer, Delivery, Producer};
use std::any::Any;
use std::thread;

static TWICE: Channel = Channel::point_to_point("twice").dead_letter_after(2);

#[tokio::test]
async fn a_delivery_dropped_on_a_plain_thread_comes_again() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    bench.feed(1, "a");
    let delivery = next(&mut consumer, 1).await;
    elsewhere(move || drop(delivery)).await;
    let again = next(&mut consumer, 1).await;
    assert_eq!(again.attempt(), 2);
    elsewhere(move || drop(again.ack())).await;
    ends(consumer.flush()).await.unwrap();
    assert_eq!(bench.log(), ["1: hold 1", "1: ack 1"]);
}

#[tokio::test]
async fn a_delivery_rejected_on_a_plain_thread_reaches_the_dead_letters() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    bench.feed(1, "a");
    let delivery = next(&mut consumer, 1).await;
    let rejected = elsewhere(move || delivery.reject("bad")).await;
    ends(rejected).await.unwrap();
    assert_eq!(bench.script.plan().dead_letters, ["1"]);
    assert_eq!(bench.log(), ["1: ack 1"]);
}

#[tokio::test]
async fn the_last_attempt_dropped_on_a_plain_thread_reaches_the_dead_letters() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&TWICE).await;
    bench.feed(1, "a");
    for _ in 1..=2 {
        let delivery = next(&mut consumer, 1).await;
        elsewhere(move || drop(delivery)).await;
    }
    until(|| consumer.status().dead_lettered == 1).await;
    assert_eq!(bench.script.plan().dead_letters, ["1"]);
}

#[test]
fn deliveries_that_outlive_their_runtime_can_be_let_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bench, consumer, deliveries) = runtime.block_on(async {
        let bench = Bench::open(|_| {}).await;
        let mut consumer = bench.consumer(&PLAIN).await;
        let mut deliveries = Vec::new();
        for number in 1..=4 {
            bench.feed(number, "a");
            deliveries.push(next(&mut consumer, number).await);
        }
        (bench, consumer, deliveries)
    });
    drop(runtime);
    let ways: [fn(Delivery); 4] = [
        drop,
        |delivery| drop(delivery.ack()),
        |delivery| drop(delivery.retry(DEADLINE)),
        |delivery| drop(delivery.reject("bad")),
    ];
    for (delivery, way) in deliveries.into_iter().zip(ways) {
        way(delivery);
    }
    drop((consumer, bench));
}

#[tokio::test]
async fn handles_can_be_dropped_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for plain_thread in [false, true] {
            let bench = Bench::open(|plan| plan.withholds = true).await;
            let producer = bench.producer(&PLAIN).await;
            let mut consumer = bench.consumer(&PLAIN).await;
            (1..=2).for_each(|number| bench.feed(number, "a"));
            let held = next(&mut consumer, 1).await;
            let sending = begin(&producer, "a", "a1").await;
            let Bench { broker, script, .. } = bench;
            let mut handles: [Option<Box<dyn Any + Send>>; 3] =
                [Some(Box::new(broker)), Some(Box::new(producer)), Some(Box::new(consumer))];
            let mut dropping = move || order.into_iter().for_each(|at| drop(handles[at].take()));
            if plain_thread {
                elsewhere(dropping).await
            } else {
                dropping()
            }

            // The consumer leaves in order, though nobody waits; what is out can still be settled and sent.
            until(|| script.plan().logged("1: stop")).await;
            ends(held.ack()).await.unwrap();
            until(|| script.plan().logged("1: close")).await;
            assert_eq!(script.plan().log, ["1: stop", "1: ack 1", "1: release 2", "1: close"], "{order:?}");
            script.answer("a1", accepted());
            ends(sending).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_closed_broker_lets_its_adapter_go() {
    let bench = Bench::open(|_| {}).await;
    let producer = bench.producer(&PLAIN).await;
    let consumer = bench.consumer(&PLAIN).await;
    ends(producer.send(message("a", "a1"))).await.unwrap();
    ends(bench.broker.close()).await.unwrap();
    let script = bench.script.clone();
    drop((bench, producer, consumer));
    until(|| script.users() == 1).await;
}

#[tokio::test]
async fn an_adapter_that_nobody_uses_any_more_is_let_go() {
    let script = used_and_dropped(drop).await;
    until(|| script.users() == 1).await;
}

#[tokio::test]
async fn an_adapter_whose_last_user_is_a_plain_thread_is_let_go() {
    let script = used_and_dropped(|handles| thread::spawn(move || drop(handles)).join().unwrap()).await;
    until(|| script.users() == 1).await;
}

/// Gives everything that was opened to be dropped.
async fn used_and_dropped(dropping: fn((Bench, Producer, Consumer))) -> Script {
    let bench = Bench::open(|_| {}).await;
    let producer = bench.producer(&PLAIN).await;
    let consumer = bench.consumer(&PLAIN).await;
    ends(producer.send(message("a", "a1"))).await.unwrap();
    let script = bench.script.clone();
    dropping((bench, producer, consumer));
    script
}

/// Does that on a thread that knows no runtime.
async fn elsewhere<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(what);
    until(|| thread.is_finished()).await;
    thread.join().expect("it does not panic")
}
