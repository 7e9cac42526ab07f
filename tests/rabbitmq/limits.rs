//! What the broker refuses although the adapter did not know.

use crate::server::Server;
use crate::trials::fresh;
use crate::{Part, Tried, part};
use anybroker::channel::ChannelKind;
use anybroker::message::SendOutcome;
use anybroker::{Broker, Channel, ErrorKind, Message};
use std::sync::Arc;

pub(crate) const PARTS: &[Part] =
    &[part("limits/too-large-for-the-broker", |server| Box::pin(too_large_for_the_broker(server)))];

/// It is refused alone: its neighbours, lost with the channel that it ends, are sent again.
async fn too_large_for_the_broker(server: Arc<Server>) -> Tried {
    if server.name == "rabbitmq" {
        // Its limit of 128 MiB is not practical to try.
        return Ok(());
    }
    // RabbitMQ 4 takes 16 MiB, and is said to take more.
    let broker = Broker::connect(&format!("{}?max-message=100000000", server.url)).await?;
    let channel = Channel::named(ChannelKind::PointToPoint, fresh("large"));
    let producer = broker.producer(&channel).await?;
    let [before, large, after] = [10, (16 << 20) + 1, 20].map(|size| Message::new(vec![b'x'; size]));
    let results = producer.send_all([before, large, after]).await;
    let [Ok(_), Err(error), Ok(_)] = &results[..] else { return Err(format!("{results:?}").into()) };
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge, "{error}");
    assert_eq!(error.outcome(), Some(SendOutcome::Refused));
    assert!(error.to_string().contains("16777217") && error.to_string().contains("16777216"), "{error}");
    let mut consumer = broker.consumer(&channel).await?;
    for size in [10, 20] {
        let delivery = consumer.receive().await?.ok_or("closed")?;
        assert_eq!(delivery.message().body().len(), size);
        delivery.ack();
    }
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}
