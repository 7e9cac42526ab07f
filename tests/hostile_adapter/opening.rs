//! Opening against a client that does not return, and against an application that does not agree with itself.

use crate::bench::{Ask, Bench, DEADLINE, MOMENT, ORDERS, PLAIN, ends, failed, kind_of, message, turns};
use crate::script::Call;
use anybroker::Channel;
use anybroker::ErrorKind::{Closed, Conflict, Other, Timeout};
use anybroker::message::SendOutcome::NotSent;

#[tokio::test]
async fn a_send_that_has_to_open_its_channel_ends_at_its_deadline() {
    let bench = Bench::lazy(|_| {});
    bench.script.hang(Call::OpenSender);
    let broker = bench.broker.clone();
    let sending = tokio::spawn(async move { broker.send(&PLAIN, message("a", "a1")).await });
    turns().await;
    bench.advance(DEADLINE - MOMENT).await;
    assert!(!sending.is_finished(), "there is a moment left");
    bench.advance(MOMENT).await;
    let (error, body) = failed(sending).await;
    assert_eq!((error.kind(), error.outcome(), body.as_str()), (Timeout, Some(NotSent), "a1"));

    // The client opens after all: the next send needs not open again.
    bench.script.go_on(Call::OpenSender);
    ends(bench.broker.send(&PLAIN, message("a", "a2"))).await.unwrap();
    assert_eq!(bench.script.plan().batches, [["a2"]]);
}

#[tokio::test]
async fn a_request_ends_at_its_deadline_whatever_it_waits_for() {
    for call in [Some(Call::OpenSender), Some(Call::OpenReplies), Some(Call::SendBatch), None] {
        let bench = Bench::lazy(|_| {});
        call.into_iter().for_each(|call| bench.script.hang(call));
        let broker = bench.broker.clone();
        let asking = tokio::spawn(async move { broker.request(&PLAIN, &Ask).deadline(DEADLINE / 2).await });
        turns().await;
        bench.advance(DEADLINE / 2 - MOMENT).await;
        assert!(!asking.is_finished(), "there is a moment left, behind {call:?}");
        bench.advance(MOMENT).await;
        assert!(asking.is_finished(), "it waits for {call:?}");
        assert_eq!(kind_of(asking.await.unwrap()), Timeout);
    }
}

#[tokio::test]
async fn a_request_fails_when_the_client_panics_over_replies_and_the_next_has_an_address_of_its_own() {
    let bench = Bench::open(|plan| plan.panics = [Call::Receive].into()).await;
    assert_eq!(kind_of(ends(bench.broker.request(&PLAIN, &Ask)).await), Other);
    let broker = bench.broker.clone();
    let asking = tokio::spawn(async move { broker.request(&PLAIN, &Ask).await });
    bench.until(|plan| plan.receivers == 2).await;
    bench.advance(DEADLINE).await;
    assert_eq!(kind_of(ends(asking).await.unwrap()), Timeout);
}

#[tokio::test]
async fn producers_that_require_different_things_of_one_channel_are_a_conflict() {
    let bench = Bench::open(|_| {}).await;
    let first = bench.producer(&ORDERS).await;
    let conflict = bench.broker.producer(&Channel::point_to_point("orders")).await.expect_err("it conflicts");
    assert_eq!(conflict.kind(), Conflict);
    assert!(conflict.help().is_some(), "{conflict}");
    let more = Channel::point_to_point("orders").order_per_key().dead_letter_after(3);
    assert_eq!(kind_of(ends(bench.broker.send(&more, message("a", "a1"))).await), Conflict);
    // Who agrees is not disturbed.
    let again = bench.broker.producer(&Channel::point_to_point("orders").order_per_key()).await.unwrap();
    for producer in [first, again] {
        ends(producer.send(message("a", "a1"))).await.unwrap();
    }
    assert_eq!(bench.script.plan().senders, 1, "all producers of a channel are one");
}

#[tokio::test]
async fn an_opening_is_given_up_long_after_its_deadline() {
    let bench = Bench::open(|_| {}).await;
    bench.script.hang(Call::OpenSender);
    let broker = bench.broker.clone();
    let opening = tokio::spawn(async move { broker.producer(&PLAIN).await.map(drop) });
    turns().await;
    bench.advance(DEADLINE).await;
    assert!(!opening.is_finished(), "the client has time to keep its deadline itself");
    bench.advance(DEADLINE * 10).await;
    assert_eq!(kind_of(ends(opening).await.unwrap()), Timeout);
}

#[tokio::test]
async fn a_producer_that_opens_when_its_broker_has_closed_is_closed() {
    let bench = Bench::lazy(|_| {});
    bench.script.hang(Call::OpenSender);
    let broker = bench.broker.clone();
    let opening = tokio::spawn(async move { broker.producer(&PLAIN).await });
    turns().await;
    ends(bench.broker.close()).await.unwrap();
    bench.script.go_on(Call::OpenSender);
    assert_eq!(kind_of(ends(opening).await.unwrap()), Closed);
}
