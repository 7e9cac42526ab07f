//! A message reaches one of the competing consumers: not none, not two.

use super::History;
use super::check::{Check, Checked, check, ensure};
use super::lab::{Lab, Route, messages};
use crate::adapter::{Capability, Channel, ChannelKind};

const NEEDS: &[Capability] = &[Capability::PointToPoint];

pub(super) const CHECKS: &[Check] = &[
    check!("point-to-point/one-consumer", one_consumer).needs(NEEDS),
    check!("point-to-point/competing-consumers", competing_consumers).needs(NEEDS),
    check!("point-to-point/waits-for-a-consumer", waits_for_a_consumer).needs(NEEDS),
    check!("point-to-point/goes-on-after-close", goes_on_after_close).needs(NEEDS),
    check!("point-to-point/channels-do-not-mix", channels_do_not_mix).needs(NEEDS),
    check!("point-to-point/through-the-broker", through_the_broker).needs(NEEDS),
];

async fn one_consumer(lab: Lab) -> Checked {
    competing(&lab, 1, 1, 200).await
}

async fn competing_consumers(lab: Lab) -> Checked {
    competing(&lab, 3, 4, 150).await
}

/// So many producers and consumers, each on a connection of its own, and so many messages of each producer: each arrives once.
async fn competing(lab: &Lab, producers: usize, consumers: usize, count: usize) -> Checked {
    let route = Route::channel(lab.point_to_point());
    let history = History::new();
    lab.connect().await?.declare(&route.topology()).await?;
    let on = route.binding.channel.name();
    let mut reading = tokio::task::JoinSet::new();
    let all = producers * count;
    for n in 0..consumers {
        let link = lab.connect().await?;
        let mut inlet = link.receiver_of(route.source(), 20).await?;
        let (history, on) = (history.clone(), on.to_owned());
        reading.spawn(async move {
            let done = || history.accepted() == all && history.is_complete(&[&on]);
            inlet.drain(&history, &on, &format!("c{n}"), done).await?;
            inlet.close().await?;
            link.close().await
        });
    }
    for n in 0..producers {
        let link = lab.connect().await?;
        let mut outlet = link.sender(route.target()).await?;
        let history = history.clone();
        reading.spawn(async move {
            let producer = format!("p{n}");
            for batch in messages(&producer, &[], count).chunks(10) {
                outlet.send_noting(&history, &producer, batch).await?;
            }
            outlet.close().await?;
            link.close().await
        });
    }
    let ended = reading.join_all().await;
    // The history says more than "waited in vain", so it speaks first.
    history.exact_copies(&[on])?;
    ended.into_iter().collect()
}

async fn waits_for_a_consumer(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = Route::channel(lab.point_to_point());
    link.declare(&route.topology()).await?;
    let history = History::new();
    let mut outlet = link.sender(route.target()).await?;
    outlet.send_noting(&history, "p", &messages("p", &[], 20)).await?;
    link.close().await?;
    finish(&lab, &route, &history, 20).await
}

async fn goes_on_after_close(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = Route::channel(lab.point_to_point());
    let (mut outlet, mut inlet) = link.open(&route).await?;
    let history = History::new();
    outlet.send_noting(&history, "p", &messages("p", &[], 40)).await?;
    for delivery in inlet.take(15).await? {
        if let Ok(message) = &delivery.content {
            history.arrived(route.binding.channel.name(), "first", message, delivery.attempt);
        }
        inlet.ack(&delivery).await?;
    }
    inlet.close().await?;
    link.close().await?;
    finish(&lab, &route, &history, 40).await
}

async fn channels_do_not_mix(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let stem = lab.name();
    let names =
        [stem.clone(), format!("{stem}-1"), format!("{stem}-11"), format!("{stem}_1"), format!("a{stem}")];
    let mut open = Vec::new();
    for name in &names {
        let route = Route::channel(Channel::named(ChannelKind::PointToPoint, name));
        open.push(link.open(&route).await?);
    }
    // Backwards and in different numbers: receivers that share a queue must not each get their own by chance.
    for (n, ((outlet, _), name)) in open.iter_mut().zip(&names).enumerate().rev() {
        outlet.send(&messages(name, &[], 3 + n)).await?;
    }
    for (n, ((_, inlet), name)) in open.iter_mut().zip(&names).enumerate() {
        let own = History::new();
        for message in messages(name, &[], 3 + n) {
            own.sent(name, &message, None);
        }
        inlet.drain(&own, name, "c", || own.is_complete(&[name])).await?;
        own.exact_copies(&[name])?;
    }
    link.close().await
}

async fn through_the_broker(lab: Lab) -> Checked {
    const EACH: usize = 120;
    let route = Route::channel(lab.point_to_point());
    let history = History::new();
    let mut working = tokio::task::JoinSet::new();
    for n in 0..3 {
        let broker = lab.broker().await?;
        let mut consumer = lab.consumer_of(&broker, route.from(), 16).await?;
        let (lab, route, history) = (lab.clone(), route.clone(), history.clone());
        working.spawn(async move {
            let on = route.named().name();
            let done = || history.accepted() == 2 * EACH && history.is_complete(&[on]);
            lab.drain(&mut consumer, &history, on, &format!("c{n}"), done).await?;
            lab.close(&broker).await
        });
    }
    for n in 0..2 {
        let broker = lab.broker().await?;
        let producer = lab.producer(&broker, &route).await?;
        let (lab, history) = (lab.clone(), history.clone());
        working.spawn(async move {
            let name = format!("p{n}");
            for some in messages(&name, &[], EACH).chunks(7) {
                lab.send_all(&producer, &history, &name, some).await?;
            }
            lab.close(&broker).await
        });
    }
    let ended = working.join_all().await;
    ensure!(history.accepted() == 2 * EACH, "{} of {} sends were accepted", history.accepted(), 2 * EACH);
    history.exact_copies(&[route.named().name()])?;
    ended.into_iter().collect()
}

/// A new consumer on a new connection gets what is left of `count` messages, and with it each has arrived once.
async fn finish(lab: &Lab, route: &Route, history: &History, count: usize) -> Checked {
    let on = route.binding.channel.name();
    let link = lab.connect().await?;
    let mut inlet = link.receiver(route.source()).await?;
    let ended = inlet.drain(history, on, "last", || history.distinct(on) == count).await;
    history.exact_copies(&[on])?;
    ended?;
    inlet.close().await?;
    link.close().await
}
