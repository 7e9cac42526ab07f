//! A reply reaches the requester that asked, and nobody else.

use super::body::{Answer, Ask};
use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::{Lab, Route, numbered};
use super::publish_subscribe::arrives;
use super::settlement::{lasting, left_is};
use crate::adapter::{Capability, Target};
use crate::{Broker, Delivery, ErrorKind};
use tokio::task::JoinSet;

const NEEDS: &[Capability] = &[Capability::Replies];

pub(super) const CHECKS: &[Check] = &[
    check!("request-reply/addresses-are-private", addresses_are_private).needs(NEEDS),
    check!("request-reply/address-ends-with-its-owner", address_ends_with_its_owner).needs(NEEDS),
    check!("request-reply/answers-no-foreign-address", answers_no_foreign_address).needs(NEEDS),
    check!("request-reply/answered", answered).needs(NEEDS),
    check!("request-reply/two-requesters", two_requesters).needs(NEEDS),
    check!("request-reply/late-reply", late_reply).needs(NEEDS),
    check!("request-reply/responder-gone", responder_gone).needs(NEEDS),
    check!("request-reply/asked-for-no-answer", asked_for_no_answer).needs(NEEDS),
];

async fn addresses_are_private(lab: Lab) -> Checked {
    let (one, other) = (lab.connect().await?, lab.connect().await?);
    let (address_one, mut inlet_one) = one.replies().await?;
    let (address_other, mut inlet_other) = other.replies().await?;
    let (address_third, mut inlet_third) = one.replies().await?;
    let distinct =
        address_one != address_other && address_one != address_third && address_other != address_third;
    ensure!(distinct, "two requesters share an address: {address_one}, {address_other}, {address_third}");
    let responder = lab.connect().await?;
    let mut to_one = responder.sender(Target::Reply(address_one)).await?;
    let mut to_other = responder.sender(Target::Reply(address_other)).await?;
    let mut to_third = responder.sender(Target::Reply(address_third)).await?;
    to_one.send(&numbered("one", &[], 0..10)).await?;
    to_other.send(&numbered("other", &[], 0..10)).await?;
    to_third.send(&numbered("third", &[], 0..10)).await?;
    arrives(&mut inlet_one, &numbered("one", &[], 0..10)).await?;
    arrives(&mut inlet_other, &numbered("other", &[], 0..10)).await?;
    arrives(&mut inlet_third, &numbered("third", &[], 0..10)).await?;
    one.close().await?;
    other.close().await?;
    responder.close().await
}

async fn address_ends_with_its_owner(lab: Lab) -> Checked {
    let (owner, responder) = (lab.connect().await?, lab.connect().await?);
    let (address, inlet) = owner.replies().await?;
    let mut while_open = responder.sender(Target::Reply(address.clone())).await?;
    while_open.send(&numbered("p", &[], 0..1)).await?;
    inlet.close().await?;
    owner.close().await?;
    // A reply too late goes nowhere or is an error; it waits for nobody. Nor does it reach the next owner.
    let heir = lab.connect().await?;
    let (inherited, mut inlet) = heir.replies().await?;
    ensure!(inherited != address, "the address {address} is given out again");
    while_open.try_send(&numbered("p", &[], 1..2)).await?;
    if let Ok(mut late) = responder.try_sender(Target::Reply(address)).await? {
        late.try_send(&numbered("p", &[], 2..3)).await?;
    }
    inlet.silent("nobody replied to the new address").await?;
    heir.close().await?;
    responder.close().await
}

async fn answers_no_foreign_address(lab: Lab) -> Checked {
    let link = lab.connect().await?;
    let route = lab.route(|channel| channel);
    let (_outlet, mut inlet) = link.open(&route).await?;
    let name = route.binding.native_name().to_owned();
    for address in [name.as_str(), "", "somewhere else", "../../etc", "reply"] {
        match link.try_sender(Target::Reply(address.into())).await? {
            Ok(_) => {
                return Err(Stop::Failed(format!(
                    "replies leave to `{address}`, which is no return address"
                )));
            }
            Err(error) => ensure!(
                error.kind() == ErrorKind::Unauthorized,
                "a reply to `{address}` is refused, but not as unauthorized: {error:?}"
            ),
        }
    }
    inlet.silent("nothing was sent").await?;
    link.close().await
}

async fn answered(lab: Lab) -> Checked {
    let (requester, responder) = (lab.broker().await?, lab.broker().await?);
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&responder, route.from()).await?;
    for n in 0..5 {
        let asking = lab.within("the reply", requester.request(route.named(), &Ask(n)));
        let (reply, answered) = tokio::join!(asking, async {
            let delivery = lab.next(&mut consumer).await?;
            let message = delivery.message();
            ensure!(message.reply_to().is_some(), "a request without return address: {message:?}");
            ensure!(message.correlation_id().is_some(), "a request without correlation id: {message:?}");
            answer(&lab, delivery).await
        });
        answered?;
        let reply = reply??;
        ensure!(reply == Answer(n * 10), "asked {n}, the answer is {reply:?}");
    }
    lab.close(&requester).await?;
    lab.close(&responder).await
}

