//! Each mistake has an error of its own, in seconds, that says what to do and shows no password.

use crate::server::Server;
use crate::trials::{free_port, fresh, refused, says};
use crate::wait::{HANG, within};
use crate::{Part, Tried, part};
use anybroker::adapter::{Declare, Tls};
use anybroker::channel::ChannelKind;
use anybroker::message::SendOutcome;
use anybroker::{Broker, Channel, Config, ErrorKind, Message, config};
use std::sync::Arc;

pub(crate) const PARTS: &[Part] = &[
    part("refusals/connecting", |server| Box::pin(connecting(server))),
    part("refusals/certificates", |server| Box::pin(certificates(server))),
    part("refusals/rights", |server| Box::pin(rights(server))),
    part("refusals/channels", |server| Box::pin(channels(server))),
    part("refusals/messages", |server| Box::pin(messages(server))),
    part("refusals/clusters", |server| Box::pin(clusters(server))),
];

async fn connecting(server: Arc<Server>) -> Tried {
    let wrong = server.url.replace(&server.password, "wr0ng-passw0rd");
    says(&refused(Config::url(&wrong)?).await, ErrorKind::Unauthorized, &["ACCESS_REFUSED", "password"])?;
    let elsewhere = server.url.replace("%2f", "no-such-host");
    says(
        &refused(Config::url(&elsewhere)?).await,
        ErrorKind::Unauthorized,
        &["no-such-host", "virtual host"],
    )?;
    let nobody = server.url_at(format!("127.0.0.1:{}", free_port()?));
    says(
        &refused(Config::url(&nobody)?).await,
        ErrorKind::Unavailable,
        &["cannot reach 127.0.0.1", "host and port"],
    )
}

async fn certificates(server: Arc<Server>) -> Tried {
    let trusting = |url: &str| {
        let mut tls = Tls::default();
        tls.ca = Some(server.authority.to_string_lossy().into_owned());
        Config::new().broker("main", config::Broker::new(url).tls(tls))
    };
    says(&refused(Config::url(&server.tls_url)?).await, ErrorKind::Unauthorized, &["certificate", "tls.ca"])?;
    says(
        &refused(trusting(&server.misnamed_url)).await,
        ErrorKind::Unauthorized,
        &["certificate", "server_name"],
    )?;
    // And the right one carries a message.
    let broker = Broker::open(trusting(&server.tls_url)).await?;
    let channel = channel();
    broker.send(&channel, Message::new("through TLS")).await?;
    let mut consumer = broker.consumer(&channel).await?;
    let delivery = consumer.receive().await?.ok_or("closed")?;
    assert_eq!(delivery.message().body(), b"through TLS");
    delivery.ack();
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn rights(server: Arc<Server>) -> Tried {
    let broker = Broker::connect(&server.limited_url).await?;
    let error = broker.producer(&channel()).await.err().ok_or("opened without any right")?;
    says(&error, ErrorKind::Unauthorized, &["ACCESS_REFUSED", "right"])?;
    broker.close().await?;
    Ok(())
}

async fn channels(server: Arc<Server>) -> Tried {
    let channel = channel();
    let never = config::Channel::new().declare(Declare::Never);
    let broker = Broker::open(Config::url(&server.url)?.channel(channel.name(), never)).await?;
    for error in [broker.producer(&channel).await.err(), broker.consumer(&channel).await.err()] {
        let error = error.ok_or("opened what does not exist")?;
        says(&error, ErrorKind::NotFound, &["there is no", channel.name(), "declare"])?;
    }
    broker.close().await?;
    let broker = Broker::connect(&server.url).await?;
    broker.producer(&channel.clone().bounded(10)).await?;
    let error =
        server.open().await?.producer(&channel.clone().bounded(20)).await.err().ok_or("two bounds")?;
    says(&error, ErrorKind::Conflict, &["x-max-length", "received '19' but current is '9'"])?;
    let error =
        server.open().await?.consumer(&channel.clone().order_per_key()).await.err().ok_or("in order")?;
    says(&error, ErrorKind::Unsupported, &["order-per-key", channel.name()])?;
    let subscription = "s".repeat(200);
    let events = Channel::named(ChannelKind::PublishSubscribe, "e".repeat(100));
    let error =
        broker.consumer(events.subscription(subscription)).await.err().ok_or("a name of 301 bytes")?;
    says(&error, ErrorKind::Config, &["at most 255", "301", "shorten"])?;
    broker.delete(&events).await?;
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn messages(server: Arc<Server>) -> Tried {
    let broker = server.open().await?;
    let channel = channel();
    let producer = broker.producer(&channel).await?;
    let id = Message::new("").with_id("i".repeat(300));
    let header = Message::new("").with_header("n".repeat(300), "v");
    let large = Message::new("").with_header("h", "v".repeat(200_000));
    let cases: [(Message, ErrorKind, &[&str]); 3] = [
        (id, ErrorKind::InvalidMessage, &["the message's id", "300 bytes", "255"]),
        (header, ErrorKind::InvalidMessage, &["header", "300 bytes", "255"]),
        (large, ErrorKind::PayloadTooLarge, &["one frame", "131072"]),
    ];
    for (message, kind, words) in cases {
        let error = producer.send(message.clone()).await.err().ok_or("it was taken")?;
        says(&error, kind, words)?;
        assert_eq!(error.outcome(), Some(SendOutcome::NotSent), "{error}");
        assert_eq!(
            error.into_message().map(|back| back.size()),
            Some(message.size()),
            "it is not given back"
        );
    }
    // The queue goes while the sender is open: what cannot be routed is not taken for sent.
    broker.delete(&channel).await?;
    let error = within(HANG * 3, producer.send(Message::new(""))).await.ok_or("a send that does not end")?;
    match error {
        // Declared anew on the way.
        Ok(_) => {}
        Err(error) => says(&error, ErrorKind::NotFound, &[channel.name()])?,
    }
    broker.delete(&channel).await?;
    broker.close().await?;
    Ok(())
}

async fn clusters(server: Arc<Server>) -> Tried {
    let dead = format!("127.0.0.1:{},{}", free_port()?, server.address);
    let broker = Broker::connect(&server.url_at(dead)).await?;
    broker.health().await?;
    broker.close().await?;
    Ok(())
}

fn channel() -> Channel {
    Channel::named(ChannelKind::PointToPoint, fresh("refusals"))
}
