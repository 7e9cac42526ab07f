//! The outlet against a sender that does what each test says.

use super::*;
use crate::adapter::{
    Adapter, Binding, Clock, Confirm, Declare, InFlightPerKey, Level, ManualClock, Opened, Receiver,
    ReceiverOptions, Replies, Sender, SenderOptions, Source, Timestamp, Topology, async_trait,
};
use crate::status::Board;
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// What the test says becomes of the messages, by their bodies; unscripted ones are accepted.
#[derive(Debug, Default)]
struct Script {
    /// The answers for each attempt at a message, in turn.
    answers: HashMap<Vec<u8>, VecDeque<Answer>>,
    /// All bodies in the order in which they were handed over.
    handed: Vec<Vec<u8>>,
    batches: Vec<usize>,
    /// Batches whose answers the test gives later.
    held: VecDeque<oneshot::Sender<()>>,
    hold: bool,
    /// Batches are taken without waiting.
    at_once: bool,
    /// What each message has on the wire beside its own bytes.
    overhead: usize,
    opened: usize,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Refuse,
    Throttle,
    Lose,
    /// Accepted, and the answer lost.
    LoseConfirm,
}

#[derive(Debug, Clone)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    in_flight: InFlightPerKey,
}

impl Scripted {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

struct ScriptedSender(Scripted);

#[async_trait]
impl Sender for ScriptedSender {
    fn measure(&self, message: &Message) -> Result<usize> {
        Ok(message.size() + self.0.script().overhead)
    }

    fn try_send(&mut self, batch: &[Message]) -> Option<Result<Confirm>> {
        let at_once = self.0.script().at_once;
        at_once.then(|| self.take(batch))
    }

    async fn send_batch(&mut self, batch: &[Message]) -> Result<Confirm> {
        self.take(batch)
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

impl ScriptedSender {
    fn take(&self, batch: &[Message]) -> Result<Confirm> {
        let mut script = self.0.script();
        script.batches.push(batch.len());
        let mut results = Vec::new();
        for message in batch {
            let body = message.body().to_vec();
            script.handed.push(body.clone());
            let answer = script.answers.get_mut(&body).and_then(VecDeque::pop_front);
            results.push(match answer {
                None => Ok(Receipt::new(Level::Broker)),
                Some(Answer::Refuse) => {
                    Err(Error::new(ErrorKind::Rejected, "refused").with_outcome(SendOutcome::Refused))
                }
                Some(Answer::Throttle) => {
                    Err(Error::new(ErrorKind::Throttled, "slowly").with_outcome(SendOutcome::NotSent))
                }
                Some(Answer::Lose) => Err(not_sent(ErrorKind::Disconnected, "cut")),
                Some(Answer::LoseConfirm) => {
                    Err(Error::new(ErrorKind::Disconnected, "cut").with_outcome(SendOutcome::Unknown))
                }
            });
        }
        if !script.hold {
            return Ok(Confirm::ready(results));
        }
        let (release, released) = oneshot::channel();
        script.held.push_back(release);
        Ok(Confirm::pending(async move {
            let _ = released.await;
            results
        }))
    }
}

#[async_trait]
impl Adapter for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }
    fn capabilities(&self) -> Capabilities {
        use crate::adapter::Capability::{OrderPerKey, PointToPoint};
        let mut capabilities = Capabilities::none().native(&[PointToPoint, OrderPerKey]);
        capabilities.in_flight_per_key = self.in_flight;
        capabilities.max_message_bytes = Some(100);
        capabilities.max_batch_bytes = Some(120);
        capabilities
    }
    async fn declare(&self, _: &Topology, _: Declare) -> Result<()> {
        Ok(())
    }
    async fn delete(&self, _: &Topology) -> Result<()> {
        Ok(())
    }
    async fn open_sender(&self, _: &Target, _: &SenderOptions) -> Result<Opened<Box<dyn Sender>>> {
        self.script.lock().unwrap().opened += 1;
        Ok(Opened::new(Box::new(ScriptedSender(self.clone())), self.capabilities()))
    }
    async fn open_receiver(&self, _: &Source, _: &ReceiverOptions) -> Result<Opened<Arc<dyn Receiver>>> {
        Err(Error::new(ErrorKind::Unsupported, "not here"))
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
    outlet: Arc<Outlet>,
    script: Arc<Mutex<Script>>,
    clock: ManualClock,
}

async fn bench(in_flight: InFlightPerKey, answers: &[(&str, &[Answer])]) -> Bench {
    let script = Arc::new(Mutex::new(Script::default()));
    for (body, answers) in answers {
        script.lock().unwrap().answers.insert(body.as_bytes().to_vec(), answers.iter().copied().collect());
    }
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let binding = Arc::new(Binding::new(Channel::point_to_point("orders").order_per_key()));
    let link = Link {
        adapter: Arc::new(Scripted { script: Arc::clone(&script), in_flight }),
        binding: Arc::clone(&binding),
        declare: Declare::IfMissing,
        clock: Arc::new(clock.clone()),
        open_within: Duration::from_secs(30),
        instance: "test".into(),
    };
    let settings = Settings {
        window_messages: 1000,
        window_bytes: 1 << 20,
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        reopen: true,
        foreign: Foreign::default(),
    };
    let board = Board::new(["main"].into_iter());
    let status = Arc::new(board.handle(&"main".into(), "test".into()));
    let outlet = Outlet::open(link, Target::Channel(binding), settings, status).await.unwrap();
    Bench { outlet, script, clock }
}

impl Bench {
    fn send(&self, key: &str, body: &str) -> Answers {
        match self.outlet.send(Message::new(body.to_owned()).with_key(key), Duration::from_secs(30)) {
            Sending::Waiting(answers) => answers,
            Sending::Done(result) => panic!("not expected to end at once: {result:?}"),
        }
    }

