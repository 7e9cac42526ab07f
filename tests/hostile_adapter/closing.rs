//! Closing against a client that does not return.

use crate::bench::{Ask, Bench, DEADLINE, ORDERS, PLAIN, begin, ends, failed, kind_of, message, next, turns};
use crate::script::{Call, body};
use anybroker::ErrorKind::Closed;
use anybroker::adapter::{Received, Token};
use anybroker::message::SendOutcome::{NotSent, Unknown};
use anybroker::message::Text;
use anybroker::{Broker, Result};
use tokio::task::JoinHandle;

#[tokio::test]
async fn close_ends_at_its_deadline_behind_a_client_that_takes_nothing() {
    let bench = Bench::open(|_| {}).await;
    bench.script.hang(Call::SendBatch);
    let producer = bench.broker.producer(&ORDERS).deadline(2 * DEADLINE).await.unwrap();
    let handed_over = begin(&producer, "a", "a1").await;
    let waiting = begin(&producer, "b", "b1").await;
    let closing = close(&bench.broker).await;
    bench.advance(DEADLINE).await;
    assert_eq!(ends(closing).await.unwrap().unwrap().unsent, 2);
    let (error, body) = failed(handed_over).await;
    assert_eq!((error.kind(), error.outcome(), body.as_str()), (Closed, Some(Unknown), "a1"));
    let (error, body) = failed(waiting).await;
    assert_eq!((error.kind(), error.outcome(), body.as_str()), (Closed, Some(NotSent), "b1"));
}

#[tokio::test]
async fn close_ends_behind_a_client_that_closes_nothing() {
    let bench = Bench::open(|_| {}).await;
    let producer = bench.producer(&ORDERS).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    (1..=3).for_each(|number| bench.feed(number, "a"));
    let settled = next(&mut consumer, 1).await;
    let calls = [Call::Settle, Call::Stop, Call::CloseReceiver, Call::CloseSender, Call::CloseAdapter];
    calls.into_iter().for_each(|call| bench.script.hang(call));
    let settling = settled.ack();
    bench.until(|plan| plan.logged("1: ack 1")).await;
    let _held = next(&mut consumer, 2).await;
    let closing = close(&bench.broker).await;
    // The consumer may take its deadline, and each call of the client one for itself.
    for _ in 0..=calls.len() {
        bench.advance(DEADLINE).await;
    }
    assert!(closing.is_finished(), "it waits for the client");
    assert_eq!(closing.await.unwrap().unwrap().given_back, 2);
    ends(settling).await.expect_err("the client has not answered");
    assert_eq!(kind_of(ends(producer.send(message("a", "a1"))).await), Closed);
}

#[tokio::test]
async fn close_ends_behind_a_return_address_that_does_not_close() {
    let bench = Bench::open(|_| {}).await;
    let broker = bench.broker.clone();
    let asking = tokio::spawn(async move { broker.request(&PLAIN, &Ask).await });
    bench.until(|plan| plan.receivers == 1 && plan.batches.len() == 1).await;
    bench.script.hang(Call::Stop);
    let closing = close(&bench.broker).await;
    for _ in 0..4 {
        bench.advance(DEADLINE).await;
    }
    assert!(closing.is_finished(), "it waits for the client");
    ends(asking).await.unwrap().expect_err("nobody answers");
}

#[tokio::test]
async fn close_ends_behind_a_return_address_that_does_not_open() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    let mut question = message("a", "1");
    question.set_reply_to(Text::from("there"));
    bench.script.feed(Received::new(question, Token::number(1)));
    let delivery = next(&mut consumer, 1).await;
    bench.script.hang(Call::OpenSender);
    let replying = tokio::spawn(async move { delivery.reply(message("a", "answer")).await });
    turns().await;
    let closing = close(&bench.broker).await;
    for _ in 0..4 {
        bench.advance(DEADLINE).await;
    }
    assert!(replying.is_finished(), "it has no end");
    assert!(closing.is_finished(), "it waits for the client");
}

#[tokio::test]
async fn close_ends_although_a_dead_receiver_still_settles() {
    let bench = Bench::open(|plan| plan.settles_dead = true).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    bench.feed(1, "a");
    let delivery = next(&mut consumer, 1).await;
    bench.script.hang(Call::Settle);
    let settled = delivery.ack();
    bench.until(|plan| plan.logged("1: ack 1")).await;
    bench.script.cut();
    turns().await;
    let closing = tokio::spawn(async move { consumer.close().await });
    turns().await;
    bench.advance(DEADLINE).await;
    ends(closing).await.unwrap().unwrap();
    ends(settled).await.unwrap_err();
}

