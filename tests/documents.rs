//! What the documents show is what is there.

#![expect(clippy::expect_used, reason = "a test, in functions that tests share")]

use anybroker::{Broker, Config, ErrorKind};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_guide_quotes_the_adapter_as_it_is() {
    let sources: String = ["files.rs", "main.rs", "conformance.rs"]
        .iter()
        .map(|file| words(&read(&format!("tests/external_adapter/{file}"))))
        .collect();
    let guide = read("src/docs/write_an_adapter.md");
    let quotes = blocks(&guide, "custom,{class=language-rust}");
    assert!(quotes.len() > 5, "{} quotes", quotes.len());
    for quote in quotes {
        assert!(sources.contains(&words(&quote)), "the guide quotes what is not there:\n{quote}");
    }
}

#[tokio::test]
async fn the_front_page_shows_the_configuration_that_the_example_reads() {
    let shown = blocks(&read("README.md"), "toml").remove(1);
    assert!(read("examples/messaging.toml").contains(&shown), "the front page differs from the example");
    let broker = Broker::open(Config::from_toml(&shown).expect("can be read")).await.expect("opens");
    broker.close().await.expect("closes");
}

#[tokio::test]
async fn the_front_page_shows_the_error_that_start_up_gives() {
    let shown = blocks(&read("README.md"), "text").remove(0);
    let broker =
        Broker::open(Config::load("examples/messaging.toml").expect("can be read")).await.expect("opens");
    let ledger = anybroker::Channel::point_to_point("ledger");
    let error = broker.producer(&ledger).await.expect_err("memory is not durable");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(format!("error: {error}\n"), shown);
    broker.close().await.expect("closes");
}

#[test]
fn the_front_page_shows_what_the_tour_prints() {
    let tour = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "tour"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(tour.status.success(), "{}", String::from_utf8_lossy(&tour.stderr));
    let shown = blocks(&read("README.md"), "console").remove(0);
    let shown = shown.lines().skip(1).take_while(|line| *line != "…");
    let printed = String::from_utf8(tour.stdout).expect("text");
    assert!(
        printed.lines().zip(shown.clone()).all(|(printed, shown)| printed == shown),
        "the tour prints:\n{printed}"
    );
    assert!(shown.count() > 5);
}

/// The blocks of that kind in a Markdown document.
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in document.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info == kind, String::new())),
            (Some(_), Some(_)) => {
                blocks.extend(open.take().filter(|(wanted, _)| *wanted).map(|(_, text)| text))
            }
            (Some((_, text)), None) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// The text without its layout.
fn words(text: &str) -> String {
    text.split_whitespace().map(|word| format!("{word} ")).collect()
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).expect("a file of this repository")
}
