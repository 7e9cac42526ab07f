//! Consumers of a channel in order share its work, in order, while they come and go.

use crate::servers::{Server, both};
use anybroker::adapter::Channel;
use anybroker::conformance::History;
use anybroker::{Broker, Message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const KEYS: usize = 60;

#[test]
fn each_consumer_gets_its_share_in_order() {
    both(|server| async move {
        let channel = Channel::named(anybroker::adapter::ChannelKind::PointToPoint, server.unique("sharing"))
            .order_per_key();
        let history = History::new();
        let sending = Arc::new(AtomicBool::new(true));
        let first = Member::join(&server, &channel, &history, "first").await;
        let producer = tokio::spawn(produce(
            server.open().await,
            channel.clone(),
            history.clone(),
            Arc::clone(&sending),
        ));
        first.works().await;

        let second = Member::join(&server, &channel, &history, "second").await;
        let third = Member::join(&server, &channel, &history, "third").await;
        // Who came first has nothing that it may keep to itself.
        second.works().await;
        third.works().await;
        first.works().await;

        // What one leaves, the others go on with.
        first.leave().await;
        second.works().await;
        third.works().await;
        sending.store(false, Ordering::Release);
        producer.await.unwrap();
        server.until("all to arrive", || history.is_complete(&["the channel"])).await;
        second.leave().await;
        third.leave().await;
        history.exact_copies(&["the channel"]).unwrap();
        history.order_per_key().unwrap();
        server.open().await.delete(&channel).await.unwrap();
    });
}

async fn produce(broker: Broker, channel: Channel, history: History, sending: Arc<AtomicBool>) {
    let producer = broker.producer(&channel).await.unwrap();
    for n in 0.. {
        if !sending.load(Ordering::Acquire) {
            break;
        }
        let batch: Vec<Message> = (0..KEYS)
            .map(|key| Message::new("").with_id(format!("{key}-{n}")).with_key(key.to_string().as_str()))
            .collect();
        for (result, message) in producer.send_all(batch.iter().cloned()).await.into_iter().zip(&batch) {
            result.unwrap();
            history.sent("the producer", message, None);
        }
    }
    broker.close().await.unwrap();
}

/// A consumer with a connection of its own.
struct Member {
    server: Server,
    name: &'static str,
    handled: Arc<AtomicUsize>,
    leaving: Arc<AtomicBool>,
    working: JoinHandle<()>,
}

impl Member {
    async fn join(server: &Server, channel: &Channel, history: &History, name: &'static str) -> Self {
        let broker = server.open().await;
        let mut consumer = broker.consumer(channel).await.unwrap();
        let (handled, leaving) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let working = {
            let (handled, leaving, history) = (Arc::clone(&handled), Arc::clone(&leaving), history.clone());
            tokio::spawn(async move {
                while !leaving.load(Ordering::Acquire) {
                    let received = tokio::time::timeout(Duration::from_millis(50), consumer.receive()).await;
                    let Ok(received) = received else { continue };
                    let delivery = received.unwrap().unwrap();
                    history.arrived("the channel", name, delivery.message(), None);
                    // What was lost on the way is handled by the next owner again.
                    if delivery.ack().await.is_ok() {
                        handled.fetch_add(1, Ordering::Relaxed);
                    }
                }
                broker.close().await.unwrap();
            })
        };
        Self { server: server.clone(), name, handled, leaving, working }
    }

    /// It handles some more.
    async fn works(&self) {
        let before = self.handled.load(Ordering::Relaxed);
        let what = format!("the consumer that came {} to get its share", self.name);
        self.server.until(&what, || self.handled.load(Ordering::Relaxed) >= before + 200).await;
    }

    async fn leave(self) {
        self.leaving.store(true, Ordering::Release);
        self.working.await.unwrap();
    }
}