#[tokio::test]
async fn closing_twice_at_once_gives_one_answer() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    (1..=2).for_each(|number| bench.feed(number, "a"));
    let running = next(&mut consumer, 1).await;
    let (first, second) = (close(&bench.broker).await, close(&bench.broker).await);
    assert!(!first.is_finished() && !second.is_finished(), "a delivery is out");
    ends(running.ack()).await.unwrap();
    let first = ends(first).await.unwrap().unwrap();
    assert_eq!(first.given_back, 1);
    assert_eq!(ends(second).await.unwrap().unwrap(), first);
    assert_eq!(ends(bench.broker.close()).await.unwrap(), first);
    let closes = bench.log().iter().filter(|line| line.ends_with("close")).count();
    assert_eq!(closes, 1, "everything is closed once");
}

#[tokio::test]
async fn a_close_that_nobody_waits_for_goes_on() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed(1, "a");
    let running = next(&mut consumer, 1).await;
    let closing = close(&bench.broker).await;
    closing.abort();
    ends(running.ack()).await.unwrap();
    bench.until(|plan| plan.closed).await;
    assert_eq!(ends(bench.broker.close()).await.unwrap().given_back, 0);
}

#[tokio::test]
async fn a_send_after_close_is_closed_and_gives_its_message_back() {
    let bench = Bench::open(|_| {}).await;
    let producer = bench.producer(&PLAIN).await;
    ends(bench.broker.close()).await.unwrap();
    let (one, another) = (message("a", "a1"), message("b", "b1"));
    let mut results = ends(producer.send_all([one, another])).await;
    results.push(ends(producer.send(message("c", "c1"))).await);
    for (result, sent) in results.into_iter().zip(["a1", "b1", "c1"]) {
        let error = result.expect_err("it is closed");
        assert_eq!((error.kind(), error.outcome()), (Closed, Some(NotSent)));
        assert_eq!(body(&error.into_message().expect("the message comes back")), sent);
    }
    assert!(bench.script.plan().batches.is_empty());
}

#[tokio::test]
async fn a_send_of_a_closed_broker_is_closed_and_gives_its_message_back() {
    let bench = Bench::open(|_| {}).await;
    ends(bench.broker.close()).await.unwrap();
    let error = bench.broker.send(&PLAIN, message("a", "a1")).await.expect_err("it is closed");
    assert_eq!((error.kind(), error.outcome()), (Closed, Some(NotSent)));
    assert_eq!(body(&error.into_message().expect("the message comes back")), "a1");
}

#[tokio::test]
async fn what_a_closed_broker_is_asked_for_is_closed() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    ends(bench.broker.close()).await.unwrap();
    assert!(ends(consumer.receive()).await.unwrap().is_none());
    assert_eq!(kind_of(bench.broker.producer(&PLAIN).await), Closed);
    assert_eq!(kind_of(bench.broker.consumer(&PLAIN).await), Closed);
    assert_eq!(kind_of(bench.broker.health().await), Closed);
}

#[tokio::test]
async fn a_delivery_that_outlasts_the_close_deadline_is_settled_no_more() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&PLAIN).await;
    (1..=4).for_each(|number| bench.feed(number, "a"));
    let [acked, retried, rejected, _dropped] = [
        next(&mut consumer, 1).await,
        next(&mut consumer, 2).await,
        next(&mut consumer, 3).await,
        next(&mut consumer, 4).await,
    ];
    let closing = close(&bench.broker).await;
    bench.advance(DEADLINE).await;
    assert_eq!(ends(closing).await.unwrap().unwrap().given_back, 4);
    for settled in [acked.ack(), retried.retry(DEADLINE), rejected.reject("late")] {
        assert_eq!(kind_of(ends(settled).await), Closed);
    }
    assert_eq!(bench.log(), ["1: stop", "1: close"]);
    assert!(bench.script.plan().dead_letters.is_empty(), "it comes again, so it is not a dead letter");
}

/// Begins to close.
async fn close(broker: &Broker) -> JoinHandle<Result<anybroker::status::Closed>> {
    let broker = broker.clone();
    let closing = tokio::spawn(async move { broker.close().await });
    turns().await;
    closing
}
