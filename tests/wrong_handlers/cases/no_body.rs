//~ this is no handler for a service with the state `()`
//~ expected `async fn(B, Context<()>) -> Result<R, Failure>`
//~ create
//~ `B` has to implement `Body`
#![allow(dead_code, unused_imports)]
include!("../orders.rs");

struct Recipe;

async fn create(_: Recipe, _: Context) -> Result<(), Failure> {
    Ok(())
}

fn main() {
    let _ = Service::new("kitchen").handle(&ORDERS, create);
}
