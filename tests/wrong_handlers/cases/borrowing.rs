//~ served
//~ borrowed value does not live long enough
#![allow(dead_code, unused_imports, unused_mut)]
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

fn main() {
    let served = std::sync::atomic::AtomicU8::new(0);
    let served = &served;
    let create = move |_: Order, _: Context| {
        served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async { Ok::<(), Failure>(()) }
    };
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
