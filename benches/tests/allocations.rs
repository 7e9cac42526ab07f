//! Gates on heap allocations per message: exact, and the same on a busy machine. One test, because the counter counts the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anybroker::{Broker, Channel, Consumer, Message, Producer};
use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ORDERS: Channel = Channel::point_to_point("orders");

/// So many messages that what grows with them, and then stays, counts for nothing.
const MESSAGES: usize = 64 * 400;
const BATCH: usize = 64;

/// For a message sent alone, received and acknowledged.
const MOST_ALONE: f64 = 3.0;
/// For a message of a batch.
const MOST_BATCHED: f64 = 0.2;

#[tokio::test]
async fn a_message_costs_few_allocations() {
    let broker = Broker::connect("memory://").await.unwrap();
    let producer = broker.producer(&ORDERS).await.unwrap();
    let mut consumer = broker.consumer(&ORDERS).await.unwrap();
    let payload = Bytes::from_static(&[7; 64]);

    one_by_one(&producer, &mut consumer, &payload).await;
    let counting = Region::new(ALLOCATOR);
    one_by_one(&producer, &mut consumer, &payload).await;
    let alone = per_message(&counting);

    in_batches(&producer, &mut consumer, &payload).await;
    let counting = Region::new(ALLOCATOR);
    in_batches(&producer, &mut consumer, &payload).await;
    let batched = per_message(&counting);

    println!("allocations per message on memory: {alone:.3} alone, {batched:.3} in batches of {BATCH}");
    assert!(alone <= MOST_ALONE, "{alone} for a message alone, {MOST_ALONE} allowed");
    assert!(batched <= MOST_BATCHED, "{batched} for a message of a batch, {MOST_BATCHED} allowed");
}

/// Sends the next message once the one before is acknowledged.
async fn one_by_one(producer: &Producer, consumer: &mut Consumer, payload: &Bytes) {
    for _ in 0..MESSAGES {
        producer.send(Message::new(payload.clone())).await.unwrap();
        receive(consumer).await;
    }
    consumer.flush().await.unwrap();
}

async fn in_batches(producer: &Producer, consumer: &mut Consumer, payload: &Bytes) {
    for _ in 0..MESSAGES / BATCH {
        let batch = (0..BATCH).map(|_| Message::new(payload.clone()));
        for result in producer.send_all(batch).await {
            result.unwrap();
        }
        for _ in 0..BATCH {
            receive(consumer).await;
        }
    }
    consumer.flush().await.unwrap();
}

async fn receive(consumer: &mut Consumer) {
    let delivery = consumer.receive().await.unwrap().unwrap();
    drop(delivery.ack());
}

fn per_message(counting: &Region<'_, System>) -> f64 {
    let change = counting.change();
    (change.allocations + change.reallocations) as f64 / MESSAGES as f64
}
