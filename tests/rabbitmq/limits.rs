//! What the broker refuses although the adapter did not know.

use crate::servers::both;
use anybroker::adapter::{Channel, ChannelKind, ErrorKind, SendOutcome};
use anybroker::{Broker, Message};

#[test]
fn a_message_too_large_for_the_broker_is_refused_alone() {
    both(|server| async move {
        if server.name == "rabbitmq" {
            // Its limit of 128 MiB is not practical to try.
            return;
        }
        // RabbitMQ 4 takes 16 MiB, and is said to take more.
        let broker = Broker::connect(&format!("{}?max-message=100000000", server.url)).await.unwrap();
        let channel = Channel::named(ChannelKind::PointToPoint, server.unique("large"));
        let producer = broker.producer(&channel).await.unwrap();
        let [before, large, after] = [10, (16 << 20) + 1, 20].map(|size| Message::new(vec![b'x'; size]));
        let results = producer.send_all([before, large, after]).await;
        let [Ok(_), Err(error), Ok(_)] = &results[..] else { panic!("{results:?}") };
        assert_eq!(error.kind(), ErrorKind::PayloadTooLarge, "{error}");
        assert_eq!(error.outcome(), Some(SendOutcome::Refused));
        assert!(error.to_string().contains("16777217") && error.to_string().contains("16777216"), "{error}");
        let mut consumer = broker.consumer(&channel).await.unwrap();
        for size in [10, 20] {
            let delivery = consumer.receive().await.unwrap().unwrap();
            assert_eq!(delivery.message().body().len(), size);
            delivery.ack();
        }
        broker.delete(&channel).await.unwrap();
        broker.close().await.unwrap();
    });
}
