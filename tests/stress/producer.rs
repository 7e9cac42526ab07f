//! Sends, one message or many at a time.

use crate::history::History;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::wait::{HANG, sleep, within};
use anybroker::adapter::MessageId;
use anybroker::{Broker, Error, ErrorKind, Message, Producer};
use std::collections::HashMap;
use std::time::Duration;

/// All messages of producer `number`, under keys of its own.
pub(crate) async fn produce(broker: Broker, plan: Plan, number: u64, mut rng: Rng, history: History) {
    let name = format!("p{number}");
    let producer = open(&broker, plan).await;
    let mut last: HashMap<String, u64> = HashMap::new();
    let mut sent = 0;
    while sent < plan.messages {
        let count = if rng.chance(30) { 1 + rng.below(30) } else { 1 };
        let batch = (0..count).map(|_| {
            let key = format!("{name}k{}", rng.below(plan.keys));
            let place = last.entry(key.clone()).or_default();
            *place += 1;
            let id = MessageId::from(format!("{key}-{place}-{:x}", rng.next() & 0xffff));
            Message::new("dish").with_key(key).with_id(id)
        });
        send(&producer, &name, batch.collect(), &history).await;
        sent += count;
        if rng.chance(20) {
            sleep(rng.millis_below(3)).await;
        }
        if rng.chance(2) && within(HANG, producer.flush()).await.is_none() {
            history.fault("HANG: the flush of a producer");
        }
    }
}

/// The first open fails while the broker is away.
async fn open(broker: &Broker, plan: Plan) -> Producer {
    loop {
        match broker.producer(&plan.channel()).deadline(Duration::from_secs(3)).await {
            Ok(producer) => return producer,
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn send(producer: &Producer, name: &str, batch: Vec<Message>, history: &History) {
    let sending = async {
        match batch.as_slice() {
            [message] => vec![producer.send(message.clone()).await],
            _ => producer.send_all(batch.clone()).await,
        }
    };
    let mut results = within(HANG, sending).await.unwrap_or_else(|| {
        history.fault("HANG: a send");
        Vec::new()
    });
    if results.len() > batch.len() {
        history.fault("RESULTS: more than messages");
    }
    // What has no result may have been sent all the same.
    results.resize_with(batch.len(), || Err(Error::new(ErrorKind::Other, "the send has not ended")));
    for (message, result) in batch.iter().zip(&results) {
        history.sent(name, message, result);
    }
}
