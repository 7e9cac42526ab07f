//! Declaring, opening, deleting; dead letters and return addresses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use anybroker_contract::{
    Address, Binding, Channel, Confirmed, Connection, Declare, Error, ErrorKind, Events, Host, Message,
    SendOutcome, Settings, Source, Target, Text, Topology, Value,
};
use common::{Lab, ManualClock, ack, kind, messages, now, seen, send, silent, take, wait};
use std::sync::Arc;

const Q: Channel = Channel::point_to_point("q");
const T: Channel = Channel::publish_subscribe("t");

fn bind(channel: Channel) -> Arc<Binding> {
    Arc::new(Binding::new(channel))
}

fn shards(channel: Channel, count: i64) -> Arc<Binding> {
    let mut settings = Settings::default();
    settings.insert("shards", Value::Integer(count));
    Arc::new(Binding::new(channel).with_settings(settings))
}

fn declare(lab: &Lab, binding: Arc<Binding>) -> Result<(), Error> {
    now(lab.adapter.declare(&Topology::Channel(binding), Declare::IfMissing))
}

#[test]
fn declaring_again_changes_nothing() {
    let lab = Lab::new();
    let mut sender = lab.sender(&Q);
    send(&mut sender, &messages(&["a"]));
    declare(&lab, bind(Q)).unwrap();
    now(lab.adapter.declare(&Topology::Channel(bind(Q)), Declare::Verify)).unwrap();
    assert_eq!(seen(&take(&lab.receiver(&Q))), "a:1");
}

#[test]
fn more_than_is_asked_for_is_adopted() {
    let lab = Lab::new();
    declare(&lab, shards(Q.order_per_key().bounded(5), 3)).unwrap();
    declare(&lab, bind(Q)).unwrap();
    declare(&lab, shards(Q.order_per_key(), 8)).unwrap();
    let mut sender = lab.sender(&Q);
    send(&mut sender, &messages(&["a"; 3]));
    let scopes: std::collections::BTreeSet<_> =
        take(&lab.receiver(&Q)).iter().map(|delivery| delivery.scope).collect();
    assert_eq!(scopes.len(), 3, "the shards are those of the first declaration");
}

#[test]
fn a_conflict_says_which_property_and_both_values() {
    let lab = Lab::new();
    declare(&lab, bind(Q.bounded(5))).unwrap();
    let named = |name| Binding::new(Channel::publish_subscribe("x")).at(Address::Name(String::from(name)));
    let cases = [
        (bind(Q.bounded(9)), "bounded = 5, and is declared with bounded = 9"),
        (bind(Q.order_per_key()), "order-per-key = false, and is declared with order-per-key = true"),
        (Arc::new(named("q")), "kind = point-to-point, and is declared with kind = publish-subscribe"),
    ];
    for (binding, expected) in cases {
        for mode in [Declare::IfMissing, Declare::Verify] {
            let error = now(lab.adapter.declare(&Topology::Channel(Arc::clone(&binding)), mode)).unwrap_err();
            assert_eq!((error.kind(), error.channel()), (ErrorKind::Conflict, Some("q")));
            let text = error.to_string();
            assert!(text.starts_with(&format!("`q` exists with {expected}")), "{text}");
            assert!(error.help().is_some());
        }
    }
    let opened = lab.sender_to(&Target::Channel(Arc::new(named("q"))));
    assert_eq!(kind(opened), Some(ErrorKind::Conflict));
}

