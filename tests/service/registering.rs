use crate::kitchen::{EVENTS, ORDERED, ORDERS, Order, Outcome, Served};
use anybroker::message::Kind;
use anybroker::service::{Followers, Policy};
use anybroker::{Body, Broker, Channel, Command, Context, ErrorKind, Failure, Message, Result, Service};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Happened;

impl Body for Happened {
    const TYPE: &'static str = "happened";
    const KIND: Option<Kind> = Some(Kind::Event);
}

impl Command for Happened {
    type Reply = Served;
}

async fn serve(_: Order, _: Context) -> Outcome {
    Ok(())
}

async fn answer(_: Order, _: Context) -> std::result::Result<Served, Failure> {
    Ok(Served { id: 0 })
}

async fn reply(_: Happened, _: Context) -> std::result::Result<Served, Failure> {
    Ok(Served { id: 0 })
}

async fn stateful(_: Order, _: Context<u8>) -> Outcome {
    Ok(())
}

async fn rest(_: Message, _: Context) -> Outcome {
    Ok(())
}

/// What `check` says, the help included.
fn mistake<S: Send + Sync + 'static>(service: &Service<S>) -> String {
    let error = service.check().expect_err("a mistake");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

#[test]
fn mistakes_are_found_before_the_first_message() {
    static OTHER: Channel = Channel::point_to_point("orders").durable();
    let kitchen = || Service::new("kitchen");
    for (found, parts) in [
        (mistake(&kitchen()), ["service `kitchen`", "there is no handler", "`handle`"]),
        (
            mistake(&kitchen().handle(&ORDERS, serve).handle(&ORDERS, answer)),
            ["`orders`", "two handlers for messages of type `order`", "`Body::TYPE`"],
        ),
        (
            mistake(&kitchen().handle(&EVENTS, reply)),
            ["`events/kitchen`", "replies `served` to an event", "return `()`"],
        ),
        (
            mistake(&kitchen().fallback(&ORDERS, rest).fallback(&ORDERS, rest)),
            ["`orders`", "two fallbacks", "drop one"],
        ),
        (
            mistake(&kitchen().handle(&ORDERS, serve).handle(&OTHER, answer)),
            ["`orders`", "another kind or other requirements", "as a static"],
        ),
        (
            mistake(&kitchen().handle(&ORDERS, serve).policy_for(&ORDERED, Policy::new())),
            ["`ordered`", "a policy and no handler", "`policy_for`"],
        ),
        (
            mistake(&kitchen().handle(&ORDERS, serve).with_state(0_u8).handle(&ORDERS, stateful)),
            ["a state after its handlers", "`with_state`", "right after `new`"],
        ),
        (
            mistake(&Service::new("the kitchen").handle(&ORDERS, serve)),
            ["the service name \"the kitchen\"", "' '", "every broker can carry"],
        ),
    ] {
        for part in parts {
            assert!(found.contains(part), "`{part}` is not in: {found}");
        }
    }
}

#[test]
fn a_service_is_data() {
    let service =
        Service::new("kitchen").handle(&ORDERS, answer).handle(&EVENTS, serve).fallback(&EVENTS, rest);
    let rows: Vec<_> = service
        .operations()
        .into_iter()
        .map(|operation| (operation.message, operation.kind, operation.reply))
        .collect();
    assert_eq!(
        rows,
        [(Some("order"), None, Some("served")), (Some("order"), None, None), (None, None, None)]
    );
    assert!(format!("{service:?}").contains("kitchen"));
}

#[tokio::test]
async fn a_policy_that_the_channel_does_not_allow_is_refused_at_start() -> Result<()> {
    static SURE: Channel = Channel::point_to_point("sure").dead_letter_after(3);
    let broker = Broker::connect("memory://").await?;
    let start = async |service: Service| service.start(&broker).await.map(drop).unwrap_err().to_string();

    let forever = Policy::new().followers(Followers::Wait);
    let error = start(Service::new("kitchen").policy(forever).handle(&SURE, serve)).await;
    assert!(error.contains("dead letter after 3 attempts"), "{error}");

    let error = start(Service::new("kitchen").handle(EVENTS.ephemeral(), serve)).await;
    assert!(error.contains("`events/(ephemeral)` has no dead letters"), "{error}");

    let patient = Policy::new().backoff(Duration::from_secs(1), Duration::from_secs(60));
    let running = Service::new("kitchen").policy(patient).handle(&ORDERS, serve).start(&broker).await?;
    running.stop().await.map(drop)
}
