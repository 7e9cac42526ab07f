//! Scopes that the broker takes away: nothing of them is handed out, and what is held goes first.

use crate::bench::{Bench, DEADLINE, MOMENT, ORDERS, ends, kind_of, next, nothing, parcel, turns, until};
use crate::script::Call;
use anybroker::ErrorKind::LeaseLost;
use anybroker::adapter::{Clock, Event, Lease, Scope};
use std::time::Duration;

const GOING: Scope = Scope::new(1);
const STAYING: Scope = Scope::new(2);

impl Bench {
    fn feed_in(&self, scope: Scope, number: u64, key: &str) {
        self.script.feed(parcel(number, key).with_scope(scope));
    }

    fn feed_leased_in(&self, scope: Scope, number: u64, key: &str) {
        let lease = Lease::until(self.clock.now() + DEADLINE).extendable_by(DEADLINE);
        self.script.feed(parcel(number, key).with_scope(scope).with_lease(lease));
    }

    fn revoke(&self) {
        let deadline = self.clock.now() + DEADLINE;
        self.script.events().report(Event::Revoking { scope: GOING, deadline });
    }
}

#[tokio::test]
async fn what_waits_of_a_revoked_scope_goes_before_the_scope() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed_in(GOING, 1, "a");
    bench.feed_in(GOING, 2, "a");
    bench.feed_in(GOING, 3, "b");
    let running = next(&mut consumer, 1).await;
    bench.revoke();
    nothing(&mut consumer).await;
    assert_eq!(bench.log(), ["1: release 2", "1: release 3"], "uncounted, as nobody has seen them");
    ends(running.ack()).await.unwrap();
    bench.until(|plan| plan.logged("1: release scope 1")).await;
    assert_eq!(bench.log(), ["1: release 2", "1: release 3", "1: ack 1", "1: release scope 1"]);
    assert_eq!(consumer.status().unsettled, 0);
}

#[tokio::test]
async fn what_is_on_its_way_when_its_scope_is_revoked_is_given_back() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed_in(GOING, 1, "a");
    let running = next(&mut consumer, 1).await;
    bench.revoke();
    bench.feed_in(GOING, 2, "b");
    bench.feed_leased_in(GOING, 3, "c");
    bench.feed_in(STAYING, 4, "d");
    let other = next(&mut consumer, 4).await;
    nothing(&mut consumer).await;
    assert_eq!(bench.log(), ["1: release 2", "1: release 3"]);
    ends(running.ack()).await.unwrap();
    ends(other.ack()).await.unwrap();
    assert_eq!(consumer.status().unsettled, 0);
}

#[tokio::test]
async fn a_leased_delivery_that_goes_with_its_scope_leaves_its_key_free() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    // The key's turn is one of the scope that goes, and its follower is not.
    bench.feed_leased_in(GOING, 1, "a");
    bench.feed_leased_in(STAYING, 2, "a");
    until(|| consumer.status().unsettled == 2).await;
    bench.revoke();
    let delivery = next(&mut consumer, 2).await;
    ends(delivery.ack()).await.unwrap();
    // The same where the key has no follower yet.
    bench.feed_leased_in(STAYING, 3, "a");
    ends(next(&mut consumer, 3).await.ack()).await.unwrap();
    assert_eq!(consumer.status().unsettled, 0);
}

#[tokio::test]
async fn a_leased_delivery_keeps_its_scope_while_it_is_handled() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed_leased_in(GOING, 1, "a");
    let running = next(&mut consumer, 1).await;
    bench.revoke();
    turns().await;
    assert!(bench.log().is_empty());
    ends(running.ack()).await.unwrap();
    bench.until(|plan| plan.logged("1: release scope 1")).await;
    assert_eq!(bench.log(), ["1: ack 1", "1: release scope 1"]);
}

#[tokio::test]
async fn a_retry_in_a_revoked_scope_is_given_back_and_not_handed_out() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed_in(GOING, 1, "a");
    let running = next(&mut consumer, 1).await;
    bench.revoke();
    // The client takes its time, and the application is quick.
    bench.script.hang(Call::Settle);
    drop(running.retry(Duration::ZERO));
    nothing(&mut consumer).await;
    bench.script.go_on(Call::Settle);
    bench.until(|plan| plan.logged("1: release scope 1")).await;
    assert_eq!(bench.log().first().map(String::as_str), Some("1: hold 1"), "with its count");
    nothing(&mut consumer).await;
}

#[tokio::test]
async fn a_handler_that_outlasts_the_revocation_loses_its_delivery() {
    let bench = Bench::open(|_| {}).await;
    let mut consumer = bench.consumer(&ORDERS).await;
    bench.feed_in(GOING, 1, "a");
    let running = next(&mut consumer, 1).await;
    bench.revoke();
    bench.advance(DEADLINE - MOMENT).await;
    assert!(!running.is_lost());
    // At the deadline the adapter takes the scope.
    bench.advance(MOMENT).await;
    let lost = running.lost();
    bench.script.events().report(Event::Lost { scope: GOING });
    ends(lost).await;
    assert_eq!(kind_of(ends(running.ack()).await), LeaseLost);
    turns().await;
    assert!(bench.log().is_empty(), "there is nothing left to settle or to release");
    bench.feed_in(STAYING, 2, "a");
    ends(next(&mut consumer, 2).await.ack()).await.unwrap();
}
