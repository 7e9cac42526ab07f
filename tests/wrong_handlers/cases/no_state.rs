//~ this is no handler for a service with the state `u8`
//~ expected `async fn(B, Context<u8>) -> Result<R, Failure>`
//~ create
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn create(_: Order, _: Context) -> Result<(), Failure> {
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").with_state(7_u8).handle(&ORDERS, create);
}
