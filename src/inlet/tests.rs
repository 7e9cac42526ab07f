//! The inlet against a receiver that the test feeds.

use super::*;
use crate::adapter::{
    Adapter, Binding, Channel, Clock, Declare, Extend, Lease, ManualClock, Message, Opened, Receive,
    Received, Receiver, ReceiverOptions, Replies, Scope, Sender, SenderOptions, Settle, Target, Timestamp,
    Token, Topology, async_trait,
};
use crate::status::Board;
use crate::{Consumer, Delivery};
use std::collections::VecDeque;

/// What the test feeds and what the inlet did.
#[derive(Debug, Default)]
struct Script {
    feed: VecDeque<Received>,
    log: Vec<String>,
    events: Option<Events>,
    asked: Vec<usize>,
    cut: bool,
    stopped: bool,
    opened: usize,
    extended_to: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct Fed(Arc<(Mutex<Script>, Notify)>);

impl Fed {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.0.lock().unwrap()
    }

    fn feed(&self, received: Received) {
        self.script().feed.push_back(received);
        self.0.1.notify_one();
    }
}

#[async_trait]
impl Receiver for Fed {
    async fn receive_batch(&self, room: Room, into: &mut Vec<Received>) -> Result<Receive> {
        self.script().asked.push(room.messages);
        loop {
            {
                let mut script = self.script();
                if script.cut {
                    return Err(Error::new(ErrorKind::Disconnected, "cut"));
                }
                if script.stopped {
                    return Ok(Receive::Ended);
                }
                let count = room.messages.min(script.feed.len());
                into.extend(script.feed.drain(..count));
                if count > 0 {
                    return Ok(Receive::More);
                }
            }
            self.0.1.notified().await;
        }
    }

    async fn settle(&self, batch: &mut [Settle]) {
        let mut script = self.script();
        for settle in batch {
            script.log.push(format!("{:?} {}", settle.outcome, settle.token.as_number()));
            settle.result = Some(if script.cut { Err(parcel::lease_lost()) } else { Ok(()) });
        }
    }

    async fn extend(&self, batch: &mut [Extend]) {
        let mut script = self.script();
        for extend in batch {
            script.log.push(format!("extend {}", extend.token.as_number()));
            extend.result = script.extended_to.map(Ok);
        }
    }

    async fn stop(&self) -> Result<()> {
        let mut script = self.script();
        script.stopped = true;
        script.log.push("stop".into());
        self.0.1.notify_one();
        Ok(())
    }

    async fn release(&self, scope: Scope) -> Result<()> {
        self.script().log.push(format!("release scope {}", scope.number()));
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.script().log.push("close".into());
        Ok(())
    }
}

