use super::failure::Verdict;
use super::handler::Endpoint;
use super::layer::{self, Sending};
use super::observer::{Decision, Observed, Observer};
use super::registration::Plan;
use super::{Claim, Failure, Followers, Handling, Policy};
use crate::adapter::{Channel, ChannelKind, Clock, Message, MessageKey};
use crate::clock::later;
use crate::{Broker, Consumer, Delivery, ErrorKind, Result, Settlement};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the messages of one channel or subscription are given to their handlers.
pub(super) struct Desk<S> {
    pub(super) shared: Arc<Shared<S>>,
    /// The channel, or channel/subscription.
    pub(super) name: String,
    /// With what configuration requires in addition.
    channel: Channel,
    endpoints: Vec<Endpoint<S>>,
    fallback: Option<Endpoint<S>>,
    pub(super) policy: Policy,
    /// The attempts after which a message goes to the dead letters.
    attempts: u32,
    pub(super) counts: Arc<Counts>,
    /// Keys of which a message has gone to the dead letters, where the others follow it.
    gone: Mutex<HashSet<MessageKey>>,
}

/// What all desks of a service share.
pub(super) struct Shared<S> {
    pub(super) state: S,
    pub(super) broker: Broker,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) layers: Option<layer::Handling<S>>,
    pub(super) send_layers: Option<Sending>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

/// Whether a message is to be handled.
pub(super) enum Begun {
    New(Option<Box<dyn Handling>>),
    Duplicate,
    Lost,
}

/// What became of messages.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) handled: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) ignored: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) unanswered: AtomicU64,
}

/// So many keys are kept whose messages follow to the dead letters. When there is no room for another, its messages wait.
const MOST_GONE: usize = 65_536;

impl<S> Desk<S> {
    /// Refuses a policy that the channel does not allow.
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        plan: Plan<S>,
        policy: Policy,
        consumer: &Consumer,
    ) -> Result<Self> {
        let inlet = consumer.inlet();
        let channel = inlet.bound().clone();
        let limit = channel.requirements().dead_letter_after;
        policy.check(&plan.name, limit, inlet.has_dead_letters(), inlet.capabilities().max_hold)?;
        Ok(Self {
            shared,
            name: plan.name,
            channel,
            endpoints: plan.endpoints,
            fallback: plan.fallback,
            attempts: limit.unwrap_or(policy.attempts),
            policy,
            counts: Arc::default(),
            gone: Mutex::default(),
        })
    }

    pub(super) const fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn state(&self) -> &S {
        &self.shared.state
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    pub(super) fn endpoint(&self, message: &Message) -> Option<&Endpoint<S>> {
        let fallback = self.fallback.as_ref();
        match message.type_name() {
            Some(name) => self.endpoints.iter().find(|one| *one.type_name == **name).or(fallback),
            None => fallback.or(match &self.endpoints[..] {
                [only] => Some(only),
                _ => None,
            }),
        }
    }

    /// What is to be settled without a handler is.
    fn unknown(&self, delivery: Delivery) {
        if self.channel.kind() == ChannelKind::PublishSubscribe {
            count(&self.counts.ignored);
            self.conclude(delivery, Delivery::ack, Decision::Ignored);
            return;
        }
        let failure = match delivery.message().type_name() {
            Some(name) => format!("no handler for messages of type `{name}`"),
            None => "no handler for messages without a type".into(),
        };
        self.fail(delivery, &Failure::reject(failure));
    }

    /// It comes again, or goes to the dead letters.
    pub(super) fn fail(&self, delivery: Delivery, failure: &Failure) {
        let attempt = delivery.attempt();
        let again = self.policy.backoff.wait_after(attempt.saturating_sub(1));
        let reason = match failure.verdict() {
            Verdict::Reject => failure.to_string(),
            Verdict::Retry(_) if attempt >= self.attempts => format!("attempts exhausted: {failure}"),
            Verdict::Retry(after) => {
                count(&self.counts.failed);
                tracing::debug!(channel = self.channel.name(), attempt, %failure, "a message is to come again");
                let after = after.unwrap_or(again);
                let decision = Decision::Retried(failure.to_string(), after);
                self.conclude(delivery, |delivery| delivery.retry(after), decision);
                return;
            }
        };
        if !self.may_go(delivery.message().key()) {
            count(&self.counts.failed);
            tracing::warn!(channel = self.channel.name(), attempt, %failure, "a message that cannot be handled is waited for");
            let decision = Decision::Retried(reason, again);
            self.conclude(delivery, |delivery| delivery.retry(again), decision);
            return;
        }
        count(&self.counts.rejected);
        tracing::warn!(channel = self.channel.name(), attempt, %reason, "a message goes to the dead letters");
        let decision = Decision::Rejected(reason.clone());
        self.conclude(delivery, |delivery| delivery.reject(reason), decision);
    }

    /// Settles it; nobody waits for the broker's word but an observer.
    fn conclude(&self, delivery: Delivery, settle: impl FnOnce(Delivery) -> Settlement, decision: Decision) {
        let observed = self.shared.observer.as_ref().map(|observer| Observed {
            observer: Arc::clone(observer),
            message: delivery.message().clone(),
            attempt: delivery.attempt(),
        });
        let settlement = settle(delivery);
        if let Some(observed) = observed {
            observed.tell(settlement, decision);
        }
    }

    /// Whether a message of that key may go to the dead letters.
    fn may_go(&self, key: Option<&MessageKey>) -> bool {
        match (self.policy.followers, key) {
            (Followers::Wait, _) => false,
            (Followers::Follow, Some(key)) if self.channel.requirements().order_per_key => {
                let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
                gone.contains(key) || (gone.len() < MOST_GONE && gone.insert(key.clone()))
            }
            _ => true,
        }
    }

    /// Whether the message is behind one of its key that went to the dead letters.
    fn follows(&self, message: &Message) -> bool {
        self.policy.followers == Followers::Follow
            && message
                .key()
                .is_some_and(|key| self.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(key))
    }
}

