//! Sends against a client that takes nothing, answers late, or loses its connection.

use crate::bench::{Bench, DEADLINE, MOMENT, ORDERS, accepted, begin, ends, failed, message, turns};
use crate::script::{Call, disconnected};
use anybroker::ErrorKind::{Rejected, Throttled, Timeout, Unauthorized};
use anybroker::adapter::InFlightPerKey::{Any, One};
use anybroker::message::SendOutcome::{self, NotSent, Refused, Unknown};
use anybroker::{Error, ErrorKind};
use std::time::Duration;

#[tokio::test]
async fn a_send_behind_a_hanging_client_ends_at_its_deadline() {
    let bench = Bench::open(|plan| plan.in_flight = Any).await;
    bench.script.hang(Call::SendBatch);
    let producer = bench.producer(&ORDERS).await;
    let first = begin(&producer, "a", "a1").await;
    bench.advance(Duration::from_secs(10)).await;
    let second = begin(&producer, "b", "b1").await;

    bench.advance(Duration::from_secs(20) - MOMENT).await;
    assert!(!first.is_finished(), "there is a moment left");
    bench.advance(MOMENT).await;
    assert_eq!(told(failed(first).await), (Timeout, Unknown, "a1".into()), "the client may have sent it");

    bench.advance(Duration::from_secs(10) - MOMENT).await;
    assert!(!second.is_finished(), "there is a moment left");
    bench.advance(MOMENT).await;
    assert_eq!(told(failed(second).await), (Timeout, NotSent, "b1".into()));
}

#[tokio::test]
async fn a_send_that_waits_for_a_new_connection_ends_at_its_deadline() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.producer(&ORDERS).await;
    let lost = begin(&producer, "a", "a1").await;
    bench.script.hang(Call::OpenSender);
    bench.script.answer("a1", Err(disconnected().with_outcome(NotSent)));
    turns().await;
    let waiting = begin(&producer, "b", "b1").await;

    bench.advance(DEADLINE - MOMENT).await;
    assert!(!lost.is_finished() && !waiting.is_finished(), "there is a moment left");
    bench.advance(MOMENT).await;
    for (send, body) in [(lost, "a1"), (waiting, "b1")] {
        assert_eq!(told(failed(send).await), (Timeout, NotSent, body.into()));
    }
}

#[tokio::test]
async fn a_batch_of_a_dead_sender_that_nobody_waits_for_leaves_its_key_and_the_window_free() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.broker.producer(&ORDERS).window(2, 1000).await.unwrap();
    let silent = begin(&producer, "a", "a1").await;
    let lost = begin(&producer, "b", "b1").await;
    // The connection is gone, and the client never says what became of a1.
    bench.script.answer("b1", Err(disconnected().with_outcome(Unknown)));
    turns().await;
    assert_eq!(bench.script.plan().senders, 1, "no new sender as long as somebody waits for the old one");
    bench.advance(DEADLINE).await;
    assert_eq!(told(failed(silent).await), (Timeout, Unknown, "a1".into()));
    assert_eq!(told(failed(lost).await), (Timeout, Unknown, "b1".into()));

    let key = begin(&producer, "a", "a2").await;
    let other = begin(&producer, "c", "c1").await;
    let both = ["a2", "c1"];
    assert!(both.iter().all(|body| bench.script.plan().has(body)), "the key and the window are free");
    both.iter().for_each(|body| bench.script.answer(body, accepted()));
    ends(key).await.unwrap().unwrap();
    ends(other).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_flush_behind_a_batch_of_a_dead_sender_ends_when_nobody_waits_for_that_any_more() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.producer(&ORDERS).await;
    let silent = begin(&producer, "a", "a1").await;
    let lost = begin(&producer, "b", "b1").await;
    bench.script.answer("b1", Err(disconnected().with_outcome(Unknown)));
    bench.advance(DEADLINE).await;
    failed(silent).await;
    failed(lost).await;
    ends(producer.flush()).await;
}

#[tokio::test]
async fn a_failure_that_is_not_decided_yet_is_told_at_its_deadline() {
    let bench = Bench::open(|plan| (plan.in_flight, plan.withholds) = (Any, true)).await;
    let producer = bench.producer(&ORDERS).await;
    let patient = bench.broker.producer(&ORDERS).deadline(2 * DEADLINE).await.unwrap();
    let first = begin(&producer, "a", "a1").await;
    let follower = begin(&patient, "a", "a2").await;
    // Whether a1 goes again depends on a2, which is on its way.
    bench.script.answer("a1", Err(throttled()));
    bench.advance(DEADLINE - MOMENT).await;
    assert!(!first.is_finished(), "not decided yet");
    bench.advance(MOMENT).await;
    assert_eq!(told(failed(first).await), (Throttled, Refused, "a1".into()));

    bench.script.answer("a2", accepted());
    ends(follower).await.unwrap().unwrap();
    let sent = bench.script.plan().batches.concat();
    assert_eq!(sent, ["a1", "a2"], "what was overtaken and is told does not go again");
}

