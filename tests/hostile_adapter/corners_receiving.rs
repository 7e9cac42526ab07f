//! Consumers in the corners: what comes makes nothing ready, leases run out unseen, scopes go in the midst of settling.

use crate::bench::{
    Bench, DEADLINE, MOMENT, ORDERS, PLAIN, ends, kind_of, message, next, nothing, parcel, turns, until,
};
use crate::script::{Call, body};
use anybroker::ErrorKind::{LeaseLost, NotFound, Rejected, Unavailable};
use anybroker::adapter::{Clock, Event, Lease, Received, Scope, Token};
use anybroker::message::{Bytes, Text};
use anybroker::{Consumer, Delivery, Error};
use std::thread;
use std::time::Duration;
use tokio::task::JoinHandle;

const GOING: Scope = Scope::new(1);

#[tokio::test]
async fn other_keys_come_while_one_waits_behind_its_key() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed(1, "a");
    let running = next(&mut consumer, 1).await;
    let receiving = receive(consumer).await;
    // It makes nothing ready, and the application hears nothing of it.
    bench.feed(2, "a");
    turns().await;
    bench.feed(3, "b");
    let (other, mut consumer) = received(receiving, 3).await;
    ends(other.ack()).await.unwrap();
    ends(running.ack()).await.unwrap();
    ends(next(&mut consumer, 2).await.ack()).await.unwrap();
}

#[tokio::test]
async fn a_consumer_goes_on_after_what_cannot_be_decoded() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let receiving = receive(bench.consumer(&PLAIN).await).await;
    let error = Error::new(Rejected, "not a message");
    bench.script.feed(Received::undecodable(Bytes::from_static(b"rubbish"), error, Token::number(1)));
    bench.until(|plan| plan.dead_letters == ["rubbish"]).await;
    turns().await;
    bench.feed(2, "a");
    ends(received(receiving, 2).await.0.ack()).await.unwrap();
    assert_eq!(bench.log(), ["1: ack 1", "1: ack 2"]);
}

#[tokio::test]
async fn a_consumer_goes_on_after_the_broker_was_unavailable() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let receiving = receive(bench.consumer(&PLAIN).await).await;
    bench.script.plan().fails.insert(Call::Receive, Error::new(Unavailable, "later"));
    bench.script.wake();
    bench.until(|plan| plan.fails.is_empty()).await;
    // As long as it backs off at most.
    bench.advance(2 * DEADLINE).await;
    bench.feed(1, "a");
    ends(received(receiving, 1).await.0.ack()).await.unwrap();
}

#[tokio::test]
async fn the_room_of_leases_that_ran_out_is_used() {
    for at_once in [true, false] {
        let bench = Bench::open(|plan| plan.receives_at_once = at_once).await;
        let mut consumer = bench.broker.consumer(&PLAIN).prefetch(2).await.unwrap();
        let lease = || Lease::until(bench.clock.now() + DEADLINE);
        (1..=2).for_each(|number| bench.script.feed(parcel(number, "a").with_lease(lease())));
        until(|| consumer.status().unsettled == 2).await;
        // Nobody receives meanwhile, so nobody but the clock says that there is room.
        bench.advance(DEADLINE).await;
        until(|| consumer.status().unsettled == 0).await;
        bench.feed(3, "a");
        ends(next(&mut consumer, 3).await.ack()).await.unwrap();
        assert_eq!(consumer.status().lost, 2);
    }
}

#[tokio::test]
async fn a_revoked_scope_is_released_behind_its_last_settlement() {
    for at_once in [true, false] {
        let bench = Bench::open(|plan| plan.receives_at_once = at_once).await;
        let mut consumer = bench.consumer(&PLAIN).await;
        let deliveries = take_of_scope(&bench, &mut consumer, 32).await;
        revoke(&bench);
        turns().await;
        deliveries.into_iter().for_each(|delivery| drop(delivery.ack()));
        bench.until(|plan| plan.logged("1: release scope 1")).await;
        let expected: Vec<_> = (0..32).map(|number| format!("1: ack {number}")).collect();
        let log = bench.log();
        assert_eq!(log.split_last().unwrap(), (&"1: release scope 1".to_owned(), &*expected));
        assert_eq!(consumer.status().failed_settlements, 0);
    }
}

#[tokio::test]
async fn a_revoked_scope_stays_while_its_settlement_is_on_its_way() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    let deliveries = take_of_scope(&bench, &mut consumer, 1).await;
    bench.script.hang(Call::Settle);
    deliveries.into_iter().for_each(|delivery| drop(delivery.ack()));
    bench.until(|plan| plan.logged("1: ack 0")).await;
    revoke(&bench);
    turns().await;
    assert_eq!(bench.log(), ["1: ack 0"], "the client has not answered");
    bench.script.go_on(Call::Settle);
    bench.until(|plan| plan.logged("1: release scope 1")).await;
    assert_eq!(consumer.status().failed_settlements, 0);
}