    async fn until(&self, condition: impl Fn(&Script) -> bool) {
        while !condition(&self.script.lock().unwrap()) {
            tokio::task::yield_now().await;
        }
    }

    /// Gives everybody so many turns that what can happen has happened.
    async fn turns(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass until the answers are there.
    async fn answers(&self, answers: Answers) -> Result<Receipt> {
        let mut answer = Box::pin(answers.one());
        loop {
            for _ in 0..50 {
                if let Poll::Ready(result) =
                    std::future::poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await
                {
                    return result;
                }
                tokio::task::yield_now().await;
            }
            self.clock.advance(Duration::from_millis(100));
        }
    }

    fn handed(&self) -> Vec<String> {
        self.script.lock().unwrap().handed.iter().map(|b| String::from_utf8(b.clone()).unwrap()).collect()
    }
}

use std::future::Future;
use std::task::Poll;

#[tokio::test]
async fn a_throttled_message_goes_again_before_its_followers() {
    let bench = bench(InFlightPerKey::One, &[("a1", &[Answer::Throttle, Answer::Throttle])]).await;
    let sends: Vec<_> = ["a1", "a2", "b1", "a3"].map(|body| bench.send(&body[..1], body)).into();
    for answers in sends {
        bench.answers(answers).await.unwrap();
    }
    let of_a: Vec<_> = bench.handed().into_iter().filter(|b| b.starts_with('a')).collect();
    assert_eq!(of_a, ["a1", "a1", "a1", "a2", "a3"]);
    let handed = bench.handed();
    let b1 = handed.iter().position(|b| b == "b1").unwrap();
    assert!(b1 < handed.iter().rposition(|b| b == "a1").unwrap(), "another key flows: {handed:?}");
}

#[tokio::test]
async fn a_refused_message_fails_its_followers_that_wait_and_no_other_key() {
    let bench = bench(InFlightPerKey::One, &[("a1", &[Answer::Refuse])]).await;
    let sends: Vec<_> = ["a1", "a2", "b1", "a3"].map(|body| bench.send(&body[..1], body)).into();
    let mut outcomes = Vec::new();
    for answers in sends {
        outcomes.push(
            bench
                .answers(answers)
                .await
                .map_err(|e| (e.outcome(), e.into_message().unwrap().body().to_vec())),
        );
    }
    assert_eq!(outcomes[0], Err((Some(SendOutcome::Refused), b"a1".to_vec())));
    assert_eq!(outcomes[1], Err((Some(SendOutcome::NotSent), b"a2".to_vec())));
    assert!(outcomes[2].is_ok());
    assert_eq!(outcomes[3], Err((Some(SendOutcome::NotSent), b"a3".to_vec())));
    assert!(!bench.handed().contains(&"a2".to_owned()));
    bench.answers(bench.send("a", "a4")).await.unwrap();
}

#[tokio::test]
async fn after_a_loss_unknown_messages_of_all_batches_go_again_in_their_first_order() {
    let bench = bench(
        InFlightPerKey::Any,
        &[("a1", &[Answer::LoseConfirm]), ("a2", &[Answer::Lose]), ("b1", &[Answer::LoseConfirm])],
    )
    .await;
    bench.script.lock().unwrap().hold = true;
    let first = bench.send("a", "a1");
    bench.until(|s| s.held.len() == 1).await;
    let second = bench.send("b", "b1");
    bench.until(|s| s.held.len() == 2).await;
    let third = bench.send("a", "a2");
    bench.until(|s| s.held.len() == 3).await;
    let last = bench.send("a", "a3");
    bench.until(|s| s.held.len() == 4).await;
    {
        let mut script = bench.script.lock().unwrap();
        script.hold = false;
        // The answers come in any order; the last batch was accepted nowhere either.
        script.answers.insert(b"a3".to_vec(), VecDeque::new());
        for release in script.held.drain(..).rev() {
            let _ = release.send(());
        }
    }
    // "a3" was accepted after "a1" and "a2" were lost: sending those again would reorder the key, so they fail as unknown.
    let overtaken = bench.answers(first).await.unwrap_err();
    assert_eq!(overtaken.outcome(), Some(SendOutcome::Unknown));
    assert_eq!(bench.answers(third).await.unwrap_err().outcome(), Some(SendOutcome::NotSent));
    bench.answers(second).await.unwrap();
    bench.answers(last).await.unwrap();
    assert_eq!(bench.handed(), ["a1", "b1", "a2", "a3", "b1"]);
}

#[tokio::test]
async fn a_loss_of_everything_repeats_everything_with_the_same_ids_before_anything_new() {
    let lost: &[Answer] = &[Answer::LoseConfirm];
    let bench = bench(InFlightPerKey::Any, &[("a1", lost), ("a2", lost), ("b1", lost)]).await;
    bench.script.lock().unwrap().hold = true;
    let mut sends = Vec::new();
    for (n, body) in ["a1", "b1", "a2"].into_iter().enumerate() {
        sends.push(bench.send(&body[..1], body));
        bench.until(|s| s.held.len() == n + 1).await;
    }
    {
        let mut script = bench.script.lock().unwrap();
        script.hold = false;
        for release in script.held.drain(..) {
            let _ = release.send(());
        }
    }
    sends.push(bench.send("a", "a3"));
    for answers in sends {
        bench.answers(answers).await.unwrap();
    }
    assert_eq!(bench.handed(), ["a1", "b1", "a2", "a1", "b1", "a2", "a3"]);
    assert_eq!(bench.script.lock().unwrap().opened, 2);
}

#[tokio::test]
async fn every_send_ends_at_its_deadline_with_the_right_outcome() {
    let bench = bench(InFlightPerKey::One, &[]).await;
    bench.script.lock().unwrap().hold = true;
    let on_its_way = bench.send("a", "a1");
    bench.until(|s| s.held.len() == 1).await;
    let held_back = bench.send("a", "a2");
    let error = bench.answers(held_back).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Some(SendOutcome::NotSent)));
    let error = bench.answers(on_its_way).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Some(SendOutcome::Unknown)));
    assert_eq!(error.into_message().unwrap().body(), b"a1");
}

