// What all cases have: a channel, an order, and a question with its answer.

use anybroker::{Body, Channel, Command, Context, Failure, Service};
use serde::{Deserialize, Serialize};

static ORDERS: Channel = Channel::point_to_point("orders");

#[derive(Serialize, Deserialize)]
struct Order;
impl Body for Order {
    const TYPE: &'static str = "order";
}

#[derive(Serialize, Deserialize)]
struct Ask;
impl Body for Ask {
    const TYPE: &'static str = "ask";
}
impl Command for Ask {
    type Reply = Price;
}

#[derive(Serialize, Deserialize)]
struct Price;
impl Body for Price {
    const TYPE: &'static str = "price";
}
