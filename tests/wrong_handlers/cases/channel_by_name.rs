//~ "orders"
//~ ReceiveFrom
//~ handle
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn create(_: Order, _: Context) -> Result<(), Failure> {
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").handle("orders", create);
}
