//! A tour of the library: orders, a kitchen, and who hears of it, over any broker.
//!
//! `cargo run --example tour [url [orders.jsonl]]`; the URL is `memory://tour` unless given.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose purpose is to print")]

use anybroker::adapter::{Capability, Support};
use anybroker::{
    Body, Broker, Channel, Command, Consumer, Context, Error, ErrorKind, Failure, MessageKey, Result,
    Service, dead_letter,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;

static ORDERS: Channel = Channel::point_to_point("orders").order_per_key().dead_letter_after(3);
static ORDER_EVENTS: Channel = Channel::publish_subscribe("order-events");
static PRICING: Channel = Channel::point_to_point("pricing");

const CENTS_PER_DISH: u64 = 990;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    dishes: u64,
}

impl Body for Order {
    const TYPE: &'static str = "order";
    /// One customer's orders are handled one after another.
    fn key(&self) -> Option<MessageKey> {
        Some(self.customer.as_str().into())
    }
}

#[derive(Serialize, Deserialize)]
struct OrderServed {
    order: u64,
    dishes: u64,
}

impl Body for OrderServed {
    const TYPE: &'static str = "order-served";
}

#[derive(Serialize, Deserialize)]
struct AskPrice {
    dishes: u64,
}

impl Body for AskPrice {
    const TYPE: &'static str = "ask-price";
}

impl Command for AskPrice {
    type Reply = Price;
}

#[derive(Serialize, Deserialize)]
struct Price {
    cents: u64,
}

impl Body for Price {
    const TYPE: &'static str = "price";
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "memory://tour".into());
    let file = arguments
        .next()
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.jsonl").into());
    match tour(&url, &file).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tour(url: &str, file: &str) -> Result<()> {
    let orders = read(file)?;
    let broker = Broker::connect(url).await?;

    println!("A request and its reply");
    or_refused(ask(&broker).await)?;
    println!("\n{} orders, two cooks, each customer served in order", orders.len());
    or_refused(serve(&broker, orders).await)?;
    println!("\nWhat holds on these channels: by the broker (native), by the library (emulated), or not");
    compare(&broker).await?;

    let closed = broker.close().await?;
    println!("\nClosed: {} deliveries given back, {} messages unsent", closed.given_back, closed.unsent);
    Ok(())
}

/// Asks for a price, and has it answered.
async fn ask(broker: &Broker) -> Result<()> {
    let pricing = Service::new("pricing").handle(&PRICING, price).start(broker).await?;
    let price = broker.request(&PRICING, &AskPrice { dishes: 3 }).deadline(Duration::from_secs(10)).await?;
    println!("  3 dishes cost {}", euros(price.cents));
    pricing.stop().await.map(drop)
}

async fn price(ask: AskPrice, _: Context) -> Result<Price, Failure> {
    Ok(Price { cents: ask.dishes * CENTS_PER_DISH })
}

/// Sends the orders, has them cooked, and shows who heard of it.
async fn serve(broker: &Broker, orders: Vec<Order>) -> Result<()> {
    // Subscriptions and dead letters first: what is published before somebody subscribes is not for them.
    let delivery = broker.consumer(ORDER_EVENTS.subscription("delivery")).await?;
    let billing = broker.consumer(ORDER_EVENTS.subscription("billing")).await?;
    let dead_letters = broker.consumer(ORDERS.dead_letters()).await?;

    let (tell, mut told) = mpsc::unbounded_channel();
    let kitchen = || Service::new("kitchen").with_state(tell.clone()).handle(&ORDERS, cook);
    let _cooks = [kitchen().start(broker).await?, kitchen().start(broker).await?];
    for accepted in broker.producer(&ORDERS).await?.send_all(&orders).await {
        accepted?;
    }

    let mut open: BTreeSet<u64> = orders.iter().map(|order| order.id).collect();
    let mut stories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while !open.is_empty()
        && let Some((order, what, ended)) = told.recv().await
    {
        if ended {
            open.remove(&order.id);
        }
        stories.entry(order.customer).or_default().push(format!("{} {what}", order.id));
    }
    for (customer, story) in stories {
        println!("  {customer:<8} {}", story.join(", "));
    }

    println!("\nWhat was rejected lies in the dead letters");
    let rejected = orders.iter().filter(|order| order.dishes == 0).map(|order| order.id);
    bury(dead_letters, rejected.collect()).await?;
    println!("\nEvery subscription hears of every order");
    let served: BTreeSet<u64> =
        orders.iter().filter(|order| order.dishes > 0).map(|order| order.id).collect();
    let (count, dishes) = hear(delivery, served.clone()).await?;
    println!("  delivery {count} events, {dishes} dishes to carry");
    let (count, dishes) = hear(billing, served).await?;
    println!("  billing  {count} events, {} to collect", euros(dishes * CENTS_PER_DISH));
    Ok(())
}