#[tokio::test]
async fn close_sends_what_waits_and_tells_the_rest() {
    let bench = bench(InFlightPerKey::One, &[]).await;
    let sends: Vec<_> = ["a1", "a2", "a3"].map(|body| bench.send("a", body)).into();
    let deadline = bench.clock.now() + Duration::from_secs(1);
    assert_eq!(bench.outlet.close(deadline).await, 0);
    for answers in sends {
        bench.answers(answers).await.unwrap();
    }
    let Sending::Done(Err(error)) = bench.outlet.send(Message::new("late"), Duration::from_secs(1)) else {
        panic!("closed")
    };
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Closed, Some(SendOutcome::NotSent)));
}

#[tokio::test]
async fn too_large_is_refused_before_sending_with_both_numbers() {
    let bench = bench(InFlightPerKey::Any, &[]).await;
    let Sending::Done(Err(error)) = bench.outlet.send(Message::new(vec![0; 101]), Duration::from_secs(1))
    else {
        panic!("refused at once")
    };
    assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
    assert!(error.to_string().contains("101 bytes") && error.to_string().contains("at most 100"), "{error}");
    assert!(bench.handed().is_empty());
}

#[tokio::test]
async fn while_a_batch_is_on_its_way_messages_gather_in_the_next() {
    let bench = bench(InFlightPerKey::One, &[]).await;
    bench.script.lock().unwrap().hold = true;
    let mut sends = vec![bench.send("a", "a1")];
    bench.until(|s| s.held.len() == 1).await;
    sends.extend((0..10).map(|n| bench.send(&format!("k{n}"), "x")));
    bench.until(|s| s.batches == [1, 10]).await;
    let held: Vec<_> = bench.script.lock().unwrap().held.drain(..).collect();
    for release in held {
        let _ = release.send(());
    }
    for answers in sends {
        bench.answers(answers).await.unwrap();
    }
}

