//! One program, any broker: which one carries which channel is in a TOML file.
//!
//! `cargo run --example swap [messaging.toml]`; the file is `examples/messaging.toml` unless given.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose purpose is to print")]

use anybroker::{Body, Broker, Channel, Config, Result};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

// What the code knows: names, kinds, and what it requires.
static ORDERS: Channel = Channel::point_to_point("orders").order_per_key();
static RECEIPTS: Channel = Channel::point_to_point("receipts");
static LEDGER: Channel = Channel::point_to_point("ledger");

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}

impl Body for Note {
    const TYPE: &'static str = "note";
}

#[tokio::main]
async fn main() -> ExitCode {
    let file = std::env::args()
        .nth(1)
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/examples/messaging.toml").into());
    match run(&file).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(file: &str) -> Result<()> {
    let broker = Broker::open(Config::load(file)?).await?;
    println!("brokers: {broker:?}");
    for channel in [&ORDERS, &RECEIPTS, &LEDGER] {
        println!("\n{}", channel.name());
        // A real service ends here, before it has taken a single message; this one shows what it would say and goes on.
        if let Err(error) = carry(&broker, channel).await {
            println!("  error: {}", error.to_string().replace('\n', "\n  "));
        }
    }
    broker.close().await?;
    Ok(())
}

/// Sends a note and receives it.
async fn carry(broker: &Broker, channel: &Channel) -> Result<()> {
    let mut consumer = broker.consumer(channel).await?;
    let note = Note { text: format!("sent to {}", channel.name()) };
    let receipt = broker.send(channel, &note).await?;
    println!("  accepted, safe at the level {:?}", receipt.level);
    if let Some(delivery) = consumer.receive().await? {
        match delivery.decode::<Note>() {
            Ok(note) => {
                println!("  received: {}", note.text);
                delivery.ack();
            }
            Err(error) => {
                println!("  not a note: {error}");
                delivery.reject("not a note");
            }
        }
    }
    Ok(())
}
