//! A message reaches every subscription, once each.

use super::History;
use super::bare::BareLink;
use super::check::{Check, Checked, check, ensure};
use super::lab::{Lab, Route, messages, numbered};
use crate::adapter::{Capability, Channel, Start, Subscription};

const NAMED: &[Capability] = &[Capability::PublishSubscribe, Capability::NamedSubscription];
const EPHEMERAL: &[Capability] = &[Capability::PublishSubscribe, Capability::EphemeralSubscription];
const POSITIONED: &[Capability] =
    &[Capability::PublishSubscribe, Capability::NamedSubscription, Capability::StartPosition];

pub(super) const CHECKS: &[Check] = &[
    check!("publish-subscribe/every-subscription-gets-all", every_subscription_gets_all).needs(NAMED),
    check!("publish-subscribe/competing-consumers-share", competing_consumers_share).needs(NAMED),
    check!("publish-subscribe/named-keeps-while-away", named_keeps_while_away).needs(NAMED),
    check!("publish-subscribe/start-is-fixed-at-open", start_is_fixed_at_open).needs(NAMED),
    check!("publish-subscribe/ephemeral-get-all", ephemeral_get_all).needs(EPHEMERAL),
    check!("publish-subscribe/ephemeral-vanish", ephemeral_vanish).needs(EPHEMERAL),
    check!("publish-subscribe/nobody-subscribed", nobody_subscribed).needs(&[Capability::PublishSubscribe]),
    check!("publish-subscribe/starts-with-the-next", starts_with_the_next).needs(NAMED),
    check!("publish-subscribe/starts-with-the-oldest", starts_with_the_oldest).needs(POSITIONED),
    check!("publish-subscribe/starts-at-a-time", starts_at_a_time).needs(POSITIONED),
    check!("publish-subscribe/start-is-asked-once", start_is_asked_once).needs(POSITIONED),
    check!("publish-subscribe/through-the-broker", through_the_broker).needs(NAMED),
];

async fn every_subscription_gets_all(lab: Lab) -> Checked {
    let channel = lab.publish_subscribe();
    let subscriptions = ["kitchen", "billing", "kitchen-2"].map(|name| channel.subscription(name));
    fan_out(&lab, &channel, &subscriptions, 1).await
}

async fn competing_consumers_share(lab: Lab) -> Checked {
    let channel = lab.publish_subscribe();
    let subscriptions = ["kitchen", "billing"].map(|name| channel.subscription(name));
    fan_out(&lab, &channel, &subscriptions, 3).await
}

async fn ephemeral_get_all(lab: Lab) -> Checked {
    let channel = lab.publish_subscribe();
    let subscriptions = [channel.ephemeral(), channel.ephemeral(), channel.ephemeral()];
    fan_out(&lab, &channel, &subscriptions, 1).await
}

