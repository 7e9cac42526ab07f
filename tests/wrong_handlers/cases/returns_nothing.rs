//~ this is no handler for a service with the state `()`
//~ expected `async fn(B, Context<()>) -> Result<R, Failure>`
//~ create
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn create(_: Order, _: Context) {}

fn main() {
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