#[tokio::test]
async fn what_goes_again_counts_with_its_size_on_the_wire() {
    let bench = bench(InFlightPerKey::Any, &[("a1", &[Answer::Throttle]), ("b1", &[Answer::Throttle])]).await;
    {
        let mut script = bench.script.lock().unwrap();
        (script.at_once, script.overhead) = (true, 50);
    }
    let outlet = Arc::clone(&bench.outlet);
    let messages = ["a1", "b1"].map(|body| Message::new(body).with_key(&body[..1])).into();
    let both = tokio::spawn(async move { outlet.send_all(messages, Duration::from_secs(30)).await });
    bench.turns().await;
    assert_eq!(bench.script.lock().unwrap().batches, [2]);
    bench.script.lock().unwrap().at_once = false;
    // What goes again is due when the driver sees the message behind it.
    let behind = bench.send("c", "c1");
    bench.clock.advance(Duration::from_secs(1));
    bench.turns().await;
    assert!(both.is_finished(), "it has not ended");
    bench.answers(behind).await.unwrap();
    both.await.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
    let batches = bench.script.lock().unwrap().batches.clone();
    assert!(batches.iter().all(|size| *size <= 2), "three are 159 bytes, and a batch has 120: {batches:?}");
}

#[tokio::test]
async fn how_long_a_message_waits_does_not_depend_on_what_others_met_before() {
    let bench =
        bench(InFlightPerKey::One, &[("a1", &[Answer::Throttle; 6]), ("b1", &[Answer::Throttle])]).await;
    bench.answers(bench.send("a", "a1")).await.unwrap();
    let before = bench.clock.now();
    bench.answers(bench.send("b", "b1")).await.unwrap();
    assert!(bench.clock.now() - before <= Duration::from_millis(200), "{:?}", bench.clock.now() - before);
}

#[test]
fn an_undecided_failure_after_an_attempt_without_an_answer_is_unknown() {
    let key = crate::MessageKey::from("a");
    let mut lanes = lanes::Lanes::new(true, InFlightPerKey::Any);
    lanes.handed_over(&key, false);
    lanes.handed_over(&key, false);
    let (mut tickets, answers) = tickets(1);
    let entry = Entry {
        message: Message::new("a1"),
        seq: 0,
        size: 0,
        deadline: ManualClock::at(Timestamp::from_millis(0)).now(),
        ticket: tickets.next(),
        tries: 1,
        not_before: None,
        unknown: true,
    };
    drop(lanes.failed(&key, entry, not_sent(ErrorKind::Throttled, "slowly")));
    lanes.answer_where(|_| true);
    let mut answer = Box::pin(answers.one());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(result) = answer.as_mut().poll(&mut cx) else { panic!("answered") };
    assert_eq!(result.unwrap_err().outcome(), Some(SendOutcome::Unknown));
}

#[tokio::test]
async fn what_has_become_too_large_to_go_again_fails_with_its_followers_and_leaves_its_key_free() {
    let bench = bench(InFlightPerKey::One, &[("a1", &[Answer::Throttle])]).await;
    let (first, second) = (bench.send("a", "a1"), bench.send("a", "a2"));
    bench.turns().await;
    bench.script.lock().unwrap().overhead = 100;
    let outlet = Arc::clone(&bench.outlet);
    let flushing = tokio::spawn(async move { outlet.flush().await });
    bench.turns().await;
    bench.clock.advance(Duration::from_secs(1));
    bench.turns().await;
    assert!(flushing.is_finished(), "nothing waits any more");
    assert_eq!(bench.answers(first).await.unwrap_err().kind(), ErrorKind::PayloadTooLarge);
    assert_eq!(bench.answers(second).await.unwrap_err().kind(), ErrorKind::Rejected);
    bench.script.lock().unwrap().overhead = 0;
    bench.answers(bench.send("a", "a3")).await.unwrap();
}