#[test]
fn what_is_missing_is_not_found_by_name() {
    let lab = Lab::new();
    declare(&lab, bind(T)).unwrap();
    let name = Text::from("s");
    let sources = [
        (Source::Channel(bind(Q)), "channel `q`"),
        (Source::Subscription(bind(T), T.subscription("s")), "subscription `t/s`"),
        (Source::DeadLetter(bind(Q), None), "dead-letter channel `q/dead-letters`"),
        (Source::DeadLetter(bind(T), Some(name.clone())), "dead-letter channel `t/s/dead-letters`"),
    ];
    for (source, expected) in sources {
        let error = lab.receiver_from(&source).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with(&format!("there is no {expected}")), "{error}");
    }
    for target in [Target::Channel(bind(Q)), Target::DeadLetter(bind(Q), None)] {
        assert_eq!(kind(lab.sender_to(&target)), Some(ErrorKind::NotFound));
    }
    let topologies = [
        Topology::Channel(bind(Q)),
        Topology::Subscription(bind(T), T.subscription("s")),
        Topology::DeadLetter(bind(Q), None),
    ];
    for topology in topologies {
        let verified = now(lab.adapter.declare(&topology, Declare::Verify));
        assert_eq!(kind(verified), Some(ErrorKind::NotFound));
        now(lab.adapter.delete(&topology)).unwrap();
    }
}

#[test]
fn sources_of_the_wrong_kind_are_refused() {
    let lab = Lab::new();
    declare(&lab, bind(T)).unwrap();
    declare(&lab, bind(Q)).unwrap();
    assert_eq!(kind(lab.receiver_from(&Source::Channel(bind(T)))), Some(ErrorKind::Unsupported));
    let odd = Source::Subscription(bind(Q), Q.subscription("s"));
    assert_eq!(kind(lab.receiver_from(&odd)), Some(ErrorKind::Unsupported));
}

#[test]
fn channels_meet_at_their_native_name() {
    let lab = Lab::new();
    let binding = Arc::new(Binding::new(Q).at(Address::Name(String::from("native"))));
    declare(&lab, Arc::clone(&binding)).unwrap();
    let mut sender = lab.sender_to(&Target::Channel(binding)).unwrap();
    send(&mut sender, &messages(&["a"]));
    assert_eq!(seen(&take(&lab.receiver(&Channel::point_to_point("native")))), "a:1");
    let table = Binding::new(Q).at(Address::Table(Settings::default()));
    assert_eq!(kind(declare(&lab, Arc::new(table))), Some(ErrorKind::Config));
}

#[test]
fn wrong_settings_of_a_channel_name_the_key() {
    let lab = Lab::new();
    let error = declare(&lab, shards(Q, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("`shards` is `0`"), "{error}");
    let mut settings = Settings::default();
    settings.insert("lease", Value::String(String::from("1s")));
    let error = declare(&lab, Arc::new(Binding::new(Q).with_settings(settings))).unwrap_err();
    assert!(error.to_string().starts_with("the setting `lease` is not known"), "{error}");
}

#[test]
fn a_deleted_channel_ends_its_handles_and_is_empty_when_made_anew() {
    let lab = Lab::new();
    let (mut sender, receiver) = (lab.sender(&Q), lab.receiver(&Q));
    let waiting = wait(&receiver);
    now(lab.adapter.delete(&Topology::Channel(bind(Q)))).unwrap();
    assert_eq!(kind(waiting.finish()), Some(ErrorKind::NotFound));
    let error = sender.try_send(&messages(&["a"])).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::NotFound, Some(SendOutcome::Refused)));
    silent(&lab.receiver(&Q));
}

#[test]
fn dead_letters_have_a_queue_for_each_channel_and_subscription() {
    let lab = Lab::new();
    let places = [(bind(Q), None), (bind(T), Some(Text::from("a"))), (bind(T), Some(Text::from("b")))];
    for (n, (binding, of)) in places.iter().enumerate() {
        let topology = Topology::DeadLetter(Arc::clone(binding), of.clone());
        now(lab.adapter.declare(&topology, Declare::IfMissing)).unwrap();
        now(lab.adapter.declare(&topology, Declare::Verify)).unwrap();
        let mut sender = lab.sender_to(&Target::DeadLetter(Arc::clone(binding), of.clone())).unwrap();
        send(&mut sender, &messages(&[&n.to_string()]));
    }
    for (n, (binding, of)) in places.iter().enumerate() {
        let source = Source::DeadLetter(Arc::clone(binding), of.clone());
        let receiver = lab.receiver_from(&source).unwrap().handle;
        let deliveries = take(&receiver);
        assert_eq!(seen(&deliveries), format!("{n}:1"));
        ack(&receiver, &deliveries[0]);
        now(lab.adapter.delete(&Topology::DeadLetter(Arc::clone(binding), of.clone()))).unwrap();
        assert_eq!(kind(lab.receiver_from(&source)), Some(ErrorKind::NotFound));
    }
}

