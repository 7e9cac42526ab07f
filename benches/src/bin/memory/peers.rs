//! The peers, each used as its documentation recommends.

use crate::transport::{BATCH, CAPACITY, Consumer, Producer, Shape, Transport};
use bytes::Bytes;
use omniqueue::backends::{InMemoryBackend, in_memory};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, broadcast, mpsc};

/// A bounded flume channel; for fan-out one per consumer.
pub(crate) enum Flume {}

impl Transport for Flume {
    type Producer = FlumeProducer;
    type Consumer = flume::Receiver<Bytes>;

    async fn open(shape: Shape) -> (Vec<Self::Producer>, Vec<Self::Consumer>) {
        match shape {
            Shape::Competing(n) => {
                let (tx, rx) = flume::bounded(CAPACITY);
                (vec![FlumeProducer(vec![tx]); n], vec![rx; n])
            }
            Shape::FanOut(n) => {
                let (tx, rx) = (0..n).map(|_| flume::bounded(CAPACITY)).unzip();
                (vec![FlumeProducer(tx)], rx)
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct FlumeProducer(Vec<flume::Sender<Bytes>>);

impl Producer for FlumeProducer {
    async fn send(&mut self, payload: &Bytes) {
        for sender in &self.0 {
            sender.send_async(payload.clone()).await.unwrap();
        }
    }

    async fn send_batch(&mut self, payload: &Bytes) {
        for sender in &self.0 {
            for _ in 0..BATCH {
                if let Err(full) = sender.try_send(payload.clone()) {
                    sender.send_async(full.into_inner()).await.unwrap();
                }
            }
        }
    }
}

impl Consumer for flume::Receiver<Bytes> {
    async fn receive(&mut self) {
        self.recv_async().await.unwrap();
    }

    async fn receive_batch(&mut self) -> usize {
        self.recv_async().await.unwrap();
        1 + self.try_iter().take(BATCH - 1).count()
    }
}

/// A bounded async-channel.
pub(crate) enum AsyncChannel {}

impl Transport for AsyncChannel {
    type Producer = async_channel::Sender<Bytes>;
    type Consumer = async_channel::Receiver<Bytes>;

    async fn open(shape: Shape) -> (Vec<Self::Producer>, Vec<Self::Consumer>) {
        let (tx, rx) = async_channel::bounded(CAPACITY);
        let n = competing(shape);
        (vec![tx; n], vec![rx; n])
    }
}

impl Producer for async_channel::Sender<Bytes> {
    async fn send(&mut self, payload: &Bytes) {
        Self::send(self, payload.clone()).await.unwrap();
    }

    async fn send_batch(&mut self, payload: &Bytes) {
        for _ in 0..BATCH {
            if let Err(full) = self.try_send(payload.clone()) {
                Self::send(self, full.into_inner()).await.unwrap();
            }
        }
    }
}

impl Consumer for async_channel::Receiver<Bytes> {
    async fn receive(&mut self) {
        self.recv().await.unwrap();
    }

    async fn receive_batch(&mut self) -> usize {
        self.recv().await.unwrap();
        1 + (1..BATCH).take_while(|_| self.try_recv().is_ok()).count()
    }
}

/// A bounded tokio mpsc channel; competing consumers take turns at its one receiver.
pub(crate) enum TokioMpsc {}

impl Transport for TokioMpsc {
    type Producer = mpsc::Sender<Bytes>;
    type Consumer = MpscConsumer;

    async fn open(shape: Shape) -> (Vec<Self::Producer>, Vec<Self::Consumer>) {
        let (tx, rx) = mpsc::channel(CAPACITY);
        let n = competing(shape);
        if n == 1 {
            return (vec![tx], vec![MpscConsumer::Alone(rx, Vec::with_capacity(BATCH))]);
        }
        let rx = Arc::new(Mutex::new(rx));
        let consumers = (0..n).map(|_| MpscConsumer::Shared(Arc::clone(&rx), Vec::with_capacity(BATCH)));
        (vec![tx; n], consumers.collect())
    }
}

impl Producer for mpsc::Sender<Bytes> {
    async fn send(&mut self, payload: &Bytes) {
        Self::send(self, payload.clone()).await.unwrap();
    }

    async fn send_batch(&mut self, payload: &Bytes) {
        for permit in self.reserve_many(BATCH).await.unwrap() {
            permit.send(payload.clone());
        }
    }
}

pub(crate) enum MpscConsumer {
    Alone(mpsc::Receiver<Bytes>, Vec<Bytes>),
    Shared(Arc<Mutex<mpsc::Receiver<Bytes>>>, Vec<Bytes>),
}

impl Consumer for MpscConsumer {
    async fn receive(&mut self) {
        match self {
            Self::Alone(rx, _) => rx.recv().await.unwrap(),
            Self::Shared(rx, _) => rx.lock().await.recv().await.unwrap(),
        };
    }

    async fn receive_batch(&mut self) -> usize {
        let (count, buffer) = match self {
            Self::Alone(rx, buffer) => (rx.recv_many(buffer, BATCH).await, buffer),
            Self::Shared(rx, buffer) => (rx.lock().await.recv_many(buffer, BATCH).await, buffer),
        };
        buffer.clear();
        count
    }
}

/// A tokio broadcast channel. It drops messages for a slow receiver, so the sender waits for room.
pub(crate) enum TokioBroadcast {}

impl Transport for TokioBroadcast {
    type Producer = broadcast::Sender<Bytes>;
    type Consumer = broadcast::Receiver<Bytes>;

    async fn open(shape: Shape) -> (Vec<Self::Producer>, Vec<Self::Consumer>) {
        let Shape::FanOut(n) = shape else { panic!("broadcast only fans out") };
        let (tx, rx) = broadcast::channel(CAPACITY);
        let mut consumers = vec![rx];
        consumers.resize_with(n, || tx.subscribe());
        (vec![tx], consumers)
    }
}

impl Producer for broadcast::Sender<Bytes> {
    async fn send(&mut self, payload: &Bytes) {
        while self.len() >= CAPACITY {
            tokio::task::yield_now().await;
        }
        Self::send(self, payload.clone()).unwrap();
    }

    async fn send_batch(&mut self, payload: &Bytes) {
        while self.len() > CAPACITY - BATCH {
            tokio::task::yield_now().await;
        }
        for _ in 0..BATCH {
            Self::send(self, payload.clone()).unwrap();
        }
    }
}

impl Consumer for broadcast::Receiver<Bytes> {
    async fn receive(&mut self) {
        self.recv().await.unwrap();
    }

    async fn receive_batch(&mut self) -> usize {
        self.recv().await.unwrap();
        1 + (1..BATCH).take_while(|_| self.try_recv().is_ok()).count()
    }
}

/// The in-memory backend of omniqueue: an unbounded queue that copies each payload on sending and again on receiving.
pub(crate) enum Omniqueue {}

impl Transport for Omniqueue {
    type Producer = in_memory::InMemoryProducer;
    type Consumer = in_memory::InMemoryConsumer;

    async fn open(shape: Shape) -> (Vec<Self::Producer>, Vec<Self::Consumer>) {
        assert!(shape == Shape::Competing(1), "neither end can be cloned");
        let (tx, rx) = InMemoryBackend::builder().build_pair().await.unwrap();
        (vec![tx], vec![rx])
    }
}

impl Producer for in_memory::InMemoryProducer {
    async fn send(&mut self, payload: &Bytes) {
        self.send_raw(payload).await.unwrap();
    }

    async fn send_batch(&mut self, payload: &Bytes) {
        for _ in 0..BATCH {
            self.send_raw(payload).await.unwrap();
        }
    }
}

impl Consumer for in_memory::InMemoryConsumer {
    async fn receive(&mut self) {
        let delivery = Self::receive(self).await.unwrap();
        delivery.ack().await.unwrap();
    }

    async fn receive_batch(&mut self) -> usize {
        let deliveries = self.receive_all(BATCH, Duration::from_secs(30)).await.unwrap();
        let count = deliveries.len();
        for delivery in deliveries {
            delivery.ack().await.unwrap();
        }
        count
    }
}

fn competing(shape: Shape) -> usize {
    let Shape::Competing(n) = shape else { panic!("this queue does not fan out") };
    n
}
