//~ cx.send(&ORDERS, &order)
//~ .await
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn create(order: Order, cx: Context) -> Result<(), Failure> {
    cx.send(&ORDERS, &order)?;
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
