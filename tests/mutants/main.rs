//! Proves the conformance suite: every check fails on an adapter that is broken in the way the check is about.
//!
//! `cargo test --features conformance --test mutants`. A trial per check and fault: `order/one-consumer × SwapsTwoOfAKey`.

mod adapter;
mod fault;
#[path = "../conformance/memory.rs"]
mod memory;
mod receiver;
mod sender;
mod table;

use adapter::{Mutant, Shared};
use anybroker::adapter::{Adapter, Binding, BoxFuture, Bytes, Result, async_trait};
use anybroker::conformance::{Check, Fixture, Hook, Timing, Verdict, checks, run};
use fault::Fault;
use libtest_mimic::{Arguments, Failed, Trial};
use memory::Memory;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time is spent waiting for what a mutant has lost.
    arguments.test_threads.get_or_insert(32);
    let pairs =
        checks().iter().flat_map(|check| table::faults(check.name).iter().map(move |fault| (check, *fault)));
    let mut trials: Vec<Trial> = pairs
        .map(|(check, fault)| Trial::test(format!("{} × {fault:?}", check.name), move || kill(check, fault)))
        .collect();
    trials.push(Trial::test("every check kills a mutant, and every mutant is killed", complete));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The check has to fail on the mutant.
fn kill(check: &'static Check, fault: Fault) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let fixture = Mutated { memory: Memory::new(), fault, shared: Arc::default() };
    let verdict = runtime.block_on(run(check, Arc::new(fixture)));
    // A mutant may leave a thread waiting for ever: that is one of the faults.
    runtime.shutdown_background();
    match verdict {
        Verdict::Failed(_) => Ok(()),
        survived => Err(format!("the mutant survived: {survived:?}").into()),
    }
}

/// Every check has a fault that kills, and every fault has a check that is killed.
fn complete() -> Result<(), Failed> {
    let harmless: Vec<_> =
        checks().iter().map(|check| check.name).filter(|name| table::faults(name).is_empty()).collect();
    let unknown: Vec<_> =
        table::names().filter(|name| checks().iter().all(|check| check.name != *name)).collect();
    let unseen: Vec<_> = Fault::all()
        .filter(|fault| checks().iter().all(|check| !table::faults(check.name).contains(fault)))
        .collect();
    match harmless.is_empty() && unknown.is_empty() && unseen.is_empty() {
        true => Ok(()),
        false => {
            Err(format!("no mutant: {harmless:?}; no such check: {unknown:?}; no check: {unseen:?}").into())
        }
    }
}

/// The memory fixture, its adapters broken.
struct Mutated {
    memory: Memory,
    fault: Fault,
    shared: Arc<Shared>,
}

impl Mutated {
    fn mutant(&self, adapter: Arc<dyn Adapter>) -> Arc<dyn Adapter> {
        Arc::new(Mutant::new(adapter, self.fault, Arc::clone(&self.shared)))
    }
}

#[async_trait]
impl Fixture for Mutated {
    fn name(&self) -> &str {
        "mutant"
    }

    async fn adapter(&self) -> Result<Arc<dyn Adapter>> {
        Ok(self.mutant(self.memory.adapter().await?))
    }

    fn timing(&self) -> Timing {
        Timing::new(Duration::from_secs(3), Duration::from_millis(100))
    }

    fn url(&self) -> Option<String> {
        self.memory.url()
    }

    fn hooks(&self) -> &[Hook] {
        self.memory.hooks()
    }

    async fn restart(&self) -> Result<()> {
        self.memory.restart().await
    }

    async fn cut(&self) -> Result<()> {
        self.memory.cut().await
    }

    async fn stall(&self) -> Result<()> {
        self.memory.stall().await
    }

    async fn resume(&self) -> Result<()> {
        self.memory.resume().await
    }

    async fn mortal(&self) -> Result<(Arc<dyn Adapter>, BoxFuture<'static, ()>)> {
        let (adapter, kill) = self.memory.mortal().await?;
        Ok((self.mutant(adapter), kill))
    }

    async fn leased(&self, lease: Duration) -> Result<Arc<dyn Adapter>> {
        Ok(self.mutant(self.memory.leased(lease).await?))
    }

    async fn send_foreign(&self, to: &Binding, payload: Bytes) -> Result<()> {
        self.memory.send_foreign(to, payload).await
    }

    async fn send_undecodable(&self, to: &Binding) -> Result<Bytes> {
        self.memory.send_undecodable(to).await
    }
}
