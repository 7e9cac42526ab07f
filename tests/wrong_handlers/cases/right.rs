#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn create(_: Order, _: Context) -> Result<(), Failure> {
    Ok(())
}

async fn price(_: Ask, _: Context) -> Result<Price, Failure> {
    Ok(Price)
}

fn main() {
    let _ = Service::new("kitchen").handle(&ORDERS, create).handle(&ORDERS, price);
}
