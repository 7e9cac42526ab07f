//~ create
//~ FnMut
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

fn main() {
    let mut served = 0;
    let create = move |_: Order, _: Context| {
        served += 1;
        async { Ok::<(), Failure>(()) }
    };
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
