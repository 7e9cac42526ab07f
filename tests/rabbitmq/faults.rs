//! Nothing is lost, and no key out of order, while the server is killed and its connections are cut, stalled, blocked and robbed of their answers.
//!
//! `FAULTS` is how many there are, 50 unless given; `FAULTS_SEED` chooses which, and replays a run.

use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::server::{SETTLING, Server, fresh};
use crate::wait::{now, sleep, until};
use crate::{Part, Tried, part};
use anybroker::channel::ChannelKind;
use anybroker::conformance::History;
use anybroker::message::SendOutcome;
use anybroker::{Broker, Channel, Consumer, Message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) const PARTS: &[Part] =
    &[Part { disturbs: true, ..part("faults/fifty-faults", |server| Box::pin(run(server))) }];

const PRODUCERS: u64 = 4;
const CONSUMERS: u64 = 4;
const KEYS: u32 = 100;
const HERE: &str = "the channel";

/// How long a send may take, and how much later its end may be noticed on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const NOTICED: Duration = Duration::from_secs(5);

/// How long all that was accepted may take to arrive once nothing fails any more.
const CATCHING_UP: Duration = Duration::from_secs(90);

/// Two missed heartbeats end a connection: this is longer.
const HALF_OPEN: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL and, after that time, a start on the same data.
    Kill(Duration),
    /// Every connection is reset.
    Cut,
    /// For that long nothing passes, and no connection ends.
    Stall(Duration),
    /// For that long the server's answers are lost, then the connections.
    Swallow(Duration),
    /// For that long the server takes no messages.
    Block(Duration),
    /// For that long there is no server to connect to.
    Refuse(Duration),
}

async fn run(server: Arc<Server>) -> Tried {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name)
            .map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("{name} is no number")))
    };
    let seed = number("FAULTS_SEED", u64::from(std::process::id()))?;
    let schedule = schedule(seed, usize::try_from(number("FAULTS", 50)?)?);
    let proxy = Proxy::to(server.address.clone()).await?;
    let stage = Stage {
        url: format!("{}?heartbeat=1", server.url_at(proxy.address())),
        channel: Channel::named(ChannelKind::PointToPoint, fresh("faults")).order_per_key().durable(),
        history: History::new(),
        sending: Arc::new(AtomicBool::new(true)),
        consuming: Arc::new(AtomicBool::new(true)),
    };
    let began = now();
    // Declared, and left alone for long enough.
    stage.open().await?.consumer(&stage.channel).await?.close().await?;
    sleep(SETTLING).await;
    let mut rng = Rng::new(seed);
    let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
    (0..PRODUCERS).for_each(|n| drop(producers.spawn(stage.clone().produce(n, rng.fork()))));
    (0..CONSUMERS).for_each(|n| drop(consumers.spawn(stage.clone().consume(n, rng.fork()))));
    for fault in &schedule {
        sleep(Duration::from_millis(300) + rng.millis_below(900)).await;
        inflict(*fault, &server, &proxy).await.map_err(|e| format!("{fault:?}: {e:?}"))?;
    }
    stage.sending.store(false, Ordering::Release);
    let mut slowest = Duration::ZERO;
    while let Some(took) = producers.join_next().await {
        slowest = slowest.max(took??);
    }
    let complete = until(CATCHING_UP, || stage.history.is_complete(&[HERE])).await;
    stage.consuming.store(false, Ordering::Release);
    while let Some(left) = consumers.join_next().await {
        left??;
    }
    eprintln!(
        "{}: seed {seed}, {} faults in {:.0} s: {} accepted, {} failed, {} came more than once, slowest send {:.1} s",
        server.name,
        schedule.len(),
        began.elapsed().as_secs_f64(),
        stage.history.accepted(),
        stage.history.failed(),
        stage.history.duplicates().len(),
        slowest.as_secs_f64(),
    );
    let judged = stage.history.nothing_lost(&[HERE]);
    judged.and_then(|()| stage.history.order_per_key()).and_then(|()| stage.history.nothing_made_up())?;
    assert!(complete, "all has arrived, after more than {CATCHING_UP:?}");
    assert!(slowest < DEADLINE + NOTICED, "a send took {slowest:?}");
    let broker = Broker::connect(&server.url).await?;
    broker.delete(&stage.channel).await?;
    broker.close().await?;
    Ok(())
}

