//! Sends in the corners: deadlines that others' hide, flushes that others hold up, durations beyond all time.

use crate::bench::{Bench, DEADLINE, MOMENT, ORDERS, PLAIN, accepted, begin, ends, failed, turns};
use crate::script::{Call, disconnected};
use anybroker::Error;
use anybroker::ErrorKind::{Throttled, Timeout, Unavailable};
use anybroker::message::SendOutcome::{NotSent, Refused, Unknown};
use anybroker::status::State;
use std::time::Duration;

#[tokio::test]
async fn a_send_that_comes_back_after_the_deadline_of_others_ends_at_its_own() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.producer(&PLAIN).await;
    let first = begin(&producer, "a", "a1").await;
    bench.script.answer("a1", accepted());
    ends(first).await.unwrap().unwrap();
    bench.advance(DEADLINE / 2).await;
    let second = begin(&producer, "a", "a2").await;
    // The deadline of the first passes while the second is on its way.
    bench.advance(DEADLINE / 2 + MOMENT).await;
    bench.script.hang(Call::OpenSender);
    bench.script.answer("a2", Err(disconnected().with_outcome(Unknown)));
    turns().await;

    bench.advance(DEADLINE / 2 - 2 * MOMENT).await;
    assert!(!second.is_finished(), "there is a moment left");
    bench.advance(MOMENT).await;
    let (error, body) = failed(second).await;
    assert_eq!((error.kind(), error.outcome(), body.as_str()), (Timeout, Some(Unknown), "a2"));
}

#[tokio::test]
async fn a_flush_waits_for_nothing_that_began_after_it() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.producer(&PLAIN).await;
    let before = begin(&producer, "a", "1").await;
    let flushed = producer.clone();
    let flushing = tokio::spawn(async move { flushed.flush().await });
    turns().await;
    // From now on there is always something on its way.
    let after = begin(&producer, "b", "2").await;
    assert!(!flushing.is_finished(), "the first has no answer");
    bench.script.answer("1", accepted());
    ends(flushing).await.unwrap();
    ends(before).await.unwrap().unwrap();
    assert!(!after.is_finished());
    bench.script.answer("2", accepted());
    ends(after).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_send_may_have_all_the_time_there_is() {
    let bench = Bench::open(|_| {}).await;
    bench.script.hang(Call::SendBatch);
    let producer = bench.broker.producer(&PLAIN).deadline(Duration::MAX).await.unwrap();
    let on_its_way = begin(&producer, "a", "a1").await;
    let waiting = begin(&producer, "a", "a2").await;
    bench.advance(1000 * DEADLINE).await;
    assert!(!on_its_way.is_finished() && !waiting.is_finished());
    bench.script.go_on(Call::SendBatch);
    ends(on_its_way).await.unwrap().unwrap();
    ends(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_send_put_off_beyond_all_time_ends_at_its_deadline_and_others_go_on() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.producer(&ORDERS).await;
    let put_off = begin(&producer, "a", "a1").await;
    let later = Error::new(Throttled, "later").with_retry_after(Duration::MAX).with_outcome(Refused);
    bench.script.answer("a1", Err(later));
    bench.advance(DEADLINE - MOMENT).await;
    assert!(!put_off.is_finished(), "there is a moment left");
    bench.advance(MOMENT).await;
    let (error, _) = failed(put_off).await;
    assert_eq!((error.kind(), error.outcome()), (Timeout, Some(NotSent)), "the client has refused it");

    let next = begin(&producer, "a", "a2").await;
    bench.script.answer("a2", accepted());
    ends(next).await.unwrap().unwrap();
    assert_eq!(bench.script.plan().batches, [["a1"], ["a2"]]);
}

#[tokio::test]
async fn a_broker_that_was_never_there_is_not_connected() {
    let away = Error::new(Unavailable, "nobody is there");
    let bench = Bench::lazy(|plan| drop(plan.fails.insert(Call::OpenSender, away)));
    let broker = bench.broker.clone();
    let opening = tokio::spawn(async move { broker.producer(&PLAIN).await });
    turns().await;
    let status = bench.broker.status().borrow().brokers["main"].clone();
    assert_eq!(status.state, State::Reconnecting);
    assert!(status.reason.is_some_and(|reason| reason.contains("nobody is there")));
    // It comes.
    bench.advance(2 * DEADLINE).await;
    let _producer = ends(opening).await.unwrap().unwrap();
    assert_eq!(bench.broker.status().borrow().brokers["main"].state, State::Connected);
}
