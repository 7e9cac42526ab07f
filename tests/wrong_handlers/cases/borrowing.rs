//~ served
//~ borrowed value does not live long enough
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

fn main() {
    let served = std::sync::atomic::AtomicU8::new(0);
    let served = &served;
    let create = move |_: Order, _: Context| {
        served.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async { Ok::<(), Failure>(()) }
    };
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
