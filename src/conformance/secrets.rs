//! No credential shows anywhere.

use super::Faults;
use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::Lab;
use crate::adapter::{Adapter, Events, ReceiverOptions, Room, SenderOptions};
use crate::{Broker, Config, Message};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span;

pub(super) const CHECKS: &[Check] = &[
    check!("secrets/in-no-debug-or-error", in_no_debug_or_error),
    check!("secrets/in-no-log-line", in_no_log_line),
];

async fn in_no_debug_or_error(lab: Lab) -> Checked {
    let secrets = secrets(&lab)?;
    let mut said = Said::default();
    everything(&lab, &mut said).await;
    said.hides(&secrets)
}

async fn in_no_log_line(lab: Lab) -> Checked {
    let secrets = secrets(&lab)?;
    let log = Log::default();
    // The log of one thread is caught, so all runs on one thread.
    let catching = {
        let (lab, log) = (lab.clone(), log.clone());
        move || -> Result<(), std::io::Error> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // While there is one subscriber alone, what another thread logs first is switched off for all threads: so there are two.
            let _second = tracing::Dispatch::new(Log::default());
            tracing::subscriber::with_default(log, || {
                runtime.block_on(everything(&lab, &mut Said::default()));
            });
            Ok(())
        }
    };
    let caught = lab.within("the operations to end", tokio::task::spawn_blocking(catching)).await?;
    caught?.map_err(|e| format!("no runtime: {e}"))?;
    let lines = log.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Said(lines).hides(&secrets)
}

/// Opens, uses and closes with the fixture's URL and adapter, and keeps every text that this gives: most of it fails, on purpose.
async fn everything(lab: &Lab, said: &mut Said) {
    let url = lab.fixture().url().unwrap_or_default();
    said.debug("the configuration", &Config::url(&url));
    // A URL that is wrong behind its credentials is the one whose error is tempting to print whole.
    for broken in
        [format!("{url}?no-such-parameter=1"), format!("{url}:not-a-port"), url.replace("://", ":/")]
    {
        if let Err(error) = Config::url(&broken) {
            said.error("a broken URL", &error);
        }
        if let Ok(config) = Config::url(&broken)
            && let Ok(Err(error)) = lab.within("opening", Broker::open(config)).await
        {
            said.error("a broken URL", &error);
        }
    }
    if let Ok(config) = Config::url(&url) {
        said.debug("the builder", &Broker::builder().config(config.clone()));
        match Broker::builder().config(config).open_lazy() {
            Err(error) => said.error("opening by the URL", &error),
            // A lazy broker waits for a server that may not be there: a short while is enough to hear it.
            Ok(broker) => uses(lab, said, &broker, lab.timing().quiet, || {}).await,
        }
    }
    let Ok(adapter) = lab.fixture().adapter().await else { return };
    said.debug("the adapter", &adapter);
    refusals(lab, said, &*adapter).await;
    let faults = Faults::new();
    if let Ok(broker) = lab.broker_over(faults.over(adapter)).await {
        uses(lab, said, &broker, lab.timing().patience, || faults.cut()).await;
    }
}

/// What a broker says of itself, of a new channel, and when its connection is lost.
async fn uses(
    lab: &Lab,
    said: &mut Said,
    broker: &Broker,
    patience: Duration,
    lose: impl Fn() + Send + Sync,
) {
    said.debug("the broker", broker);
    said.debug("the status", &*broker.status().borrow());
    let route = lab.route(|channel| channel);
    if let Ok(Err(error)) = lab.within("health", broker.health()).await {
        said.error("health", &error);
    }
    let opening = lab.within_time(patience, "opening", async {
        let producer = broker.producer(route.named()).await?;
        said.debug("the producer", &producer);
        said.debug("the receipt", &producer.send(Message::new("")).await);
        let consumer = broker.consumer(route.from()).await?;
        said.debug("the consumer", &consumer);
        lose();
        // It is sent once there is a connection again.
        said.debug("the receipt after the loss", &producer.send(Message::new("")).await);
        said.debug("its status", &consumer.status());
        crate::Result::Ok(())
    });
    if let Ok(Err(error)) = opening.await {
        said.error("opening", &error);
    }
    said.debug("the status", &*broker.status().borrow());
    let _ = lab.within("close", broker.close()).await;
}

/// What the adapter says when it is asked for what is not there.
async fn refusals(lab: &Lab, said: &mut Said, adapter: &dyn Adapter) {
    let route = lab.route(|channel| channel);
    let deadline = lab.clock().now() + lab.timing().patience;
    let sender = SenderOptions::new(deadline, lab.clock(), Events::ignored());
    let room = Room::new(1, 1);
    let receiver = ReceiverOptions::new(room, lab.name().into(), deadline, lab.clock(), Events::ignored());
    if let Ok(Err(error)) = lab.within("open_sender", adapter.open_sender(&route.target(), &sender)).await {
        said.error("open_sender", &error);
    }
    if let Ok(Err(error)) =
        lab.within("open_receiver", adapter.open_receiver(&route.source(), &receiver)).await
    {
        said.error("open_receiver", &error);
    }
}

/// The password of the fixture's URL, as it is written and as it is meant.
fn secrets(lab: &Lab) -> Checked<Vec<String>> {
    let skipped = || Stop::Skipped(String::from("the fixture has no URL with a password"));
    let url = lab.fixture().url().ok_or_else(skipped)?;
    let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let (user, _) = authority.rsplit_once('@').ok_or_else(skipped)?;
    let (_, written) = user.split_once(':').ok_or_else(skipped)?;
    ensure!(written.len() >= 8, "a short password may show by chance: the fixture's has {}", written.len());
    Ok(vec![written.to_owned(), percent_decoded(written)])
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = text_of(tail).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text_of(tail: &[u8]) -> Option<&str> {
    std::str::from_utf8(tail.get(..2)?).ok()
}

/// Texts, each with what said it.
#[derive(Default)]
struct Said(Vec<String>);

impl Said {
    fn debug(&mut self, who: &str, what: &dyn fmt::Debug) {
        self.0.push(format!("{who}: {what:?} {what:#?}"));
    }

    fn error(&mut self, who: &str, error: &crate::Error) {
        let mut text = format!("{who}: {error} {error:?}");
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            let _ = write!(text, " {error} {error:?}");
            source = error.source();
        }
        self.0.push(text);
    }

    fn hides(&self, secrets: &[String]) -> Checked {
        ensure!(!self.0.is_empty(), "nothing was said at all: the check looked in the wrong place");
        for text in &self.0 {
            if let Some(secret) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
                // The report must not show it either.
                return Err(format!(
                    "the password shows: {}",
                    text.replace(secret.as_str(), "(the password)")
                )
                .into());
            }
        }
        Ok(())
    }
}

/// A subscriber that keeps every line and every field.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn keep(&self, record: impl FnOnce(&mut Line)) {
        let mut line = Line(String::new());
        record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        self.keep(|line| attributes.record(line));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        self.keep(|line| values.record(line));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.keep(|line| event.record(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