/// What became of one order in the hands of a cook, and whether that is the end of it.
type Told = (Order, String, bool);

async fn cook(order: Order, cx: Context<mpsc::UnboundedSender<Told>>) -> Result<(), Failure> {
    let served = OrderServed { order: order.id, dishes: order.dishes };
    let (what, outcome) = match (order.dishes, cx.attempt()) {
        (0, _) => ("rejected".into(), Err(Failure::reject("no dishes"))),
        (9.., 1) => (
            "put off (the oven is full)".into(),
            Err(Failure::retry_after("the oven is full", Duration::from_millis(50))),
        ),
        (_, attempt) => {
            cx.send(&ORDER_EVENTS, &served).await?;
            (if attempt == 1 { "served".into() } else { format!("served at attempt {attempt}") }, Ok(()))
        }
    };
    let ended = outcome.as_ref().map_or_else(Failure::is_rejection, |()| true);
    // Nobody listens any more when the tour has ended.
    let _ = cx.state().send((order, what, ended));
    outcome
}

/// Shows the dead letters of these orders.
async fn bury(mut dead_letters: Consumer, mut expected: BTreeSet<u64>) -> Result<()> {
    while !expected.is_empty()
        && let Some(delivery) = dead_letters.receive().await?
    {
        let headers = delivery.message().headers();
        let why = |name| headers.text(name).unwrap_or("not said");
        match delivery.decode::<Order>() {
            Ok(order) => {
                let (reason, origin) = (why(dead_letter::REASON), why(dead_letter::ORIGIN));
                println!("  order {} of {}: {reason} (from `{origin}`)", order.id, order.customer);
                expected.remove(&order.id);
            }
            Err(error) => println!("  {error}"),
        }
        delivery.ack();
    }
    dead_letters.close().await?;
    Ok(())
}

/// Receives until every one of these orders was heard of; says how many they were and of how many dishes.
async fn hear(mut events: Consumer, mut expected: BTreeSet<u64>) -> Result<(usize, u64)> {
    let (count, mut dishes) = (expected.len(), 0);
    while !expected.is_empty()
        && let Some(delivery) = events.receive().await?
    {
        // An event may come twice: whoever counts has to know it again.
        if let Ok(served) = delivery.decode::<OrderServed>()
            && expected.remove(&served.order)
        {
            dishes += served.dishes;
        }
        delivery.ack();
    }
    events.close().await?;
    Ok((count, dishes))
}

async fn compare(broker: &Broker) -> Result<()> {
    println!("  {:<24} {:<10} order-events", "", "orders");
    let channels = [broker.capabilities(&ORDERS).await?, broker.capabilities(&ORDER_EVENTS).await?];
    for capability in Capability::ALL {
        let [orders, events] = channels.each_ref().map(|has| match has.support(capability) {
            Support::Native => "native",
            Support::Emulated => "emulated",
            _ => "no",
        });
        println!("  {:<24} {orders:<10} {events}", capability.as_str());
    }
    Ok(())
}

/// What a broker refuses is part of the tour, not its end.
fn or_refused(chapter: Result<()>) -> Result<()> {
    match chapter {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("  refused: {error}");
            Ok(())
        }
        other => other,
    }
}

fn read(file: &str) -> Result<Vec<Order>> {
    let unreadable = |error| Error::new(ErrorKind::Config, format!("{file}: {error}"));
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    text.lines()
        .enumerate()
        .map(|(at, line)| {
            Order::decode(line.as_bytes()).map_err(|e| e.at(format_args!("{file}, line {}", at + 1)))
        })
        .collect()
}

fn euros(cents: u64) -> String {
    format!("{}.{:02} €", cents / 100, cents % 100)
}
