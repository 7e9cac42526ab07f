//! What a consumer does not acknowledge comes again, counted.

use super::{lasting, left_is, retry_delay};
use crate::conformance::check::{Checked, ensure};
use crate::conformance::lab::{Lab, messages};
use crate::{Delivery, ErrorKind};
use std::time::Duration;

pub(super) async fn retry_is_counted(lab: Lab) -> Checked {
    again_and_again(&lab, |delivery| drop(delivery.retry(Duration::ZERO))).await
}

pub(super) async fn dropped_delivery_returns(lab: Lab) -> Checked {
    again_and_again(&lab, drop).await
}

/// Three messages fail three times each in that way; each attempt has its number, and an acknowledgement ends it.
async fn again_and_again(lab: &Lab, fail: impl Fn(Delivery)) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 3)).await?;
    let mut attempts = [0_u32; 3];
    while attempts != [4; 3] {
        let delivery = lab.next(&mut consumer).await?;
        let sent = messages("p", &[], 3);
        let Some(n) = sent.iter().position(|message| message.id() == delivery.message().id()) else {
            return Err(format!("there came {:?}", delivery.message()).into());
        };
        attempts[n] += 1;
        let attempt = delivery.attempt();
        ensure!(attempt == attempts[n], "attempt {} of p-{n} came as attempt {attempt}", attempts[n]);
        match attempt {
            4 => drop(delivery.ack()),
            _ => fail(delivery),
        }
    }
    lab.silent(&mut consumer, "all was acknowledged").await?;
    lab.within("flush", consumer.flush()).await??;
    lab.close(&broker).await?;
    left_is(lab, &route, &[]).await.map(drop)
}

pub(super) async fn retry_waits(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 2)).await?;
    let (first, second) = (lab.next(&mut consumer).await?, lab.next(&mut consumer).await?);
    let id = first.message().id().cloned();
    let clock = lab.clock();
    let after = retry_delay(&lab);
    let retried = clock.now();
    lab.within("the retry", first.retry(after)).await??;
    second.ack();
    let again = lab.next(&mut consumer).await?;
    let waited = clock.now() - retried;
    ensure!(again.message().id() == id.as_ref(), "{:?} came in place of {id:?}", again.message().id());
    // Brokers count whole milliseconds.
    ensure!(waited + Duration::from_millis(1) >= after, "came again after {waited:?}, asked for {after:?}");
    ensure!(again.attempt() == 2, "the second attempt came as attempt {}", again.attempt());
    again.ack();
    lab.silent(&mut consumer, "all was acknowledged").await?;
    lab.close(&broker).await
}

pub(super) async fn consumer_closed_is_an_error(lab: Lab) -> Checked {
    let broker = lab.broker().await?;
    let route = lasting(&lab)?;
    let mut consumer = lab.consumer(&broker, route.from()).await?;
    let producer = lab.producer(&broker, &route).await?;
    lab.send(&producer, &messages("p", &[], 3)).await?;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(lab.next(&mut consumer).await?);
    }
    let closed = lab.within("the consumer's close", consumer.close()).await??;
    ensure!(closed.given_back == 3, "3 were held at close, {} were given back", closed.given_back);
    let settle: [fn(Delivery) -> crate::Settlement; 3] =
        [Delivery::ack, |delivery| delivery.retry(Duration::ZERO), |delivery| delivery.reject("too late")];
    for (delivery, settle) in held.into_iter().zip(settle) {
        match lab.within("settling after close", settle(delivery)).await? {
            Ok(()) => ensure!(false, "a delivery was settled after its consumer had closed"),
            Err(error) => ensure!(
                matches!(error.kind(), ErrorKind::Closed | ErrorKind::LeaseLost),
                "settling after close says {error:?}"
            ),
        }
    }
    lab.close(&broker).await?;
    let all: Vec<String> = (0..3).map(|n| format!("p-{n}")).collect();
    left_is(&lab, &route, &all).await.map(drop)
}
