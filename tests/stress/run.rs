//! One run: producers, consumers and a broker that misbehaves, until everything has been handed out and everybody has left.

use crate::adapter::{Context, ShakyAdapter};
use crate::consumer::Worker;
use crate::history::History;
use crate::plan::Plan;
use crate::producer::produce;
use crate::rng::Rng;
use crate::wait::{HANG, sleep, until, within};
use anybroker::Broker;
use anybroker::adapter::{Adapter, Clock, SystemClock};
use anybroker::memory::{Config, MemoryBroker};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs a plan and gives all that is wrong, one a line. `panics` gives what has panicked on threads of that name.
pub(crate) fn run(plan: Plan, panics: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let history = History::new(plan);
    let threads = format!("seed {}", plan.seed);
    let runtime =
        Builder::new_multi_thread().worker_threads(4).thread_name(&threads).enable_all().build().unwrap();
    runtime.block_on(async {
        if within(6 * HANG, Stage::new(plan, &history).play()).await.is_none() {
            history.fault("HANG: the run");
        }
    });
    let mut faults = history.judge();
    // What leaves in the background may still be about to.
    let alive = || runtime.metrics().num_alive_tasks();
    if !runtime.block_on(until(HANG, || alive() == 0)) {
        faults.push(format!("TASKS: {} are alive after all is closed", alive()));
    }
    runtime.shutdown_background();
    faults.extend(panics(&threads).into_iter().map(|panic| format!("PANIC: {panic}")));
    faults
}

struct Stage {
    plan: Plan,
    history: History,
    memory: MemoryBroker,
    /// Of the run itself.
    rng: Rng,
    /// Of adapters.
    adapters: Mutex<Rng>,
}

impl Stage {
    fn new(plan: Plan, history: &History) -> Self {
        let mut config = Config::default();
        config.shards = plan.shards;
        config.lease = plan.lease.then_some(Duration::from_millis(150));
        let memory = MemoryBroker::with_config(config, Arc::new(SystemClock::new()));
        let adapters = Mutex::new(Rng::new(plan.seed ^ 99));
        Self { plan, history: history.clone(), memory, rng: plan.rng(), adapters }
    }

    async fn play(mut self) {
        let brokers = [self.open().await, self.open().await, self.open().await];
        let (over, is_over) = watch::channel(false);
        let mut producers = JoinSet::new();
        for number in 0..self.plan.producers {
            let broker = &brokers[usize::from(number % 2 == 1)];
            producers.spawn(produce(
                broker.clone(),
                self.plan,
                number,
                self.rng.fork(),
                self.history.clone(),
            ));
        }
        let mut consumers = JoinSet::new();
        for number in 0..=self.rng.below_usize(4) {
            let worker = Worker {
                broker: brokers[(number + 1) % 3].clone(),
                plan: self.plan,
                name: format!("c{number}"),
                rng: self.rng.fork(),
                history: self.history.clone(),
                over: is_over.clone(),
            };
            consumers.spawn(worker.run());
        }
        let misbehaving = misbehave(self.memory.clone(), self.plan, self.rng.fork());
        tokio::select! {
            () = misbehaving => {}
            _ = producers.join_all() => {}
        }
        // Whatever the broker was doing to its users.
        self.memory.unblock();
        self.memory.refuse_connections(false);

        // A stall is seen by the judge, which knows what is missing.
        until(HANG, || self.history.is_handed_out()).await;
        over.send_replace(true);
        let failed: u64 = consumers.join_all().await.into_iter().sum();
        if failed > 0 && !self.plan.takes_away() {
            self.history.fault(format_args!("FAILED SETTLEMENTS: {failed}, and nothing was taken away"));
        }
        for broker in &brokers {
            self.close(broker).await;
        }
        self.collect().await;
    }

    /// Reads what the consumers have left, until it is known of each message where it is.
    async fn collect(&self) {
        let broker = self.open().await;
        let channel = self.plan.channel();
        let mut queue = broker.consumer(&channel).await.unwrap();
        let mut dead_letters = broker.consumer(channel.dead_letters()).await.unwrap();
        while !self.history.is_ended() {
            let receiving = async {
                tokio::select! {
                    batch = queue.receive_batch(64) => (batch, true),
                    batch = dead_letters.receive_batch(64) => (batch, false),
                }
            };
            // The judge knows what is missing.
            let Some((batch, is_alive)) = within(HANG, receiving).await else { break };
            let batch = batch.unwrap().expect("the consumer is open");
            for message in batch.messages() {
                if is_alive { self.history.left(message) } else { self.history.buried(message) }
            }
            batch.ack();
        }
        self.close(&broker).await;
    }

    async fn open(&self) -> Broker {
        let adapter = self.memory.adapter();
        let adapter: Arc<dyn Adapter> = match self.plan.shaky {
            Some(shaky) => {
                let context = Context { plan: self.plan, shaky, history: self.history.clone() };
                let rng = self.adapters.lock().unwrap().fork();
                Arc::new(ShakyAdapter::new(adapter, context, rng))
            }
            None => adapter,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Broker::builder()
            .adapter("main", adapter)
            .clock(clock)
            .backoff(Duration::from_millis(1), Duration::from_millis(10))
            .close_deadline(Duration::from_secs(2))
            .open_deadline(Duration::from_secs(2))
            .open()
            .await
            .unwrap()
    }

    async fn close(&self, broker: &Broker) {
        if within(HANG, broker.close()).await.is_none() {
            self.history.fault("HANG: closing a broker");
        }
    }
}

/// Does to the users of the broker what brokers do, for ever.
async fn misbehave(memory: MemoryBroker, plan: Plan, mut rng: Rng) {
    if !plan.chaos {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(Duration::from_millis(5) + rng.millis_below(40)).await;
        match rng.below(5) {
            0 | 1 => memory.disconnect(),
            2 if plan.loses_confirms => memory.lose_next_confirms(1),
            3 => {
                memory.block("chaos");
                sleep(rng.millis_below(10)).await;
                memory.unblock();
            }
            _ => {
                memory.refuse_connections(true);
                memory.disconnect();
                sleep(rng.millis_below(20)).await;
                memory.refuse_connections(false);
            }
        }
    }
}
