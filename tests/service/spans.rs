//! The spans around handling and sending, as a tracing backend gets them.

use crate::kitchen::{EVENTS, ORDERS, Order, Outcome, Served, counts, order, until};
use anybroker::{Broker, Context, Result, Service};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps the spans of this library's services, and the events inside of one.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    spans: Vec<BTreeMap<&'static str, String>>,
    entered: usize,
    said_inside: usize,
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        self.0.insert(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("anybroker::service") || metadata.target().starts_with("service")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        let mut kept = self.0.lock().unwrap();
        kept.spans.push(fields);
        Id::from_u64(kept.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let mut kept = self.0.lock().unwrap();
        kept.said_inside += usize::from(kept.entered > 0);
    }

    fn enter(&self, _: &Id) {
        self.0.lock().unwrap().entered += 1;
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().entered -= 1;
    }
}

async fn tell(order: Order, cx: Context) -> Outcome {
    tracing::info!("cooking");
    cx.send(&EVENTS, &Served { id: order.id }).await?;
    Ok(())
}

#[tokio::test]
async fn handling_and_sending_have_spans_with_opentelemetrys_names() -> Result<()> {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let broker = Broker::connect("memory://").await?;
    let running =
        Service::new("kitchen").handle(&ORDERS, tell).handle(&EVENTS, tell_nobody).start(&broker).await?;
    broker.send(&ORDERS, &order(1, "a secret")).await?;
    until(|| counts(&running) == [2, 0, 0, 0]).await;
    running.stop().await?;

    let kept = spans.0.lock().unwrap();
    let find = |name: &str| kept.spans.iter().find(|span| span["otel.name"] == name).expect(name);
    let process = find("process orders");
    for (field, value) in [
        ("otel.kind", "consumer"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders"),
        ("messaging.message.type", "order"),
        ("messaging.delivery.attempt", "1"),
    ] {
        assert_eq!(process[field], value);
    }
    let send = find("send events");
    assert_eq!(
        (send["otel.kind"].as_str(), send["messaging.destination.name"].as_str()),
        ("producer", "events")
    );
    let heard = find("process events/kitchen");
    assert_eq!(heard["messaging.destination.subscription.name"], "kitchen");
    assert_eq!(heard["messaging.message.conversation_id"], process["messaging.message.id"]);
    assert_eq!((kept.said_inside, kept.entered), (1, 0));
    assert!(!format!("{:?}", kept.spans).contains("secret"));
    Ok(())
}

async fn tell_nobody(_: Served, _: Context) -> Outcome {
    Ok(())
}
