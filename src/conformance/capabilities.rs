//! What an adapter says it can do is what it does.

use super::check::{Check, Checked, Stop, check, checks, ensure};
use super::lab::{Lab, messages};
use crate::adapter::{Capabilities, Capability};

pub(super) const CHECKS: &[Check] = &[
    check!("capabilities/every-declared-one-is-exercised", every_declared_one_is_exercised),
    check!("capabilities/effective-within-declared", effective_within_declared),
    check!("capabilities/receipts-keep-the-level", receipts_keep_the_level),
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
    ensure!(
        kinds.iter().any(|kind| declared.has(*kind)),
        "declares no kind of channel"
    );
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
