//~ this is no handler for a service with the state `()`
//~ what the handler awaits has to be `Send`
//~ create
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

static STOCK: std::sync::Mutex<u8> = std::sync::Mutex::new(7);

async fn create(_: Order, _: Context) -> Result<(), Failure> {
    let stock = STOCK.lock();
    std::future::ready(()).await;
    drop(stock);
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
