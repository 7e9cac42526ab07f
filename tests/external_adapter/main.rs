//! An adapter of somebody else, written with public items only: the example of the guide "write an adapter", and the proof that the contract suffices.

#[cfg(feature = "conformance")]
mod conformance;
mod files;
mod wire;

use anybroker::adapter::{Binding, Level};
use anybroker::{Broker, Channel, Consumer, Delivery, ErrorKind, Message, dead_letter};
use files::Files;
use std::path::PathBuf;
use std::time::Duration;

static ORDERS: Channel = Channel::point_to_point("orders").dead_letter_after(3);
static EVENTS: Channel = Channel::publish_subscribe("order-events");

#[tokio::test]
async fn orders_are_acknowledged_retried_and_rejected() -> anybroker::Result<()> {
    let folder = Folder::new("settle");
    let broker = open(&folder.files()).await?;
    let mut orders = broker.consumer(&ORDERS).await?;
    let mut dead = broker.consumer(ORDERS.dead_letters()).await?;
    for text in ["good", "bad", "weak"] {
        let receipt = broker.send(&ORDERS, Message::new(text)).await?;
        assert_eq!(receipt.level, Level::Kernel);
    }

    next(&mut orders, "good").await.ack().await?;
    next(&mut orders, "bad").await.reject("bad").await?;
    for attempt in 1..=3 {
        let weak = next(&mut orders, "weak").await;
        assert_eq!(weak.attempt(), attempt);
        weak.retry(Duration::from_millis(1)).await?;
    }
    for (text, reason) in [("bad", "bad"), ("weak", "attempts exhausted")] {
        let delivery = next(&mut dead, text).await;
        assert_eq!(delivery.message().headers().text(dead_letter::REASON), Some(reason));
        delivery.ack().await?;
    }
    assert_eq!(folder.count("orders/all") + folder.count("orders/all.dead"), 0);
    broker.close().await?;
    Ok(())
}

#[tokio::test]
async fn what_was_not_settled_is_there_after_a_restart_and_counted() -> anybroker::Result<()> {
    let folder = Folder::new("restart");
    let broker = open(&folder.files()).await?;
    let mut kitchen = broker.consumer(EVENTS.subscription("kitchen")).await?;
    // Away when the event comes, and still gets it.
    broker.consumer(EVENTS.subscription("billing")).await?.close().await?;
    broker.send(&EVENTS, Message::new("served").with_key("ada").with_header("table", "4")).await?;
    let held = next(&mut kitchen, "served").await;
    // As if the process ended here: nothing is settled, closed or said.
    std::mem::forget((held, kitchen, broker));

    let broker = open(&folder.files()).await?;
    for (subscription, attempt) in [("kitchen", 2), ("billing", 1)] {
        let delivery = next(&mut broker.consumer(EVENTS.subscription(subscription)).await?, "served").await;
        assert_eq!(delivery.attempt(), attempt, "{subscription}");
        assert_eq!(delivery.message().key().and_then(|key| key.as_text()), Some("ada"));
        assert_eq!(delivery.message().headers().text("table"), Some("4"));
        delivery.ack().await?;
    }
    broker.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_ends_nothing_and_a_broken_file_stops_nobody() -> anybroker::Result<()> {
    let folder = Folder::new("heal");
    let files = folder.files();
    let broker = open(&files).await?;
    let mut orders = broker.consumer(&ORDERS).await?;
    let mut dead = broker.consumer(ORDERS.dead_letters()).await?;
    broker.send(&ORDERS, Message::new("first")).await?;
    let lost = next(&mut orders, "first").await;
    files.cut();
    lost.lost().await;
    assert_eq!(lost.ack().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let again = next(&mut orders, "first").await;
    assert_eq!(again.attempt(), 2);
    again.ack().await?;

    files.put(&Binding::new(ORDERS.clone()), b"no record")?;
    broker.send(&ORDERS, Message::new("second")).await?;
    next(&mut orders, "second").await.ack().await?;
    next(&mut dead, "no record").await.ack().await?;
    broker.close().await?;
    Ok(())
}

#[tokio::test]
async fn what_files_cannot_keep_is_refused_when_the_channel_opens() -> anybroker::Result<()> {
    let folder = Folder::new("refuse");
    let broker = open(&folder.files()).await?;
    let durable = broker.producer(&Channel::point_to_point("ledger").durable()).await.unwrap_err();
    assert_eq!(durable.kind(), ErrorKind::Unsupported);
    assert!(durable.to_string().starts_with(
        "channel `ledger` requires `durable`, which `files` cannot keep: it does not wait until a file is on disk"
    ));
    let ephemeral = broker.consumer(EVENTS.ephemeral()).await.unwrap_err();
    assert_eq!(ephemeral.kind(), ErrorKind::Unsupported);
    assert!(folder.count("") == 0, "a refusal leaves nothing behind");
    broker.close().await?;
    Ok(())
}

async fn open(files: &Files) -> anybroker::Result<Broker> {
    Broker::builder().adapter("main", files.connect()).open().await
}

async fn next(consumer: &mut Consumer, text: &str) -> Delivery {
    let delivery = consumer.receive().await.expect("heals").expect("open");
    assert_eq!(delivery.message().body(), text.as_bytes());
    delivery
}

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("files-{test}-{}", std::process::id()));
        Self(path)
    }

    fn files(&self) -> Files {
        Files::open(&self.0).expect("a folder in the target directory")
    }

    /// How many files a folder has.
    fn count(&self, folder: &str) -> usize {
        std::fs::read_dir(self.0.join(folder)).map_or(0, Iterator::count)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the target directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
