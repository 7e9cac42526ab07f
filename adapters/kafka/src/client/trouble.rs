//! What librdkafka says beside its answers: it retries by itself, and tells why only here.

use crate::error::error;
use anybroker_contract::{Error, ErrorKind, Event, Events};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is wrong with the connections of one client.
pub(crate) struct Trouble {
    /// Whether there is any: asked for every message.
    any: AtomicBool,
    /// All brokers were gone, and none was found since. What was read before may still come in, and is no sign of them.
    gone: AtomicBool,
    state: Mutex<State>,
    told: Mutex<Vec<(u64, Events)>>,
}

#[derive(Default)]
struct State {
    last: Option<(Code, String)>,
    /// The last reason that only somebody can set right, whatever has come since.
    refusal: Option<(Code, String)>,
    down: bool,
    next: u64,
}

impl Trouble {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            any: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            state: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Reports to those events what happens to the connections, until [`Trouble::forget`].
    pub(crate) fn tell(&self, events: Events) -> u64 {
        let id = {
            let mut state = lock(&self.state);
            state.next += 1;
            state.next
        };
        lock(&self.told).push((id, events));
        id
    }

    pub(crate) fn forget(&self, id: u64) {
        lock(&self.told).retain(|(told, _)| *told != id);
    }

    fn note(&self, code: Code, reason: &str) {
        let reported = {
            let mut state = lock(&self.state);
            self.any.store(true, Ordering::Release);
            if help(code).is_some() {
                state.refusal = Some((code, reason.to_owned()));
            }
            // Why a connection fails says more than that all have failed.
            if code != Code::AllBrokersDown || state.last.is_none() {
                state.last = Some((code, reason.to_owned()));
            }
            if code == Code::AllBrokersDown {
                self.gone.store(true, Ordering::Release);
            }
            code == Code::AllBrokersDown && !std::mem::replace(&mut state.down, true)
        };
        if reported {
            for (_, events) in &*lock(&self.told) {
                events.report(Event::Reconnecting { error: self.unavailable("no broker can be reached") });
            }
        }
    }

    /// Something was answered.
    pub(crate) fn well(&self) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let was_down = {
            let mut state = lock(&self.state);
            self.any.store(false, Ordering::Release);
            state.last = None;
            state.refusal = None;
            std::mem::take(&mut state.down)
        };
        if was_down {
            lock(&self.told).iter().for_each(|(_, events)| events.report(Event::Connected));
        }
    }

    /// Whether no broker could be reached when one was tried last.
    pub(crate) fn is_down(&self) -> bool {
        self.any.load(Ordering::Acquire) && lock(&self.state).down
    }

    /// Whether all brokers were gone, and none was found since.
    pub(crate) fn are_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// There are brokers.
    pub(crate) fn found(&self) {
        self.gone.store(false, Ordering::Release);
        self.well();
    }

    /// What only somebody can set right: credentials or certificates that are refused.
    pub(crate) fn refused(&self) -> Option<Error> {
        said(lock(&self.state).last.as_ref())
    }

    /// The same since something was answered, though other connections may have broken in other ways since: where one is refused, so will the next be.
    pub(crate) fn refused_before(&self) -> Option<Error> {
        said(lock(&self.state).refusal.as_ref())
    }

    /// No broker answers, and why.
    pub(crate) fn unavailable(&self, what: &str) -> Error {
        let reason = lock(&self.state).last.as_ref().map(|(_, reason)| reason.clone());
        let what = match reason {
            Some(reason) => format!("{what}: {reason}"),
            None => what.to_owned(),
        };
        error(ErrorKind::Unavailable, what).with_help(
            "check host and port, that the brokers run, and that the addresses they give can be reached",
        )
    }
}

fn said(what: Option<&(Code, String)>) -> Option<Error> {
    let (code, reason) = what?;
    let help = help(*code)?;
    Some(error(ErrorKind::Unauthorized, format!("cannot connect: {reason}")).with_help(help))
}

const fn help(code: Code) -> Option<&'static str> {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            Some("check user name, password and mechanism (`auth.kind`)")
        }
        Code::SSL => Some(
            "set `tls.ca` to the authority that signs the brokers' certificates, and have them name the brokers' addresses; set `tls.cert` and `tls.key` where they ask for a certificate",
        ),
        _ => None,
    }
}

/// The context of a client that has nothing else to tell. Librdkafka's log is left out: what matters of it comes as an error too.
#[derive(Clone)]
pub(crate) struct Quiet(pub(crate) Arc<Trouble>);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.heard(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl Trouble {
    pub(crate) fn heard(&self, error: &KafkaError, reason: &str) {
        if let KafkaError::Global(code) = error {
            // TLS 1.3 refuses a client's certificate after the handshake, which looks like a connection that breaks.
            let code = if reason.contains("SSL alert") { Code::SSL } else { *code };
            self.note(code, reason);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