/// Each subscription, with so many consumers, gets each message once.
async fn fan_out(lab: &Lab, channel: &Channel, subscriptions: &[Subscription], consumers: usize) -> Checked {
    const COUNT: usize = 60;
    let history = History::new();
    let names: Vec<String> = subscriptions
        .iter()
        .enumerate()
        .map(|(n, s)| s.name().map_or_else(|| format!("ephemeral {n}"), str::to_owned))
        .collect();
    let mut reading = tokio::task::JoinSet::new();
    for (subscription, name) in subscriptions.iter().zip(&names) {
        let route = Route::subscription(subscription.clone());
        for n in 0..consumers {
            let link = lab.connect().await?;
            link.declare(&route.topology()).await?;
            let mut inlet = link.receiver_of(route.source(), 10).await?;
            let (history, name) = (history.clone(), name.clone());
            reading.spawn(async move {
                let done = || history.accepted() == COUNT && history.is_complete(&[&name]);
                inlet.drain(&history, &name, &format!("{name}/c{n}"), done).await?;
                inlet.close().await?;
                link.close().await
            });
        }
    }
    let link = lab.connect().await?;
    let mut outlet = link.sender(Route::subscription(channel.ephemeral()).target()).await?;
    outlet.send_noting(&history, "p", &messages("p", &[], COUNT)).await?;
    link.close().await?;
    let ended = reading.join_all().await;
    history.exact_copies(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    ended.into_iter().collect()
}

async fn named_keeps_while_away(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = Route::subscription(lab.publish_subscribe().subscription("kitchen"));
    let (mut outlet, inlet) = link.open(&route).await?;
    inlet.close().await?;
    outlet.send(&messages("p", &[], 10)).await?;
    expect(&link, &route, &messages("p", &[], 10)).await?;
    link.close().await
}

async fn start_is_fixed_at_open(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = Route::subscription(lab.publish_subscribe().subscription("kitchen"));
    link.declare(&route.topology()).await?;
    let mut outlet = link.sender(route.target()).await?;
    let doomed = lab.connect().await?;
    let inlet = doomed.receiver(route.source()).await?;
    outlet.send(&messages("p", &[], 10)).await?;
    // Nothing was settled yet when the consumer dies: the start was still fixed when the receiver opened.
    inlet.crash().await?;
    doomed.close().await?;
    expect(&link, &route, &messages("p", &[], 10)).await?;
    link.close().await
}

async fn ephemeral_vanish(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = Route::subscription(lab.publish_subscribe().ephemeral());
    let (mut outlet, mut inlet) = link.open(&route).await?;
    outlet.send(&numbered("p", &[], 0..5)).await?;
    inlet.take(2).await?;
    inlet.close().await?;
    outlet.send(&numbered("p", &[], 5..10)).await?;
    let mut again = link.receiver(route.source()).await?;
    outlet.send(&numbered("p", &[], 10..15)).await?;
    arrives(&mut again, &numbered("p", &[], 10..15)).await?;
    again.close().await?;
    link.close().await
}

async fn nobody_subscribed(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = Route::subscription(lab.publish_subscribe().ephemeral());
    link.declare(&route.topology()).await?;
    let mut outlet = link.sender(route.target()).await?;
    outlet.send(&messages("p", &[], 10)).await?;
    link.close().await
}

async fn starts_with_the_next(lab: Lab) -> Checked {
    let starting = |channel: &Channel| channel.subscription("late");
    late_subscriber(&lab, starting, 5..10).await
}

async fn starts_with_the_oldest(lab: Lab) -> Checked {
    let starting = |channel: &Channel| channel.subscription("late").from(Start::Earliest);
    late_subscriber(&lab, starting, 0..10).await
}

/// What a subscription sees that is new after five messages, of ten.
async fn late_subscriber(
    lab: &Lab,
    starting: impl Fn(&Channel) -> Subscription,
    sees: std::ops::Range<usize>,
) -> Checked {
    let link = lab.connect().await?;
    let channel = lab.publish_subscribe();
    let early = Route::subscription(channel.subscription("early"));
    let (mut outlet, mut inlet) = link.open(&early).await?;
    outlet.send(&numbered("p", &[], 0..5)).await?;
    arrives(&mut inlet, &numbered("p", &[], 0..5)).await?;
    let late = Route::subscription(starting(&channel));
    link.declare(&late.topology()).await?;
    let mut late = link.receiver(late.source()).await?;
    outlet.send(&numbered("p", &[], 5..10)).await?;
    arrives(&mut late, &numbered("p", &[], sees)).await?;
    link.close().await
}

async fn starts_at_a_time(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let channel = lab.publish_subscribe();
    let (mut outlet, _early) = link.open(&Route::subscription(channel.subscription("early"))).await?;
    outlet.send(&numbered("p", &[], 0..5)).await?;
    // The broker's clock is not ours: the moment lies well between the two groups.
    lab.quiet().await;
    let between = lab.clock().wall();
    lab.quiet().await;
    outlet.send(&numbered("p", &[], 5..10)).await?;
    let late = Route::subscription(channel.subscription("late").from(Start::At(between)));
    link.declare(&late.topology()).await?;
    expect(&link, &late, &numbered("p", &[], 5..10)).await?;
    link.close().await
}

async fn start_is_asked_once(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let channel = lab.publish_subscribe();
    let from_the_oldest = Route::subscription(channel.subscription("kitchen").from(Start::Earliest));
    let (mut outlet, mut inlet) = link.open(&from_the_oldest).await?;
    outlet.send(&numbered("p", &[], 0..5)).await?;
    arrives(&mut inlet, &numbered("p", &[], 0..5)).await?;
    inlet.close().await?;
    outlet.send(&numbered("p", &[], 5..10)).await?;
    link.declare(&from_the_oldest.topology()).await?;
    expect(&link, &from_the_oldest, &numbered("p", &[], 5..10)).await?;
    link.close().await
}

async fn through_the_broker(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let channel = lab.publish_subscribe();
    match lab.within("the consumer to open", broker.consumer(&channel)).await? {
        Ok(_) => ensure!(false, "a consumer without subscription was opened on a publish-subscribe channel"),
        Err(error) => {
            let text = error.to_string();
            let names_both = text.contains("subscription(") && text.contains("ephemeral()");
            ensure!(names_both, "a consumer needs a subscription, and this does not say how: {text}");
        }
    }
    let history = History::new();
    let mut readers = Vec::new();
    for name in ["kitchen", "billing"] {
        readers.push((name, lab.consumer(&broker, channel.subscription(name)).await?));
    }
    if lab.capabilities().has(Capability::EphemeralSubscription) {
        readers.push(("ephemeral", lab.consumer(&broker, channel.ephemeral()).await?));
    }
    let producer = lab.producer(&broker, &Route::subscription(channel.subscription("kitchen"))).await?;
    lab.send_all(&producer, &history, "p", &messages("p", &[], 30)).await?;
    ensure!(history.accepted() == 30, "{} of 30 sends were accepted", history.accepted());
    let mut names = Vec::new();
    for (name, mut consumer) in readers {
        lab.drain(&mut consumer, &history, name, name, || history.is_complete(&[name])).await?;
        names.push(name);
    }
    history.exact_copies(&names)?;
    lab.close(&broker).await
}

/// A new receiver gets exactly these.
async fn expect(link: &BareLink, route: &Route, expected: &[crate::Message]) -> Checked {
    let mut inlet = link.receiver(route.source()).await?;
    arrives(&mut inlet, expected).await?;
    inlet.close().await
}

/// Exactly these arrive, in any order, and are acknowledged.
pub(super) async fn arrives(inlet: &mut super::bare::BareReceiver, expected: &[crate::Message]) -> Checked {
    let history = History::new();
    for message in expected {
        history.sent("p", message, None);
    }
    let done = || history.is_complete(&["here"]);
    inlet.drain(&history, "here", "c", done).await?;
    history.exact_copies(&["here"])?;
    ensure!(history.arrivals() == expected.len(), "{} arrivals", history.arrivals());
    Ok(())
}