#[tokio::test]
async fn a_failure_that_is_not_decided_yet_is_told_at_close() {
    let bench = Bench::open(|plan| (plan.in_flight, plan.withholds) = (Any, true)).await;
    let patient = bench.broker.producer(&ORDERS).deadline(2 * DEADLINE).await.unwrap();
    let first = begin(&patient, "a", "a1").await;
    let follower = begin(&patient, "a", "a2").await;
    bench.script.answer("a1", Err(throttled()));
    let broker = bench.broker.clone();
    let closing = tokio::spawn(async move { broker.close().await });
    turns().await;
    bench.advance(DEADLINE).await;
    assert_eq!(told(failed(first).await), (Throttled, Refused, "a1".into()));
    assert_eq!(told(failed(follower).await), (ErrorKind::Closed, Unknown, "a2".into()));
    ends(closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_of_a_key_is_in_flight_though_the_client_takes_all_at_once() {
    let bench = Bench::open(|plan| (plan.in_flight, plan.sends_at_once) = (One, true)).await;
    let producer = bench.producer(&ORDERS).await;
    let sent = producer.send_all(["a1", "a2", "a3"].map(|body| message("a", body)));
    for result in ends(sent).await {
        result.unwrap();
    }
    assert_eq!(bench.script.plan().batches, [["a1"], ["a2"], ["a3"]]);
}

#[tokio::test]
async fn a_timeout_in_flight_fails_what_waits_behind_it_with_its_key() {
    let bench = Bench::open(|plan| (plan.in_flight, plan.withholds) = (Any, true)).await;
    let hasty = bench.broker.producer(&ORDERS).window(1, 1000).deadline(DEADLINE / 3).await.unwrap();
    let patient = bench.producer(&ORDERS).await;
    let late = begin(&hasty, "a", "a1").await;
    let follower = begin(&patient, "a", "a2").await;
    let other = begin(&patient, "b", "b1").await;
    assert!(!bench.script.plan().has("a2"), "the window is full");

    bench.advance(DEADLINE / 3).await;
    assert_eq!(told(failed(late).await), (Timeout, Unknown, "a1".into()));
    assert_eq!(told(failed(follower).await), (Rejected, NotSent, "a2".into()));
    assert!(!other.is_finished(), "another key waits on");

    bench.script.answer("a1", accepted());
    bench.until(|plan| plan.has("b1")).await;
    bench.script.answer("b1", accepted());
    ends(other).await.unwrap().unwrap();
    assert!(!bench.script.plan().has("a2"), "it would come after a1 if that was sent again");
}

#[tokio::test]
async fn what_a_loss_leaves_unknown_goes_again_before_anything_new() {
    let bench = Bench::open(|plan| (plan.in_flight, plan.withholds) = (Any, true)).await;
    let producer = bench.producer(&ORDERS).await;
    let first = begin(&producer, "a", "a1").await;
    let second = begin(&producer, "a", "a2").await;
    bench.script.hang(Call::OpenSender);
    // The answers come in any order.
    for body in ["a2", "a1"] {
        bench.script.answer(body, Err(disconnected().with_outcome(Unknown)));
        turns().await;
    }
    let third = begin(&producer, "a", "a3").await;
    bench.script.plan().withholds = false;
    bench.script.go_on(Call::OpenSender);
    for send in [first, second, third] {
        ends(send).await.unwrap().unwrap();
    }
    assert_eq!(bench.script.plan().batches.concat(), ["a1", "a2", "a1", "a2", "a3"]);
}

#[tokio::test]
async fn a_refusal_after_a_try_without_an_answer_is_unknown() {
    let bench = Bench::open(|plan| plan.withholds = true).await;
    let producer = bench.producer(&ORDERS).await;
    let send = begin(&producer, "a", "a1").await;
    bench.script.answer("a1", Err(disconnected().with_outcome(Unknown)));
    bench.until(|plan| plan.batches.len() == 2).await;
    let refused = Error::new(Unauthorized, "the right is gone").with_outcome(NotSent);
    bench.script.answer("a1", Err(refused));
    let (kind, outcome, _) = told(failed(send).await);
    assert_eq!((kind, outcome), (Unauthorized, Unknown), "the first try may have arrived");
}

#[tokio::test]
async fn sends_end_when_the_client_panics() {
    let bench = Bench::open(|_| {}).await;
    let producer = bench.producer(&ORDERS).await;
    bench.script.hang(Call::SendBatch);
    let handed_over = begin(&producer, "a", "a1").await;
    let waiting = begin(&producer, "b", "b1").await;
    bench.script.plan().panics.insert(Call::SendBatch);
    bench.script.go_on(Call::SendBatch);
    let lost = ends(handed_over).await.unwrap().unwrap_err();
    assert_eq!(lost.outcome(), Some(Unknown));
    assert_eq!(told(failed(waiting).await), (ErrorKind::Other, NotSent, "b1".into()));
    ends(producer.flush()).await;
    let late = begin(&producer, "a", "a2").await;
    assert_eq!(told(failed(late).await), (ErrorKind::Closed, NotSent, "a2".into()));
    let another = bench.producer(&ORDERS).await;
    ends(begin(&another, "a", "a3").await).await.unwrap().unwrap();
    ends(bench.broker.close()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_breaks_at_every_send_is_not_opened_without_pause() {
    let bench = Bench::open(|plan| plan.loses_sends = true).await;
    let producer = bench.producer(&ORDERS).await;
    let send = begin(&producer, "a", "a1").await;
    for _ in 0..10 {
        turns().await;
    }
    assert!(!send.is_finished(), "there is time left");
    // Time stands still: what is tried now is tried without a pause.
    let tries = bench.script.plan().senders;
    assert!(tries <= 3, "opened {tries} times in no time");
}

fn throttled() -> Error {
    Error::new(Throttled, "slowly").with_outcome(Refused)
}

/// What a failed send tells.
fn told((error, body): (Error, String)) -> (ErrorKind, SendOutcome, String) {
    (error.kind(), error.outcome().expect("a send has an outcome"), body)
}
