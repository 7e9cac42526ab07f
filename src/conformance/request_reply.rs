//! A reply reaches the requester that asked, and nobody else.

use super::check::{Check, Checked, Stop, check, ensure};
use super::lab::{Lab, numbered};
use super::publish_subscribe::arrives;
use crate::adapter::{Capability, ErrorKind, Target};

const NEEDS: &[Capability] = &[Capability::Replies];

pub(super) const CHECKS: &[Check] = &[
    check!("request-reply/addresses-are-private", addresses_are_private).needs(NEEDS),
    check!("request-reply/address-ends-with-its-owner", address_ends_with_its_owner).needs(NEEDS),
    check!("request-reply/answers-no-foreign-address", answers_no_foreign_address).needs(NEEDS),
];

async fn addresses_are_private(lab: Lab) -> Checked {
    let (one, other) = (lab.connect().await?, lab.connect().await?);
    let (address_one, mut inlet_one) = one.replies().await?;
    let (address_other, mut inlet_other) = other.replies().await?;
    let (address_third, mut inlet_third) = one.replies().await?;
    let distinct = address_one != address_other && address_one != address_third && address_other != address_third;
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
            Ok(_) => return Err(Stop::Failed(format!("replies leave to `{address}`, which is no return address"))),
            Err(error) => ensure!(
                error.kind() == ErrorKind::Unauthorized,
                "a reply to `{address}` is refused, but not as unauthorized: {error:?}"
            ),
        }
    }
    inlet.silent("nothing was sent").await?;
    link.close().await
}
