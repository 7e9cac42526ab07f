//! What happens when handles are dropped without being closed.

use anybroker::adapter::{Clock, SystemClock};
use anybroker::memory::MemoryBroker;
use anybroker::{Broker, Channel, Consumer, Message, Producer, Result};
use std::sync::Arc;
use std::time::Duration;

static ORDERS: Channel = Channel::point_to_point("orders");

#[tokio::test]
async fn a_producer_keeps_its_broker_open() -> Result<()> {
    let broker = Broker::connect("memory://").await?;
    let producer = broker.producer(&ORDERS).await?;
    let mut consumer = broker.consumer(&ORDERS).await?;
    drop(broker);
    producer.send(Message::new("one")).await?;
    drop(producer);
    let delivery = consumer.receive().await?.expect("open");
    delivery.ack().await
}

/// Every task and handle holds the adapter in the end: once it is gone, nothing of the broker is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_everything_ends_every_task() -> Result<()> {
    let clock = Arc::new(SystemClock::new());
    let memory = MemoryBroker::new(clock);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let adapter = memory.adapter();
        let gone = Arc::downgrade(&adapter);
        let broker = Broker::builder().adapter("main", adapter).open().await?;
        let producer = broker.producer(&ORDERS).await?;
        let mut consumer = broker.consumer(&ORDERS).await?;
        producer.send(Message::new("one")).await?;
        let delivery = consumer.receive().await?.expect("open");
        let mut handles = [
            Some(Handle::Broker(broker)),
            Some(Handle::Producer(producer)),
            Some(Handle::Consumer(consumer)),
        ];
        for index in order {
            drop(handles[index].take());
        }
        delivery.ack().await?;
        until(|| gone.strong_count() == 0).await;
    }
    Ok(())
}

#[expect(dead_code, reason = "held to be dropped")]
enum Handle {
    Broker(Broker),
    Producer(Producer),
    Consumer(Consumer),
}

#[test]
fn settling_and_dropping_work_outside_of_the_runtime() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (broker, mut consumer, deliveries) = runtime.block_on(async {
        let broker = Broker::connect("memory://").await?;
        let mut consumer = broker.consumer(&ORDERS).await?;
        let mut deliveries = Vec::new();
        for body in ["rejected", "dropped"] {
            broker.send(&ORDERS, Message::new(body)).await?;
            deliveries.push(consumer.receive().await?.expect("open"));
        }
        Ok::<_, anybroker::Error>((broker, consumer, deliveries))
    })?;
    let mut deliveries = deliveries.into_iter();
    let rejected = deliveries.next().map(|delivery| delivery.reject("from a plain thread"));
    drop(deliveries);
    runtime.block_on(async {
        rejected.expect("one").await?;
        let again = consumer.receive().await?.expect("open");
        assert_eq!((again.message().body(), again.attempt()), (&b"dropped"[..], 2));
        again.ack().await?;
        let mut dead = broker.consumer(ORDERS.dead_letters()).await?;
        assert_eq!(dead.receive().await?.expect("open").message().body(), b"rejected");
        Ok(())
    })
}

async fn until(condition: impl Fn() -> bool) {
    let clock = SystemClock::new();
    let deadline = clock.now() + Duration::from_secs(10);
    while !condition() {
        assert!(clock.now() < deadline, "still not after 10 s");
        clock.sleep_until(clock.now() + Duration::from_millis(1)).await;
    }
}
