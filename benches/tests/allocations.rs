//! Gates on heap allocations per message: exact, and the same on a busy machine. One test, because the counter counts the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use anybroker::{Broker, Channel, Consumer, Context, Failure, Message, Producer, Service};
use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Arc;
use tokio::sync::Semaphore;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ORDERS: Channel = Channel::point_to_point("orders");
static SERVED: Channel = Channel::point_to_point("served");

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

    let handled = Arc::new(Semaphore::new(0));
    let service = Service::new("kitchen").with_state(Arc::clone(&handled)).fallback(&SERVED, serve);
    let running = service.start(&broker).await.unwrap();
    let served = broker.producer(&SERVED).await.unwrap();

    let mut counted = [0.0; 4];
    for round in ["warming up", "counting"] {
        let counting = Region::new(ALLOCATOR);
        one_by_one(&producer, &mut consumer, &payload).await;
        counted[0] = per_message(&counting);

        let counting = Region::new(ALLOCATOR);
        sent_in_batches(&producer, &mut consumer, &payload).await;
        counted[1] = per_message(&counting);

        let counting = Region::new(ALLOCATOR);
        in_batches(&producer, &mut consumer, &payload).await;
        counted[2] = per_message(&counting);

        let counting = Region::new(ALLOCATOR);
        served_in_batches(&served, &handled, &payload).await;
        counted[3] = per_message(&counting);
        println!(
            "{round}: {counted:.3?} allocations per message: alone, sent in batches of {BATCH}, received in batches too, handled by a service"
        );
    }
    running.stop().await.unwrap();
    let [alone, sent_batched, batched, handled] = counted;
    assert!(
        handled <= MOST_BATCHED,
        "{handled} for one sent in a batch and handled by a service, {MOST_BATCHED} allowed"
    );
    assert!(alone <= MOST_ALONE, "{alone} for a message alone, {MOST_ALONE} allowed");
    assert!(sent_batched <= MOST_BATCHED, "{sent_batched} for one sent in a batch, {MOST_BATCHED} allowed");
    assert!(
        batched <= MOST_BATCHED,
        "{batched} for one sent and received in a batch, {MOST_BATCHED} allowed"
    );
}

/// Sends the next message once the one before is acknowledged.
async fn one_by_one(producer: &Producer, consumer: &mut Consumer, payload: &Bytes) {
    for _ in 0..MESSAGES {
        producer.send(Message::new(payload.clone())).await.unwrap();
        receive(consumer).await;
    }
    consumer.flush().await.unwrap();
}

async fn sent_in_batches(producer: &Producer, consumer: &mut Consumer, payload: &Bytes) {
    for _ in 0..MESSAGES / BATCH {
        send_batch(producer, payload).await;
        for _ in 0..BATCH {
            receive(consumer).await;
        }
    }
    consumer.flush().await.unwrap();
}

async fn in_batches(producer: &Producer, consumer: &mut Consumer, payload: &Bytes) {
    for _ in 0..MESSAGES / BATCH {
        send_batch(producer, payload).await;
        let mut received = 0;
        while received < BATCH {
            let batch = consumer.receive_batch(BATCH).await.unwrap().unwrap();
            received += batch.len();
            drop(batch.ack());
        }
    }
    consumer.flush().await.unwrap();
}

async fn served_in_batches(producer: &Producer, handled: &Semaphore, payload: &Bytes) {
    for _ in 0..MESSAGES / BATCH {
        send_batch(producer, payload).await;
        handled.acquire_many(BATCH as u32).await.unwrap().forget();
    }
}

async fn serve(_: Message, cx: Context<Arc<Semaphore>>) -> Result<(), Failure> {
    cx.state().add_permits(1);
    Ok(())
}

async fn send_batch(producer: &Producer, payload: &Bytes) {
    let batch = (0..BATCH).map(|_| Message::new(payload.clone()));
    for result in producer.send_all(batch).await {
        result.unwrap();
    }
}

async fn receive(consumer: &mut Consumer) {
    let delivery = consumer.receive().await.unwrap().unwrap();
    drop(delivery.ack());
}

fn per_message(counting: &Region<'_, System>) -> f64 {
    let change = counting.change();
    (change.allocations + change.reallocations) as f64 / MESSAGES as f64
}