#[tokio::test]
async fn an_event_never_calls_the_client_back() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    // More go with the scope than the application may settle by itself in one go.
    (0..100).for_each(|number| bench.script.feed(parcel(number, "a").with_scope(GOING)));
    let running = next(&mut consumer, 0).await;
    until(|| consumer.status().unsettled == 100).await;
    revoke(&bench);
    assert!(bench.log().is_empty(), "the client may hold its locks while it tells: {:?}", bench.log());
    turns().await;
    assert_eq!(bench.log().len(), 99, "they go on a task of the consumer's own");
    ends(running.ack()).await.unwrap();
}

#[tokio::test]
async fn a_failed_settlement_says_so_after_a_flush_has() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    bench.feed(1, "a");
    let delivery = next(&mut consumer, 1).await;
    bench.script.hang(Call::Settle);
    let settling = delivery.ack();
    bench.until(|plan| plan.logged("1: ack 1")).await;
    bench.script.cut();
    ends(consumer.flush()).await.unwrap_err();
    ends(settling).await.unwrap_err();
}

#[tokio::test]
async fn a_retry_beyond_all_time_parks_its_delivery() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed(1, "a");
    ends(next(&mut consumer, 1).await.retry(Duration::MAX)).await.unwrap();
    bench.advance(1000 * DEADLINE).await;
    nothing(&mut consumer).await;
    assert_eq!(consumer.status().parked, 1);
    bench.feed(2, "b");
    ends(next(&mut consumer, 2).await.ack()).await.unwrap();
    assert_eq!(ends(bench.broker.close()).await.unwrap().given_back, 1);
}

#[tokio::test]
async fn what_the_client_declines_to_settle_at_once_never_reaches_the_next_receiver() {
    let bench = Bench::open(|plan| plan.receives_at_once = true).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    // So many are settled at once on the thread of the last.
    let run = 64;
    (0..run).for_each(|number| bench.feed(number, "a"));
    let mut deliveries = Vec::new();
    for number in 0..run {
        deliveries.push(next(&mut consumer, number).await);
    }
    let release = bench.script.detain(Call::Settle);
    let settling = thread::spawn(move || deliveries.into_iter().map(Delivery::ack).collect::<Vec<_>>());
    // Meanwhile the runtime stands still, so that the consumer's own task settles nothing.
    while !bench.script.plan().logged("1: detained") {
        assert!(!settling.is_finished(), "it does not settle on its thread");
        thread::yield_now();
    }
    bench.script.plan().receives_at_once = false;
    bench.script.cut();
    nothing(&mut consumer).await;
    bench.until(|plan| plan.receivers == 2).await;
    release.send(()).unwrap();
    until(|| settling.is_finished()).await;
    for settlement in settling.join().unwrap() {
        assert_eq!(kind_of(ends(settlement).await), LeaseLost);
    }
    turns().await;
    assert_eq!(bench.log(), ["1: detained"]);
    assert_eq!(consumer.status().failed_settlements, run);
}

#[tokio::test]
async fn a_reply_to_a_requester_that_is_gone_leaves_nothing_behind() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    turns().await;
    let before = bench.script.users();
    for number in 0..10 {
        let mut question = message("a", &number.to_string());
        question.set_reply_to(Text::from(format!("requester {number}").as_str()));
        bench.script.feed(Received::new(question, Token::number(number)));
        let delivery = next(&mut consumer, number).await;
        let replying = tokio::spawn(async move { (delivery.reply(message("a", "answer")).await, delivery) });
        bench.until(|plan| plan.batches.len() as u64 == number + 1).await;
        assert!(bench.script.users() > before, "it has a sender");
        bench.script.answer("answer", Err(Error::new(NotFound, "there is no such address")));
        let (replied, delivery) = ends(replying).await.unwrap();
        assert_eq!(kind_of(replied), NotFound);
        ends(delivery.ack()).await.unwrap();
        bench.advance(MOMENT).await;
        until(|| bench.script.users() == before).await;
    }
}

/// Begins to wait for the next delivery.
async fn receive(mut consumer: Consumer) -> JoinHandle<(Delivery, Consumer)> {
    let receiving = tokio::spawn(async move {
        let delivery = consumer.receive().await.unwrap().expect("the consumer is open");
        (delivery, consumer)
    });
    turns().await;
    receiving
}

/// What that has waited for.
async fn received(receiving: JoinHandle<(Delivery, Consumer)>, number: u64) -> (Delivery, Consumer) {
    let (delivery, consumer) = ends(receiving).await.unwrap();
    assert_eq!(body(delivery.message()), number.to_string());
    (delivery, consumer)
}

async fn take_of_scope(bench: &Bench, consumer: &mut Consumer, count: u64) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for number in 0..count {
        bench.script.feed(parcel(number, "a").with_scope(GOING));
        deliveries.push(next(consumer, number).await);
    }
    deliveries
}

fn revoke(bench: &Bench) {
    let deadline = bench.clock.now() + DEADLINE;
    bench.script.events().report(Event::Revoking { scope: GOING, deadline });
}
