//! What an adapter says it can do is what it does.

use super::Faults;
use super::check::{Check, Checked, Stop, check, checks, ensure};
use super::lab::{Lab, Route, messages};
use crate::ErrorKind;
use crate::adapter::{Capabilities, Capability, Start, Support};

pub(super) const CHECKS: &[Check] = &[
    check!("capabilities/every-declared-one-is-exercised", every_declared_one_is_exercised),
    check!("capabilities/effective-within-declared", effective_within_declared),
    check!("capabilities/receipts-keep-the-level", receipts_keep_the_level),
    check!("capabilities/undeclared-is-refused", undeclared_is_refused),
];

async fn every_declared_one_is_exercised(lab: Lab) -> Checked {
    let declared = lab.capabilities();
    let idle: Vec<&str> = Capability::ALL
        .into_iter()
        .filter(|capability| declared.has(*capability))
        .filter(|capability| {
            !checks().iter().any(|check| {
                check.exercises.contains(capability) && check.obstacle(declared, lab.fixture()).is_none()
            })
        })
        .map(Capability::as_str)
        .collect();
    ensure!(idle.is_empty(), "declared, and no check that runs exercises it: {}", idle.join(", "));
    let kinds = [Capability::PointToPoint, Capability::PublishSubscribe];
    ensure!(kinds.iter().any(|kind| declared.has(*kind)), "declares no kind of channel");
    Ok(())
}

async fn effective_within_declared(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (outlet, inlet) = link.open(&lab.route(|channel| channel)).await?;
    let declared = lab.capabilities();
    within(declared, &outlet.capabilities, "the sender's")?;
    within(declared, &inlet.capabilities, "the receiver's")?;
    link.close().await
}

fn within(declared: &Capabilities, effective: &Capabilities, whose: &str) -> Checked {
    let beyond: Vec<&str> = Capability::ALL
        .into_iter()
        .filter(|capability| effective.has(*capability) && !declared.has(*capability))
        .map(Capability::as_str)
        .collect();
    ensure!(
        beyond.is_empty(),
        "{whose} effective capabilities have what the adapter does not declare: {}",
        beyond.join(", ")
    );
    ensure!(
        effective.level <= declared.level,
        "{whose} level {:?} is above the declared {:?}",
        effective.level,
        declared.level
    );
    for (limit, effective, declared) in [
        ("largest message", effective.max_message_bytes, declared.max_message_bytes),
        ("largest batch", effective.max_batch_messages, declared.max_batch_messages),
        ("largest batch in bytes", effective.max_batch_bytes, declared.max_batch_bytes),
    ] {
        let above = declared.is_some_and(|declared| effective.is_none_or(|effective| effective > declared));
        ensure!(!above, "{whose} {limit} {effective:?} is above the declared {declared:?}");
    }
    Ok(())
}

async fn receipts_keep_the_level(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let (mut outlet, _inlet) = link.open(&lab.route(|channel| channel)).await?;
    let promised = outlet.capabilities.level;
    for result in outlet.try_send(&messages("p", &[], 10)).await? {
        let level = result.map_err(Stop::from)?.level;
        ensure!(level >= promised, "a receipt of level {level:?} where {promised:?} is declared");
    }
    link.close().await
}

async fn undeclared_is_refused(lab: Lab) -> Checked {
    for capability in Capability::ALL {
        let Some(route) = requiring(&lab, capability) else { continue };
        // Each is undeclared in its turn, also where this adapter has it.
        let faults = Faults::new();
        faults.without(capability);
        let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
        let opened = match &route.subscription {
            Some(_) => lab.within("the consumer to open", broker.consumer(route.from())).await?.map(drop),
            None => lab.within("the producer to open", broker.producer(route.named())).await?.map(drop),
        };
        lab.close(&broker).await?;
        match opened {
            // What the portable layer makes up for is kept all the same, and says so.
            Ok(()) if made_up_for(&lab, &route, capability).await? => {}
            Ok(()) => {
                ensure!(false, "a channel that requires `{capability}` was opened on an adapter without it")
            }
            Err(error) => {
                let text = error.to_string();
                ensure!(error.kind() == ErrorKind::Unsupported, "`{capability}` is refused as {error:?}");
                ensure!(
                    text.contains(capability.as_str()),
                    "`{capability}` is refused without its name: {text}"
                );
                ensure!(error.help().is_some(), "`{capability}` is refused without help: {text}");
                let left = lab.connect().await?.try_sender(route.target()).await?;
                ensure!(left.is_err(), "`{capability}` was refused, and the channel was made all the same");
            }
        }
    }
    Ok(())
}

async fn made_up_for(lab: &Lab, route: &Route, capability: Capability) -> Checked<bool> {
    let faults = Faults::new();
    faults.without(capability);
    let broker = lab.broker_over(faults.over(lab.fixture().adapter().await?)).await?;
    let effective = lab.producer(&broker, route).await?.capabilities().support(capability);
    lab.close(&broker).await?;
    Ok(effective == Support::Emulated)
}

/// A new route whose opening needs that capability, if a channel can ask for it on this adapter.
fn requiring(lab: &Lab, capability: Capability) -> Option<Route> {
    let published = lab.capabilities().has(Capability::PublishSubscribe);
    let point_to_point = |channel| Some(Route::channel(channel));
    match capability {
        Capability::PointToPoint => point_to_point(lab.point_to_point()),
        Capability::PublishSubscribe => Some(Route::subscription(lab.publish_subscribe().subscription("s"))),
        Capability::NamedSubscription if published => {
            Some(Route::subscription(lab.publish_subscribe().subscription("s")))
        }
        Capability::EphemeralSubscription if published => {
            Some(Route::subscription(lab.publish_subscribe().ephemeral()))
        }
        Capability::StartPosition if lab.capabilities().has(Capability::NamedSubscription) => {
            let subscription = lab.publish_subscribe().subscription("s").from(Start::Earliest);
            Some(Route::subscription(subscription))
        }
        Capability::OrderPerKey => Some(lab.route(|channel| channel.order_per_key())),
        Capability::Durable => Some(lab.route(|channel| channel.durable())),
        Capability::DelayedRetry => Some(lab.route(|channel| channel.delayed_retry())),
        Capability::DeadLetter => Some(lab.route(|channel| channel.dead_letter_after(3))),
        Capability::Bounded => Some(lab.route(|channel| channel.bounded(10))),
        // No channel requires these: they are used where they are, or on demand.
        _ => None,
    }
}