impl<S: Send + Sync + 'static> Desk<S> {
    /// The handler for the delivery, unless it is settled without one.
    pub(super) fn admit(&self, delivery: Delivery) -> Option<(Delivery, &Endpoint<S>)> {
        if let Some(undecodable) = delivery.undecodable() {
            let failure = Failure::reject(format!("undecodable: {undecodable}"));
            self.fail(delivery, &failure);
            return None;
        }
        if self.follows(delivery.message()) {
            self.fail(delivery, &Failure::reject("a message of its key before it went to the dead letters"));
            return None;
        }
        let Some(endpoint) = self.endpoint(delivery.message()) else {
            self.unknown(delivery);
            return None;
        };
        Some((delivery, endpoint))
    }

    /// Waits while the message is handled elsewhere, and while the store is away; a message without an id is always new.
    pub(super) async fn begin_once(&self, delivery: &Delivery) -> Begun {
        let (Some(store), Some(id)) = (&self.policy.duplicates, delivery.message().id()) else {
            return Begun::New(None);
        };
        let mut backoff = self.policy.backoff;
        loop {
            match store.begin(&self.name, id).await {
                Ok(Claim::New(handling)) => return Begun::New(Some(handling)),
                Ok(Claim::Done) => return Begun::Duplicate,
                Ok(Claim::InProgress) => {}
                // No fault of the message: it uses up no attempt.
                Err(error) => {
                    tracing::warn!(channel = self.channel.name(), %error, "what was handled cannot be known");
                }
            }
            let again = later(self.shared.clock.now(), backoff.next_wait());
            tokio::select! {
                () = self.shared.clock.sleep_until(again) => {}
                () = delivery.lost() => return Begun::Lost,
            }
        }
    }

    /// The reply goes to the return address of the message, if it has one.
    async fn answer(&self, delivery: &Delivery, reply: Message) -> Result<(), Failure> {
        if delivery.message().reply_to().is_none() {
            return Ok(());
        }
        match delivery.reply(reply).await {
            Ok(_) => Ok(()),
            // Nobody is there to be answered, or the address is not one that may be: another attempt would change nothing.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Rejected | ErrorKind::Unauthorized
                ) =>
            {
                count(&self.counts.unanswered);
                tracing::warn!(channel = self.channel.name(), %error, "a reply reaches nobody");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it back to be acknowledged, where nobody observes that.
    pub(super) fn handled(&self, delivery: Delivery) -> Option<Delivery> {
        count(&self.counts.handled);
        if self.shared.observer.is_none() {
            return Some(delivery);
        }
        self.conclude(delivery, Delivery::ack, Decision::Acknowledged);
        None
    }

    /// Acknowledges what was handled before.
    pub(super) fn repeated(&self, delivery: Delivery) {
        count(&self.counts.duplicates);
        self.conclude(delivery, Delivery::ack, Decision::Duplicate);
    }

    /// The reply is sent, what was handled is written down, and then it is acknowledged.
    pub(super) async fn finish(
        &self,
        delivery: Delivery,
        reply: Option<Message>,
        handling: Option<Box<dyn Handling>>,
    ) {
        let done = async {
            if let Some(reply) = reply {
                self.answer(&delivery, reply).await?;
            }
            match handling {
                Some(handling) => Ok(handling.done().await?),
                None => Ok(()),
            }
        };
        match done.await {
            Ok(()) => drop(self.handled(delivery).map(Delivery::ack)),
            Err(failure) => self.fail(delivery, &failure),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
