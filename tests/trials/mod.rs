//! How something is tried on each of several real servers. A test binary elsewhere includes this file by its path, beside `tests/stress/wait.rs`.

#![allow(dead_code, reason = "each test binary uses its share")]

use crate::wait::{HANG, within};
use anybroker::adapter::BoxFuture;
use anybroker::{Broker, Config, Error, ErrorKind};
use libtest_mimic::{Arguments, Failed, Trial};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

/// What servers of one kind are tried for.
pub(crate) struct Part<S> {
    name: &'static str,
    /// It stops the server, and so runs alone on it.
    disturbs: bool,
    run: fn(Arc<S>) -> BoxFuture<'static, Tried>,
}

/// What is wrong, if anything is.
pub(crate) type Tried = Result<(), Failed>;

pub(crate) const fn part<S>(name: &'static str, run: fn(Arc<S>) -> BoxFuture<'static, Tried>) -> Part<S> {
    Part { name, disturbs: false, run }
}

impl<S> Part<S> {
    pub(crate) const fn disturbing(self) -> Self {
        Self { disturbs: true, ..self }
    }
}

/// A server that `scripts/brokers` has started.
pub(crate) trait Running: Send + Sync + 'static {
    /// Its name there.
    fn name(&self) -> &str;

    /// Those that use it share the lock, who stops it has it alone.
    fn users(&self) -> &RwLock<()>;
}

/// Runs on all servers the parts that are for them, by what the command line says.
pub(crate) fn try_all<S: Running>(
    servers: Result<Vec<Arc<S>>, String>,
    parts: impl Fn(&S) -> &'static [&'static [Part<S>]],
) -> ExitCode {
    match servers {
        Ok(servers) => {
            let trials = servers
                .iter()
                .flat_map(|server| parts(server).iter().copied().flatten().map(|part| trial(part, server)));
            libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trial<S: Running>(part: &'static Part<S>, server: &Arc<S>) -> Trial {
    let server = Arc::clone(server);
    Trial::test(format!("{}::{}", server.name(), part.name), move || {
        let (_alone, _beside) = match part.disturbs {
            true => (Some(server.users().write().unwrap_or_else(PoisonError::into_inner)), None),
            false => (None, Some(server.users().read().unwrap_or_else(PoisonError::into_inner))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on((part.run)(Arc::clone(&server)))
    })
}

/// What the environment says of a server; the help names the servers that have to be up.
pub(crate) fn variable(name: &str, servers: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| {
        format!(
            "{name} is not set\n  = help: run `scripts/test`, or `scripts/brokers up {servers}` and `eval \"$(scripts/brokers env)\"` before"
        )
    })
}

/// A name that nothing else has.
pub(crate) fn fresh(what: &str) -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{what}-{random:016x}")
}

/// A port on which nobody listens.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Why the broker cannot be opened, which it must not take long to say.
pub(crate) async fn refused(config: Config) -> Error {
    let opening = within(HANG, Broker::open(config)).await.expect("an answer in seconds");
    opening.expect_err("to be refused")
}

/// The error is of that kind, has these words and help, and no password in any of its texts.
pub(crate) fn says(error: &Error, kind: ErrorKind, words: &[&str]) -> Tried {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    let shown =
        ["anybroker-pw", "limited-pw", "wr0ng-passw0rd"].into_iter().any(|secret| text.contains(secret));
    match error.kind() == kind && missing.is_empty() && !shown {
        true => Ok(()),
        false => Err(format!("expected {kind:?} with {words:?}, no password, and got {error:?}").into()),
    }
}