#[test]
fn a_return_address_lives_as_long_as_its_receiver() {
    let lab = Lab::new();
    let ask = || now(lab.adapter.open_replies(&lab.receiving(common::ROOM, Events::ignored()))).unwrap();
    let (one, two) = (ask(), ask());
    assert_ne!(one.address, two.address);
    let other = lab.broker.adapter();
    let target = Target::Reply(one.address.clone());
    let mut sender = now(other.open_sender(&target, &lab.sending(Events::ignored()))).unwrap().handle;
    send(&mut sender, &messages(&["answer"]));
    assert_eq!(seen(&take(&one.receiver)), "answer:1");
    silent(&two.receiver);

    now(one.receiver.close()).unwrap();
    let late = sender.try_send(&messages(&["a", "b"])).unwrap().unwrap();
    let Confirmed::Each(results) = now(late) else { panic!("nobody is there") };
    assert_eq!(results.len(), 2);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Rejected, Some(SendOutcome::Refused)));
    }
    assert_eq!(kind(lab.sender_to(&target)), Some(ErrorKind::NotFound));
    let cut = Target::Reply(two.address.clone());
    lab.broker.disconnect();
    assert_eq!(kind(lab.sender_to(&cut)), Some(ErrorKind::NotFound));
}

#[test]
fn only_return_addresses_are_answered() {
    let lab = Lab::new();
    declare(&lab, bind(Q)).unwrap();
    for foreign in ["q", "", "reply:", "reply:elsewhere:0-1", "https://example.com"] {
        let opened = lab.sender_to(&Target::Reply(Text::from(foreign)));
        assert_eq!(kind(opened), Some(ErrorKind::Unauthorized), "{foreign}");
    }
    // Another private broker has no name either, and still other addresses.
    let other = Lab::new();
    let replies = now(other.adapter.open_replies(&other.receiving(common::ROOM, Events::ignored()))).unwrap();
    assert_eq!(kind(lab.sender_to(&Target::Reply(replies.address))), Some(ErrorKind::NotFound));
}

#[test]
fn adapters_meet_on_a_named_broker_while_one_of_them_lives() {
    let clock = ManualClock::new();
    let at = |name: &str| {
        let mut connection = Connection::new("memory", Arc::new(clock.clone()));
        connection.hosts.extend((!name.is_empty()).then(|| Host::new(name, None)));
        connection
    };
    let lab = |connection| {
        let adapter = anybroker_memory::open(&connection).unwrap();
        let broker = adapter.native().unwrap().downcast_ref().cloned();
        Lab { clock: clock.clone(), broker: Option::unwrap(broker), adapter }
    };
    let (one, two, elsewhere) = (lab(at("meeting")), lab(at("meeting")), lab(at("elsewhere")));
    send(&mut one.sender(&Q), &[Message::new("a")]);
    silent(&elsewhere.receiver(&Q));
    assert_eq!(seen(&take(&two.receiver(&Q))), "a:1");
    let (private, other) = (lab(at("")), lab(at("")));
    send(&mut private.sender(&Q), &[Message::new("p")]);
    silent(&other.receiver(&Q));

    let mut with = at("meeting");
    with.query.push((String::from("shards"), String::from("4")));
    let error = anybroker_memory::open(&with).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("shards: 16") && error.to_string().contains("shards: 4"), "{error}");
    drop((one, two));
    silent(&lab(with).receiver(&Q));
}
