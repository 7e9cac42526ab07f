use anybroker::{Body, Broker, Channel, Config, Context, Failure, MessageKey, Service};
use serde::{Deserialize, Serialize};

static ORDERS: Channel = Channel::point_to_point("orders").order_per_key();
static ORDER_EVENTS: Channel = Channel::publish_subscribe("order-events");

#[derive(Serialize, Deserialize)]
struct Order { id: u64, dishes: u8 }

impl Body for Order {
    const TYPE: &'static str = "order";
    fn key(&self) -> Option<MessageKey> { Some(self.id.into()) }    // one order: strictly one message after another
}

async fn create(order: Order, cx: Context) -> Result<(), Failure> {
    if order.dishes == 0 {
        return Err(Failure::reject("no dishes"));                   // to the dead letters, now
    }
    cx.send(&ORDER_EVENTS, &order).await?;                          // any `?`: retried with back-off, then dead letter
    Ok(())                                                          // acknowledged
}

fn kitchen() -> Service { Service::new("kitchen").handle(&ORDERS, create) }

#[tokio::main]
async fn main() -> anybroker::Result<()> {
    let broker = Broker::open(Config::load("messaging.toml")?).await?;
    broker.send(&ORDERS, &Order { id: 42, dishes: 2 }).await?;
    kitchen().run(&broker, tokio::signal::ctrl_c()).await           // drains, then returns
}

#[tokio::test]
async fn an_order_without_dishes_is_rejected() -> anybroker::Result<()> {
    let test = anybroker::testing::start(kitchen()).await?;         // in memory, in virtual time
    assert!(test.send(&ORDERS, &Order { id: 42, dishes: 0 }).await?.is_rejected());
    Ok(())
}
