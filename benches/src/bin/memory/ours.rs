//! Anybroker through its public API, its channels bounded like those of the peers.

use crate::transport::{BATCH, CAPACITY, Consumer, Producer, Shape, Transport};
use anybroker::{Broker, Channel, Message};
use bytes::Bytes;

static WORK: Channel = Channel::point_to_point("work").bounded(CAPACITY);
static NEWS: Channel = Channel::publish_subscribe("news").bounded(CAPACITY);

pub(crate) enum Anybroker {}

impl Transport for Anybroker {
    type Producer = AnybrokerProducer;
    type Consumer = anybroker::Consumer;

    async fn open(shape: Shape) -> (Vec<Self::Producer>, Vec<Self::Consumer>) {
        let broker = Broker::connect("memory://").await.unwrap();
        let (channel, producing, consuming) = match shape {
            Shape::Competing(n) => (&WORK, n, n),
            Shape::FanOut(n) => (&NEWS, 1, n),
        };
        let mut consumers = Vec::new();
        for n in 0..consuming {
            consumers.push(match shape {
                Shape::Competing(_) => broker.consumer(channel).await.unwrap(),
                Shape::FanOut(_) => broker.consumer(channel.subscription(n.to_string())).await.unwrap(),
            });
        }
        let producer = broker.producer(channel).await.unwrap();
        let producer = AnybrokerProducer { producer, _broker: broker };
        (vec![producer; producing], consumers)
    }
}

#[derive(Clone)]
pub(crate) struct AnybrokerProducer {
    producer: anybroker::Producer,
    _broker: Broker,
}

impl Producer for AnybrokerProducer {
    async fn send(&mut self, payload: &Bytes) {
        self.producer.send(Message::new(payload.clone())).await.unwrap();
    }

    async fn send_batch(&mut self, payload: &Bytes) {
        let batch = (0..BATCH).map(|_| Message::new(payload.clone()));
        for result in self.producer.send_all(batch).await {
            result.unwrap();
        }
    }
}

impl Consumer for anybroker::Consumer {
    async fn receive(&mut self) {
        let delivery = Self::receive(self).await.unwrap().unwrap();
        drop(delivery.ack());
    }

    async fn receive_batch(&mut self) -> usize {
        let batch = Self::receive_batch(self, BATCH).await.unwrap().unwrap();
        let count = batch.len();
        drop(batch.ack());
        count
    }
}
