//~ rest
//~ Message
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn rest(_: Order, _: Context) -> Result<(), Failure> {
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").fallback(&ORDERS, rest);
}