/// One kill in six, and of the others each kind in its turn, shuffled.
fn schedule(seed: u64, count: usize) -> Vec<Fault> {
    let mut rng = Rng::new(seed ^ 0xfa);
    let mut all: Vec<Fault> = (0..count)
        .map(|n| match n % 12 {
            0 | 6 => Fault::Kill(rng.millis_below(1000)),
            1 | 4 | 7 | 10 => Fault::Cut,
            2 | 8 => Fault::Stall(rng.millis_below(800)),
            3 => Fault::Stall(HALF_OPEN),
            5 | 11 => Fault::Swallow(rng.millis_below(600)),
            _ if n % 24 < 12 => Fault::Block(Duration::from_millis(1000)),
            _ => Fault::Refuse(rng.millis_below(1500)),
        })
        .collect();
    for last in (1..all.len()).rev() {
        all.swap(last, rng.below_usize(u32::try_from(last + 1).unwrap_or(u32::MAX)));
    }
    all
}

async fn inflict(fault: Fault, server: &Server, proxy: &Proxy) -> Tried {
    match fault {
        Fault::Kill(after) => {
            server.kill_and_restart(after).await?;
            sleep(SETTLING).await;
        }
        Fault::Cut => proxy.cut(),
        Fault::Stall(lasting) => {
            proxy.stall();
            sleep(lasting).await;
            proxy.resume();
        }
        Fault::Swallow(lasting) => {
            proxy.swallow_replies();
            sleep(lasting).await;
            proxy.cut();
        }
        Fault::Block(lasting) => server.memory_alarm(lasting).await?,
        Fault::Refuse(lasting) => {
            proxy.refuse(true);
            proxy.cut();
            sleep(lasting).await;
            proxy.refuse(false);
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Stage {
    url: String,
    channel: Channel,
    history: History,
    sending: Arc<AtomicBool>,
    consuming: Arc<AtomicBool>,
}

impl Stage {
    /// However long it takes: there may be no server just now.
    async fn open(&self) -> anybroker::Result<Broker> {
        Broker::open_lazy(anybroker::Config::url(&self.url)?)
    }

    /// Sends until it is told to end. Gives how long the slowest send took.
    async fn produce(self, number: u64, mut rng: Rng) -> anybroker::Result<Duration> {
        let name = format!("p{number}");
        let broker = self.open().await?;
        let producer = broker.producer(&self.channel).deadline(DEADLINE).await?;
        let mut slowest = Duration::ZERO;
        let mut count = 0;
        while self.sending.load(Ordering::Acquire) {
            let batch: Vec<Message> = (0..=rng.below(12))
                .map(|_| {
                    count += 1;
                    let key = format!("k{}", rng.below_usize(KEYS));
                    Message::new("").with_id(format!("{name}/{key}-{count}")).with_key(key.as_str())
                })
                .collect();
            let began = now();
            let results = producer.send_all(batch.iter().cloned()).await;
            slowest = slowest.max(began.elapsed());
            for (result, message) in results.into_iter().zip(&batch) {
                let outcome = result.err().map(|error| error.outcome().unwrap_or(SendOutcome::Unknown));
                self.history.sent(&name, message, outcome);
            }
            sleep(rng.millis_below(20)).await;
        }
        broker.close().await?;
        Ok(slowest)
    }

    /// Handles, retries and forgets; leaves and comes back; until it is told to end.
    async fn consume(self, number: u64, mut rng: Rng) -> anybroker::Result<()> {
        let name = format!("c{number}");
        while self.consuming.load(Ordering::Acquire) {
            let broker = self.open().await?;
            let mut consumer = broker.consumer(&self.channel).prefetch(64).await?;
            let leaving = now() + Duration::from_secs(10) + rng.millis_below(20_000);
            while self.consuming.load(Ordering::Acquire) && now() < leaving {
                self.handle(&name, &mut consumer, &mut rng).await?;
            }
            broker.close().await?;
        }
        Ok(())
    }

    async fn handle(&self, name: &str, consumer: &mut Consumer, rng: &mut Rng) -> anybroker::Result<()> {
        let received = crate::wait::within(Duration::from_millis(100), consumer.receive()).await;
        let Some(Some(delivery)) = received.transpose()? else { return Ok(()) };
        self.history.arrived(HERE, name, delivery.message(), None);
        match rng.below(100) {
            0..3 => drop(delivery.retry(rng.millis_below(50))),
            3..4 => drop(delivery),
            _ => drop(delivery.ack()),
        }
        Ok(())
    }
}
