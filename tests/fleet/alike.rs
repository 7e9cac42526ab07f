//! The same service and the same test on every broker: one line of configuration differs, and the outcomes do not.

use crate::trials::fresh;
use crate::wait::{HANG, until, within};
use crate::{Place, Tried};
use anybroker::channel::ChannelKind;
use anybroker::service::Policy;
use anybroker::{
    Body, Broker, Channel, Command, Config, Context, Failure, MessageKey, Result, Service, dead_letter,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ORDERS: u64 = 300;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
}

impl Body for Order {
    const TYPE: &'static str = "order";
    fn key(&self) -> Option<MessageKey> {
        Some((self.id % 10).into())
    }
}

#[derive(Serialize, Deserialize)]
struct Ask(u64);

impl Body for Ask {
    const TYPE: &'static str = "ask";
}

impl Command for Ask {
    type Reply = Answer;
}

#[derive(Serialize, Deserialize)]
struct Answer(u64);

impl Body for Answer {
    const TYPE: &'static str = "answer";
}

/// What became of everything: compared as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// The attempts of each order that was handled.
    handled: BTreeMap<u64, u32>,
    /// In their order, by key.
    order: BTreeMap<u64, Vec<u64>>,
    rejected: BTreeMap<u64, String>,
    told: BTreeSet<u64>,
    answers: Vec<u64>,
}

#[derive(Clone)]
struct Kitchen {
    events: Channel,
    outcome: Arc<Mutex<Outcome>>,
}

/// Every seventh is rejected, every fifth fails once, every 29th always; the others are told of.
async fn create(order: Order, cx: Context<Kitchen>) -> Result<(), Failure> {
    match (order.id, cx.attempt()) {
        (id, _) if id % 7 == 3 => return Err(Failure::reject("no dishes")),
        (id, _) if id % 29 == 5 => return Err(Failure::retry("no cook")),
        (id, 1) if id % 5 == 1 => return Err(std::io::Error::other("the oven is cold").into()),
        _ => {}
    }
    cx.send(&cx.state().events, &order).await?;
    let mut outcome = cx.state().outcome.lock().unwrap();
    outcome.handled.insert(order.id, cx.attempt());
    outcome.order.entry(order.id % 10).or_default().push(order.id);
    Ok(())
}

async fn answer(ask: Ask, _: Context<Kitchen>) -> Result<Answer, Failure> {
    Ok(Answer(ask.0 * 990))
}

async fn hear(order: Order, cx: Context<Kitchen>) -> Result<(), Failure> {
    cx.state().outcome.lock().unwrap().told.insert(order.id);
    Ok(())
}

pub(crate) async fn alike(places: Vec<Place>) -> Tried {
    let mut outcomes = Vec::new();
    for place in &places {
        outcomes.push(outcome(&format!("[brokers.main]\nurl = \"{}\"\n", place.url)).await?);
    }
    for (place, outcome) in places.iter().zip(&outcomes) {
        if *outcome != outcomes[0] {
            return Err(
                format!("{} has {outcome:?}, {} {:?}", place.name, places[0].name, outcomes[0]).into()
            );
        }
    }
    let [handled, rejected] = [outcomes[0].handled.len(), outcomes[0].rejected.len()];
    if handled + rejected != ORDERS as usize || outcomes[0].told.len() != handled {
        return Err(format!("handled {handled}, rejected {rejected}, told {}", outcomes[0].told.len()).into());
    }
    eprintln!("alike on {} brokers: {handled} handled, {rejected} rejected", places.len());
    Ok(())
}

async fn outcome(config: &str) -> Result<Outcome> {
    let broker = Broker::open(Config::from_toml(config)?).await?;
    let orders = Channel::named(ChannelKind::PointToPoint, fresh("alike-orders")).order_per_key();
    let prices = Channel::named(ChannelKind::PointToPoint, fresh("alike-prices"));
    let events = Channel::named(ChannelKind::PublishSubscribe, fresh("alike-events"));
    let kitchen = Kitchen { events: events.clone(), outcome: Arc::default() };
    let quick = Policy::new().attempts(3).backoff(Duration::from_millis(1), Duration::from_millis(8));
    let service = Service::new("kitchen").with_state(kitchen.clone()).policy(quick);
    let running =
        service.handle(&orders, create).handle(&prices, answer).handle(&events, hear).start(&broker).await?;

    let batch: Vec<Order> = (0..ORDERS).map(|id| Order { id }).collect();
    for result in broker.producer(&orders).await?.send_all(&batch).await {
        result?;
    }
    for ask in 1..=5 {
        let Answer(cents) = broker.request(&prices, &Ask(ask)).await?;
        kitchen.outcome.lock().unwrap().answers.push(cents);
    }
    let mut dead = broker.consumer(orders.dead_letters()).await?;
    let expected = (0..ORDERS).filter(|id| id % 7 == 3 || id % 29 == 5).count();
    for _ in 0..expected {
        let Some(received) = within(HANG, dead.receive()).await else { break };
        let Some(delivery) = received? else { break };
        let reason = delivery.message().headers().text(dead_letter::REASON).unwrap_or_default().to_owned();
        let id = delivery.decode::<Order>()?.id;
        kitchen.outcome.lock().unwrap().rejected.insert(id, reason);
        delivery.ack().await?;
    }
    let told = ORDERS as usize - expected;
    until(HANG, || kitchen.outcome.lock().unwrap().told.len() == told).await;
    running.stop().await?;
    dead.close().await?;
    broker.delete(events.subscription("kitchen").dead_letters()).await?;
    broker.delete(events.subscription("kitchen")).await?;
    for channel in [&orders, &prices] {
        broker.delete(channel.dead_letters()).await?;
        broker.delete(channel).await?;
    }
    broker.delete(&events).await?;
    broker.close().await?;
    let outcome = kitchen.outcome.lock().unwrap().clone();
    Ok(outcome)
}
