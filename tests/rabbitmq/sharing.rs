//! Consumers of a channel in order share its work, in order, while they come and go.

use crate::server::Server;
use crate::trials::fresh;
use crate::wait::{HANG, until, within};
use crate::{Part, Tried, part};
use anybroker::channel::ChannelKind;
use anybroker::conformance::History;
use anybroker::{Broker, Channel, Message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

pub(crate) const PARTS: &[Part] =
    &[part("sharing/each-gets-its-share", |server| Box::pin(each_gets_its_share(server)))];

const KEYS: usize = 60;
const HERE: &str = "the channel";

async fn each_gets_its_share(server: Arc<Server>) -> Tried {
    let channel = Channel::named(ChannelKind::PointToPoint, fresh("sharing")).order_per_key();
    let history = History::new();
    let sending = Arc::new(AtomicBool::new(true));
    let first = Member::join(&server, &channel, &history, "first").await?;
    let producing = produce(server.open().await?, channel.clone(), history.clone(), Arc::clone(&sending));
    let producer = tokio::spawn(producing);
    first.works().await;

    let second = Member::join(&server, &channel, &history, "second").await?;
    let third = Member::join(&server, &channel, &history, "third").await?;
    // Who came first has nothing that it may keep to itself.
    second.works().await;
    third.works().await;
    first.works().await;

    // What one leaves, the others go on with.
    first.leave().await?;
    second.works().await;
    third.works().await;
    sending.store(false, Ordering::Release);
    producer.await??;
    assert!(until(HANG * 4, || history.is_complete(&[HERE])).await, "{:?}", history.nothing_lost(&[HERE]));
    second.leave().await?;
    third.leave().await?;
    history.exact_copies(&[HERE])?;
    history.order_per_key()?;
    server.open().await?.delete(&channel).await?;
    Ok(())
}

async fn produce(
    broker: Broker,
    channel: Channel,
    history: History,
    sending: Arc<AtomicBool>,
) -> anybroker::Result<()> {
    let producer = broker.producer(&channel).await?;
    for n in 0.. {
        if !sending.load(Ordering::Acquire) {
            break;
        }
        let batch: Vec<Message> = (0..KEYS)
            .map(|key| Message::new("").with_id(format!("{key}-{n}")).with_key(key.to_string().as_str()))
            .collect();
        for (result, message) in producer.send_all(batch.iter().cloned()).await.into_iter().zip(&batch) {
            result?;
            history.sent("the producer", message, None);
        }
    }
    broker.close().await?;
    Ok(())
}

/// A consumer with a connection of its own.
struct Member {
    name: &'static str,
    handled: Arc<AtomicUsize>,
    leaving: Arc<AtomicBool>,
    working: JoinHandle<anybroker::Result<()>>,
}

impl Member {
    async fn join(
        server: &Server,
        channel: &Channel,
        history: &History,
        name: &'static str,
    ) -> anybroker::Result<Self> {
        let broker = server.open().await?;
        let mut consumer = broker.consumer(channel).await?;
        let (handled, leaving) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let working = {
            let (handled, leaving, history) = (Arc::clone(&handled), Arc::clone(&leaving), history.clone());
            tokio::spawn(async move {
                while !leaving.load(Ordering::Acquire) {
                    let received = within(Duration::from_millis(50), consumer.receive()).await;
                    let Some(Some(delivery)) = received.transpose()? else { continue };
                    history.arrived(HERE, name, delivery.message(), None);
                    // What was lost on the way is handled by the next owner again.
                    if delivery.ack().await.is_ok() {
                        handled.fetch_add(1, Ordering::Relaxed);
                    }
                }
                broker.close().await?;
                Ok(())
            })
        };
        Ok(Self { name, handled, leaving, working })
    }

    /// It handles some more.
    async fn works(&self) {
        let before = self.handled.load(Ordering::Relaxed);
        let more = || self.handled.load(Ordering::Relaxed) >= before + 200;
        assert!(until(HANG * 4, more).await, "the consumer that came {} does not get its share", self.name);
    }

    async fn leave(self) -> Tried {
        self.leaving.store(true, Ordering::Release);
        Ok(self.working.await??)
    }
}