#[async_trait]
impl Adapter for Fed {
    fn name(&self) -> &'static str {
        "fed"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::none().native(&[
            Capability::PointToPoint,
            Capability::OrderPerKey,
            Capability::AttemptCount,
            Capability::LeaseExtension,
        ])
    }
    async fn declare(&self, _: &Topology, _: Declare) -> Result<()> {
        Ok(())
    }
    async fn delete(&self, _: &Topology) -> Result<()> {
        Ok(())
    }
    async fn open_sender(&self, _: &Target, _: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
    }
    async fn open_receiver(
        &self,
        _: &Source,
        options: &ReceiverOptions,
    ) -> Result<Opened<Arc<dyn Receiver>>> {
        let mut script = self.script();
        script.events = Some(options.events.clone());
        script.opened += 1;
        script.cut = false;
        Ok(Opened::new(Arc::new(self.clone()), self.capabilities()))
    }
    async fn open_replies(&self, _: &ReceiverOptions) -> Result<Replies> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
    }
    async fn health(&self) -> Result<()> {
        Ok(())
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

struct Bench {
    consumer: Consumer,
    fed: Fed,
    clock: ManualClock,
}

async fn bench(prefetch: usize) -> Bench {
    let fed = Fed::default();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let binding = Arc::new(Binding::new(Channel::point_to_point("orders").order_per_key()));
    let link = Link {
        adapter: Arc::new(fed.clone()),
        binding: Arc::clone(&binding),
        declare: Declare::IfMissing,
        clock: Arc::new(clock.clone()),
        open_within: Duration::from_secs(30),
        instance: "test".into(),
    };
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let board = Board::new(["main"].into_iter());
    let reply_settings = crate::outlet::Settings {
        window_messages: 1,
        window_bytes: 1,
        backoff,
        reopen: false,
        foreign: Foreign::default(),
    };
    let replier = Arc::new(Replier::new(link.clone(), reply_settings, board.clone(), "main".into()));
    let settings = Settings {
        prefetch: Room::new(prefetch, 1 << 20),
        backoff,
        leave_within: Duration::from_secs(30),
        foreign: Foreign::default(),
    };
    let status = Arc::new(board.handle(&"main".into(), "test".into()));
    let inlet = Inlet::open(link, Source::Channel(binding), settings, None, replier, status).await.unwrap();
    Bench { consumer: Consumer::new(inlet, None), fed, clock }
}

impl Bench {
    fn feed(&self, number: u64, key: &str) -> &Self {
        self.feed_in(Scope::WHOLE, number, key)
    }

    fn feed_in(&self, scope: Scope, number: u64, key: &str) -> &Self {
        let message = Message::new(number.to_string()).with_key(key);
        self.fed.feed(Received::new(message, Token::number(number)).with_attempt(1).with_scope(scope));
        self
    }

    async fn next(&mut self) -> (String, Delivery) {
        let delivery = self.consumer.receive().await.unwrap().expect("open");
        (String::from_utf8(delivery.message().body().to_vec()).unwrap(), delivery)
    }

    /// Nothing comes, however often everyone else gets a turn.
    async fn nothing(&mut self) {
        for _ in 0..100 {
            tokio::select! {
                biased;
                delivery = self.consumer.receive() => panic!("unexpected {delivery:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
    }

    async fn until(&self, condition: impl Fn(&Script) -> bool) {
        while !condition(&self.fed.script()) {
            tokio::task::yield_now().await;
        }
    }

    fn logged(&self, entry: &str) -> bool {
        self.fed.script().log.iter().any(|line| line == entry)
    }
}

#[tokio::test]
async fn one_delivery_of_a_key_is_out_and_others_flow() {
    let mut bench = bench(10).await;
    bench.feed(1, "a").feed(2, "a").feed(3, "b");
    let (one, first) = bench.next().await;
    let (three, other) = bench.next().await;
    assert_eq!((one.as_str(), three.as_str()), ("1", "3"));
    bench.nothing().await;
    first.ack().await.unwrap();
    let (two, follower) = bench.next().await;
    assert_eq!(two, "2");
    follower.ack();
    other.ack().await.unwrap();
    bench.consumer.flush().await.unwrap();
    assert_eq!(bench.fed.script().log, ["Ack 1", "Ack 2", "Ack 3"]);
}

#[tokio::test]
async fn a_retry_holds_its_key_until_it_is_due_and_counts() {
    let mut bench = bench(10).await;
    bench.feed(1, "a").feed(2, "a").feed(3, "b");
    let (_, first) = bench.next().await;
    first.retry(Duration::from_secs(5)).await.unwrap();
    let (three, other) = bench.next().await;
    assert_eq!(three, "3");
    other.ack();
    bench.nothing().await;
    bench.clock.advance(Duration::from_millis(4999));
    bench.nothing().await;
    assert_eq!(bench.consumer.status().parked, 1);
    bench.clock.advance(Duration::from_millis(1));
    let (one, again) = bench.next().await;
    assert_eq!((one.as_str(), again.attempt()), ("1", 2));
    drop(again);
    let (one, third) = bench.next().await;
    assert_eq!((one.as_str(), third.attempt()), ("1", 3), "dropped unsettled counts as failed");
    third.ack().await.unwrap();
    assert_eq!(bench.next().await.0, "2");
    assert!(bench.logged("Held { attempt: 2 } 1") && bench.logged("Held { attempt: 3 } 1"));
}

#[tokio::test]
async fn prefetch_bounds_queued_running_and_parked_together() {
    let mut bench = bench(3).await;
    for (number, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d")] {
        bench.feed(number, key);
    }
    let (_, first) = bench.next().await;
    let (_, third) = bench.next().await;
    first.retry(Duration::from_secs(1));
    bench.nothing().await;
    assert_eq!(bench.fed.script().feed.len(), 2, "one parked, one behind it, one running");
    assert_eq!(bench.consumer.status().unsettled, 3);
    third.ack();
    assert_eq!(bench.next().await.0, "4");
}

#[tokio::test]
async fn leases_are_extended_at_half_life_and_a_lost_one_settles_nothing() {
    let mut bench = bench(10).await;
    let start = bench.clock.now();
    let lease = Lease::until(start + Duration::from_secs(30)).extendable_by(Duration::from_secs(30));
    bench.fed.script().extended_to = Some(start + Duration::from_secs(45));
    bench.fed.feed(Received::new(Message::new("1"), Token::number(1)).with_lease(lease));
    let (_, delivery) = bench.next().await;
    bench.clock.advance(Duration::from_secs(14));
    bench.nothing().await;
    assert!(!bench.logged("extend 1"));
    bench.clock.advance(Duration::from_secs(1));
    bench.until(|s| s.log.contains(&"extend 1".into())).await;
    assert!(!delivery.is_lost());
    // From now on the broker does not answer: the lease ends.
    bench.fed.script().extended_to = None;
    let lost = delivery.lost();
    bench.clock.advance(Duration::from_secs(30));
    lost.await;
    assert_eq!(delivery.ack().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(bench.consumer.status().unsettled, 0);
    assert!(!bench.logged("Ack 1"));
}

#[tokio::test]
async fn a_revoked_scope_goes_when_its_handlers_are_done() {
    let mut bench = bench(10).await;
    let (going, staying) = (Scope::new(1), Scope::new(2));
    bench.feed_in(going, 1, "a").feed_in(going, 2, "a").feed_in(going, 3, "b").feed_in(staying, 4, "c");
    let (_, first) = bench.next().await;
    let events = bench.fed.script().events.clone().unwrap();
    let deadline = bench.clock.now() + Duration::from_secs(10);
    events.report(Event::Revoking { scope: going, deadline });
    let (four, other) = bench.next().await;
    assert_eq!(four, "4", "what waited of the scope is not handed out");
    bench.nothing().await;
    assert!(!bench.logged("release scope 1"));
    first.ack().await.unwrap();
    bench.until(|s| s.log.contains(&"release scope 1".into())).await;
    assert_eq!(bench.fed.script().log, ["Release 2", "Release 3", "Ack 1", "release scope 1"]);
    other.ack().await.unwrap();
    assert_eq!(bench.consumer.status().unsettled, 0);
}

#[tokio::test]
async fn a_lost_scope_settles_nothing_and_fires_nothing() {
    let mut bench = bench(10).await;
    let scope = Scope::new(7);
    bench.feed_in(scope, 1, "a").feed_in(scope, 2, "b").feed_in(scope, 3, "a");
    let (_, first) = bench.next().await;
    let (_, second) = bench.next().await;
    first.retry(Duration::from_secs(1)).await.unwrap();
    let lost = second.lost();
    bench.fed.script().events.clone().unwrap().report(Event::Lost { scope });
    lost.await;
    assert!(second.is_lost());
    assert_eq!(second.ack().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    bench.clock.advance(Duration::from_secs(2));
    bench.nothing().await;
    assert_eq!(bench.consumer.status().lost, 3);
    bench.feed_in(Scope::new(8), 1, "a");
    assert_eq!(bench.next().await.0, "1", "the key is free for the next owner of the scope");
}

#[tokio::test]
async fn after_a_disconnect_the_receiver_is_opened_again_and_old_deliveries_are_lost() {
    let mut bench = bench(10).await;
    bench.feed(1, "a").feed(2, "a");
    let (_, first) = bench.next().await;
    bench.fed.script().cut = true;
    bench.fed.0.1.notify_one();
    bench.until(|s| s.opened == 2).await;
    assert_eq!(first.ack().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    bench.feed(1, "a").feed(2, "a");
    let (one, again) = bench.next().await;
    assert_eq!(one, "1");
    again.ack().await.unwrap();
    assert_eq!(bench.next().await.0, "2");
}

#[tokio::test]
async fn leaving_stops_waits_for_what_runs_and_gives_the_rest_back_oldest_first() {
    let mut bench = bench(10).await;
    bench.feed(1, "a").feed(2, "a").feed(3, "b").feed(4, "a");
    let (_, first) = bench.next().await;
    let (_, third) = bench.next().await;
    third.retry(Duration::from_secs(60));
    let closing = bench.consumer.close();
    let mut closing = Box::pin(closing);
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut closing => panic!("a delivery is still out"),
            () = tokio::task::yield_now() => {}
        }
    }
    first.ack();
    assert_eq!((&mut closing).await.unwrap().given_back, 3);
    drop(closing);
    let log = bench.fed.script().log.clone();
    assert_eq!(
        log,
        ["Held { attempt: 2 } 3", "stop", "Ack 1", "Release 2", "Release 3", "Release 4", "close"]
    );
    assert!(bench.consumer.receive().await.unwrap().is_none());
    assert_eq!(bench.consumer.close().await.unwrap().given_back, 3, "again gives the same answer");
}

#[test]
fn settlements_gather_unless_somebody_waits_or_the_broker_would() {
    let now = ManualClock::at(Timestamp::from_millis(0)).now();
    // Prefetch, how many wait to be settled, whether that is enough.
    for (prefetch, waiting, enough) in [
        (1, 1, true),
        (7, 1, true),
        (8, 1, false),
        (8, 2, true),
        (100, 24, false),
        (100, 25, true),
        (1000, 64, true),
    ] {
        let mut state = State::new(Flow::default(), Room::new(prefetch, 1 << 20));
        for number in 0..waiting {
            state.outbox.push(Token::number(number), Outcome::Ack);
        }
        let work = state.work(now, false);
        assert_eq!(work.settle.len() as u64, if enough { waiting } else { 0 }, "{waiting} of {prefetch}");
        assert_eq!(work.linger, !enough);
    }
    let gathering = |change: &dyn Fn(&mut State), lingered| {
        let mut state = State::new(Flow::default(), Room::new(100, 1 << 20));
        state.outbox.push(Token::number(1), Outcome::Ack);
        change(&mut state);
        state.work(now, lingered).settle.len()
    };
    assert_eq!(gathering(&|_| (), false), 0);
    assert_eq!(gathering(&|_| (), true), 1, "its moment is over");
    assert_eq!(gathering(&|state| state.urgent = true, false), 1, "somebody waits");
    assert_eq!(gathering(&|state| state.phase = Phase::Leaving(now), false), 1, "the consumer leaves");
}