async fn two_requesters(lab: Lab) -> Checked {
    const EACH: u64 = 20;
    let responder = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&responder, route.from()).await?;
    let requesters = [lab.broker().await?, lab.broker().await?];
    let mut asking = JoinSet::new();
    for n in 0..2 * EACH {
        let requester = &requesters[usize::from(n >= EACH)];
        asking.spawn(asks(lab.clone(), requester.clone(), route.clone(), n));
    }
    // All ask at once, and are answered the last first.
    let mut asked = Vec::new();
    for _ in 0..2 * EACH {
        asked.push(lab.next(&mut consumer).await?);
    }
    for delivery in asked.into_iter().rev() {
        answer(&lab, delivery).await?;
    }
    asking.join_all().await.into_iter().collect::<Checked>()?;
    for requester in requesters {
        let late = requester.late_replies();
        ensure!(late == 0, "{late} replies reached a requester that did not wait for them");
        lab.close(&requester).await?;
    }
    lab.close(&responder).await
}

async fn late_reply(lab: Lab) -> Checked {
    let (requester, responder) = (lab.broker().await?, lab.broker().await?);
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&responder, route.from()).await?;
    // The first request opens what requests need; the second has only its answer to wait for.
    let (first, answered) = tokio::join!(asks(lab.clone(), requester.clone(), route.clone(), 0), async {
        answer(&lab, lab.next(&mut consumer).await?).await
    });
    answered.and(first)?;
    let asking = requester.request(route.named(), &Ask(1)).deadline(lab.timing().quiet);
    let (reply, asked) = tokio::join!(lab.within("the request to time out", asking), lab.next(&mut consumer));
    timed_out(reply?)?;
    answer(&lab, asked?).await?;
    lab.until("the late reply to be counted", || requester.late_replies() == 1).await?;
    // It is nobody else's answer either.
    let (next, answered) = tokio::join!(asks(lab.clone(), requester.clone(), route.clone(), 2), async {
        answer(&lab, lab.next(&mut consumer).await?).await
    });
    answered.and(next)?;
    let late = requester.late_replies();
    ensure!(late == 1, "one reply was late, {late} are counted");
    lab.close(&requester).await?;
    lab.close(&responder).await
}

async fn responder_gone(lab: Lab) -> Checked {
    let requester = lab.broker().await?;
    let route = lasting(&lab)?;
    lab.connect().await?.declare(&route.topology()).await?;
    let deadline = lab.timing().quiet * 2;
    let clock = lab.clock();
    let begun = clock.now();
    let asking = requester.request(route.named(), &Ask(1)).deadline(deadline);
    timed_out(lab.within("the request to time out", asking).await?)?;
    let took = clock.now() - begun;
    ensure!(took >= deadline, "it timed out after {took:?}, before its deadline of {deadline:?}");
    lab.close(&requester).await
}

async fn asked_for_no_answer(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    lab.within("the send", broker.send(route.named(), &Ask(1))).await??;
    let delivery = lab.next(&mut consumer).await?;
    match lab.within("the reply", delivery.reply(&Answer(1))).await? {
        Ok(_) => ensure!(false, "a message without return address was answered"),
        Err(error) => ensure!(error.kind() == ErrorKind::InvalidMessage, "no return address says {error:?}"),
    }
    // The delivery is usable still.
    lab.within("settling", delivery.ack()).await??;
    lab.silent(&mut consumer, "it was acknowledged").await?;
    lab.close(&broker).await?;
    left_is(&lab, &route, &[]).await.map(drop)
}

async fn asks(lab: Lab, requester: Broker, route: Route, n: u64) -> Checked {
    let reply = lab.within("the reply", requester.request(route.named(), &Ask(n))).await??;
    ensure!(reply == Answer(n * 10), "asked {n}, the answer is {reply:?}");
    Ok(())
}

/// Answers ten times what was asked.
async fn answer(lab: &Lab, delivery: Delivery) -> Checked {
    let Ask(n) = delivery.decode()?;
    lab.within("the reply to be sent", delivery.reply(&Answer(n * 10))).await??;
    lab.within("settling", delivery.ack()).await??;
    Ok(())
}

fn timed_out<T>(reply: crate::Result<T>) -> Checked {
    match reply {
        Ok(_) => Err(Stop::Failed(String::from("a reply came, and nobody had answered"))),
        Err(error) if error.kind() == ErrorKind::Timeout => Ok(()),
        Err(error) => Err(Stop::Failed(format!("nobody answered, and the request says {error:?}"))),
    }
}
