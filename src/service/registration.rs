use super::Policy;
use super::handler::Endpoint;
use crate::adapter::{Channel, ChannelKind, Kind};
use crate::builder::ReceiveFrom;
use crate::{Error, ErrorKind, Result};
use std::fmt;

/// What one handler does: a row of what its service is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Operation {
    /// The channel or subscription.
    pub from: ReceiveFrom,
    /// The type of the messages; none for the fallback.
    pub message: Option<&'static str>,
    /// Their kind, if the application says it.
    pub kind: Option<Kind>,
    /// The type of the replies, if there are any.
    pub reply: Option<&'static str>,
}

/// What was registered, in that order.
pub(super) struct Plans<S>(Vec<Plan<S>>);

/// What was registered for one channel or subscription.
pub(super) struct Plan<S> {
    pub(super) from: ReceiveFrom,
    /// The channel, or channel/subscription.
    pub(super) name: String,
    pub(super) endpoints: Vec<Endpoint<S>>,
    pub(super) fallback: Option<Endpoint<S>>,
    pub(super) policy: Option<Policy>,
}

impl<S> Plans<S> {
    /// The plan of this source, made if there is none. A publish-subscribe channel stands for the subscription of the service.
    pub(super) fn of(&mut self, from: ReceiveFrom, service: &str) -> &mut Plan<S> {
        let from = match from {
            ReceiveFrom::Channel(channel) if channel.kind() == ChannelKind::PublishSubscribe => {
                ReceiveFrom::Subscription(channel.subscription(service.to_owned()))
            }
            other => other,
        };
        let at = self.0.iter().position(|plan| plan.from == from).unwrap_or_else(|| {
            self.0.push(Plan::new(from));
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Plan<S>> {
        self.0.iter()
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: String, help: &str| Err(Error::new(ErrorKind::Config, what).with_help(help));
        if self.0.iter().all(Plan::is_idle) {
            return refuse("there is no handler".into(), "give it one by `handle`");
        }
        for (at, plan) in self.0.iter().enumerate() {
            let name = &plan.name;
            if plan.is_idle() {
                return refuse(
                    format!("`{name}` has a policy and no handler"),
                    "give `policy_for` the channel or subscription that `handle` was given",
                );
            }
            let channel = plan.channel();
            for other in &self.0[..at] {
                if other.channel().name() == channel.name() && other.channel() != channel {
                    return refuse(
                        format!(
                            "channel `{}` is there twice, with another kind or other requirements",
                            channel.name()
                        ),
                        "declare a channel once, as a static, and use that everywhere",
                    );
                }
                if other.name == *name {
                    return refuse(
                        format!("`{name}` is there twice, with different starts"),
                        "give all handlers of a subscription the same one",
                    );
                }
            }
        }
        Ok(())
    }
}

impl<S> Default for Plans<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S> IntoIterator for Plans<S> {
    type Item = Plan<S>;
    type IntoIter = std::vec::IntoIter<Plan<S>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<S> Plan<S> {
    fn new(from: ReceiveFrom) -> Self {
        let name = match &from {
            ReceiveFrom::Channel(channel) => channel.name().to_owned(),
            ReceiveFrom::Subscription(subscription) => {
                format!("{}/{}", subscription.channel().name(), subscription.name().unwrap_or("(ephemeral)"))
            }
            ReceiveFrom::DeadLetters(dead) => match dead.subscription() {
                Some(subscription) => format!("{}/{subscription} dead letters", dead.channel().name()),
                None => format!("{} dead letters", dead.channel().name()),
            },
        };
        Self { from, name, endpoints: Vec::new(), fallback: None, policy: None }
    }

    pub(super) fn add(&mut self, endpoint: Endpoint<S>) -> Result<()> {
        let (name, type_name) = (&self.name, endpoint.type_name);
        if self.endpoints.iter().any(|other| other.type_name == type_name) {
            let what = format!("`{name}` has two handlers for messages of type `{type_name}`");
            return Err(Error::new(ErrorKind::Config, what)
                .with_help("drop one, or give one of the types another `Body::TYPE`"));
        }
        if endpoint.kind == Some(Kind::Event)
            && let Some(reply) = endpoint.reply
        {
            let what = format!("the handler of `{type_name}` on `{name}` replies `{reply}` to an event");
            return Err(Error::new(ErrorKind::Config, what).with_help(
                "return `()` and publish an event of its own, or make the message a command by `Body::KIND`",
            ));
        }
        self.endpoints.push(endpoint);
        Ok(())
    }

    pub(super) fn add_fallback(&mut self, endpoint: Endpoint<S>) -> Result<()> {
        if self.fallback.is_some() {
            let what = format!("`{}` has two fallbacks", self.name);
            return Err(Error::new(ErrorKind::Config, what).with_help("drop one"));
        }
        self.fallback = Some(endpoint);
        Ok(())
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = Operation> {
        let typed = self.endpoints.iter().map(|endpoint| (Some(endpoint.type_name), endpoint));
        typed.chain(self.fallback.iter().map(|endpoint| (None, endpoint))).map(|(message, endpoint)| {
            Operation { from: self.from.clone(), message, kind: endpoint.kind, reply: endpoint.reply }
        })
    }

    fn is_idle(&self) -> bool {
        self.endpoints.is_empty() && self.fallback.is_none()
    }

    const fn channel(&self) -> &Channel {
        self.from.channel()
    }
}

impl<S> fmt::Debug for Plans<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().flat_map(Plan::operations)).finish()
    }
}
