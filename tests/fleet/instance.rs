//! One instance of a service: a process, or, where the broker is memory, a runtime of its own.

use crate::log::{Line, Log, said};
use crate::rng::Rng;
use crate::wait::{now, sleep};
use crate::{Place, Tried};
use anybroker::channel::ChannelKind;
use anybroker::service::Policy;
use anybroker::{Body, Broker, Channel, Config, Context, Failure, MessageKey, Result, Service};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// The attempts of a message.
pub(crate) const ATTEMPTS: u32 = 3;
/// How long an instance that is told to end may take, and how much later a busy machine may notice.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
pub(crate) const GRACE: Duration = Duration::from_secs(7);

#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) number: u64,
    pub(crate) key: u64,
}

impl Body for Work {
    const TYPE: &'static str = "work";
    fn key(&self) -> Option<MessageKey> {
        Some(self.key.into())
    }
}

/// What instances do.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) url: String,
    pub(crate) channel: String,
    pub(crate) log: PathBuf,
    pub(crate) temper: Temper,
}

/// How handlers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Steady,
    /// One attempt of twenty fails or panics, and one message of five hundred at every attempt.
    Moody,
    /// One message of fifty is never done.
    Hanging,
}

pub(crate) enum Instance {
    Process(Child),
    Runtime(Option<Runtime>, Option<oneshot::Sender<()>>, oneshot::Receiver<Result<()>>),
}

/// The variable that makes a process an instance.
const TERMS: [&str; 4] = ["FLEET_URL", "FLEET_CHANNEL", "FLEET_LOG", "FLEET_TEMPER"];

/// Is an instance, if the process is meant to be one.
pub(crate) fn act() -> Option<ExitCode> {
    let [url, channel, log, temper] = TERMS.map(|name| std::env::var(name).ok());
    let temper = match temper?.as_str() {
        "Steady" => Temper::Steady,
        "Moody" => Temper::Moody,
        _ => Temper::Hanging,
    };
    let terms = Terms { url: url?, channel: channel?, log: log?.into(), temper };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let mut told = signal(SignalKind::terminate()).unwrap();
        serve(terms, async move { told.recv().await }).await
    });
    // A handler that hangs is no reason to stay.
    runtime.shutdown_background();
    Some(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn channel(name: &str) -> Channel {
    Channel::named(ChannelKind::PointToPoint, name).order_per_key()
}

/// How often an instance says how it is doing.
const REPORT: Duration = Duration::from_secs(5);

async fn serve(terms: Terms, until: impl Future) -> Result<()> {
    let said = Log::open(&said(&terms.log));
    let served = report(&terms, until, &said).await;
    said.say(&format!("ended: {served:?}"));
    served
}

async fn report(terms: &Terms, until: impl Future, said: &Log) -> Result<()> {
    let broker = Broker::builder().config(Config::url(&terms.url)?).close_deadline(DEADLINE).open().await?;
    let log = Log::open(&terms.log);
    let policy = Policy::new()
        .attempts(ATTEMPTS)
        .concurrency(16)
        .backoff(Duration::from_millis(5), Duration::from_millis(20));
    let service = Service::new("fleet").with_state((log.clone(), terms.temper)).policy(policy);
    let running = service.handle(&channel(&terms.channel), handle).start(&broker).await?;
    log.write(Line::Up);
    let (mut until, mut status) = (std::pin::pin!(until), broker.status());
    loop {
        tokio::select! {
            _ = &mut until => break,
            _ = status.changed() => {}
            () = sleep(REPORT) => {}
        }
        said.say(&format!("{:?}; {:?}", *status.borrow_and_update(), running.status()));
    }
    running.stop().await?;
    broker.close().await.map(drop)
}

async fn handle(work: Work, cx: Context<(Log, Temper)>) -> Result<(), Failure> {
    let (log, temper) = cx.state();
    let (number, attempt) = (work.number, cx.attempt());
    log.write(Line::Began(number));
    let mut rng = Rng::new(number * 1000 + u64::from(attempt));
    sleep(rng.millis_below(4)).await;
    if *temper == Temper::Hanging && number % 50 == 25 {
        std::future::pending::<()>().await;
    }
    let fails = number % 500 == 77 || rng.below(20) == 0;
    if *temper == Temper::Moody && fails {
        log.write(Line::Failed(number, attempt));
        assert!(number % 2 == 0, "an odd one");
        return Err(Failure::retry("not today"));
    }
    log.write(Line::Finished(number));
    Ok(())
}

impl Instance {
    pub(crate) fn start(terms: &Terms) -> Self {
        if terms.url.starts_with("memory") {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let (tell, told) = oneshot::channel();
            let (done, ended) = oneshot::channel();
            let terms = terms.clone();
            runtime.spawn(async move {
                let _ = done.send(serve(terms, told).await);
            });
            return Self::Runtime(Some(runtime), Some(tell), ended);
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        let temper = format!("{:?}", terms.temper);
        let values = [&terms.url, &terms.channel, terms.log.to_str().unwrap(), &temper];
        // The panics of its handlers are part of the play.
        command.envs(TERMS.into_iter().zip(values)).stderr(std::process::Stdio::null());
        Self::Process(command.spawn().unwrap())
    }

    /// Ends it where it stands.
    pub(crate) fn kill(self) {}

    /// Tells it to end, and says how long that took.
    pub(crate) async fn end(mut self) -> Result<Duration, String> {
        let began = now();
        match &mut self {
            Self::Process(child) => {
                let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
                assert!(told.success());
                loop {
                    match child.try_wait().unwrap() {
                        Some(status) if status.success() => break,
                        Some(status) => return Err(format!("an instance ended with {status}")),
                        None => patient(began)?,
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            }
            Self::Runtime(runtime, tell, ended) => {
                let _ = tell.take().unwrap().send(());
                loop {
                    match ended.try_recv() {
                        Ok(ended) => break ended.map_err(|error| error.to_string())?,
                        Err(_) => patient(began)?,
                    }
                    sleep(Duration::from_millis(5)).await;
                }
                runtime.take().unwrap().shutdown_background();
            }
        }
        Ok(began.elapsed())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        match self {
            // It may have ended.
            Self::Process(child) => drop(child.kill().and_then(|()| child.wait())),
            Self::Runtime(runtime, ..) => drop(runtime.take().map(Runtime::shutdown_background)),
        }
    }
}

fn patient(began: Instant) -> Result<(), String> {
    match began.elapsed() > DEADLINE + GRACE {
        true => Err(format!("an instance has not ended {:?} after it was told to", began.elapsed())),
        false => Ok(()),
    }
}

/// A file for the log of a trial.
pub(crate) fn log_file(place: &Place, what: &str) -> PathBuf {
    let name = format!("{}-{}.log", crate::trials::fresh(what), place.name);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Sends so many messages, those of a key in order.
pub(crate) async fn send(
    broker: &Broker,
    channel: &Channel,
    numbers: std::ops::Range<u64>,
    keys: u64,
) -> Tried {
    let producer = broker.producer(channel).await?;
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(100) {
        let batch: Vec<Work> =
            some.iter().map(|number| Work { number: *number, key: number % keys }).collect();
        for result in producer.send_all(&batch).await {
            result?;
        }
    }
    Ok(())
}
