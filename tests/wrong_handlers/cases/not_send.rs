//~ this is no handler for a service with the state `()`
//~ what the handler awaits has to be `Send`
//~ create
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

async fn create(_: Order, _: Context) -> Result<(), Failure> {
    let shared = std::rc::Rc::new(7);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
