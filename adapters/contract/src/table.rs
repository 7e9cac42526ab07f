use crate::{
    Capabilities, Capability, Channel, ChannelKind, Error, ErrorKind, InFlightPerKey, Level, Result,
};

/// What a broker can do, in one place: its adapter gives it as its own, which conformance holds it to, and the memory adapter can do no more with
/// `memory://?like=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Table {
    /// Apache Kafka.
    Kafka,
    /// `RabbitMQ`.
    RabbitMq,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Kafka, Self::RabbitMq];

    /// The table of that name, which is that of the adapter.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The name of the adapter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
        }
    }

    /// The largest message in bytes, unless the broker or the client is configured otherwise.
    #[must_use]
    pub const fn largest_message(self) -> usize {
        match self {
            // A batch that holds one message.
            Self::Kafka => 1_048_588,
            // That of RabbitMQ 4; 3.10 takes more.
            Self::RabbitMq => 16 << 20,
        }
    }

    /// How safe its receipts say that a message is.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Kafka | Self::RabbitMq => Level::Durable,
        }
    }

    /// What its channels can have at most.
    #[must_use]
    pub fn capabilities(self) -> Capabilities {
        let mut capabilities = match self {
            Self::Kafka => kafka(),
            Self::RabbitMq => rabbitmq(),
        };
        capabilities.in_flight_per_key = InFlightPerKey::Any;
        capabilities.level = self.level();
        capabilities.max_message_bytes = Some(self.largest_message());
        capabilities
    }

    /// What holds of it on a channel that was declared in order or not, with a bound or without.
    #[must_use]
    pub fn on(self, mut most: Capabilities, ordered: bool, bounded: bool) -> Capabilities {
        if self == Self::Kafka {
            return most;
        }
        if !ordered {
            most = most.without(
                Capability::OrderPerKey,
                "keeps only on channels and subscriptions that were declared with it",
                "delete it, so that it is made anew in order, or drop the requirement",
            );
        }
        if bounded {
            // The broker may refuse one message of a key and take the next.
            most.in_flight_per_key = InFlightPerKey::One;
            return most;
        }
        most.without(
            Capability::Bounded,
            "keeps only on point-to-point channels that are declared with a bound",
            "require the bound of a point-to-point channel",
        )
    }

    /// Refuses what the broker has, but not on a channel of that kind.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn check(self, channel: &Channel) -> Result<()> {
        // With a fanout, one full queue refuses what the others have taken, and sending it again would repeat it there.
        let fanned_out = self == Self::RabbitMq && channel.kind() == ChannelKind::PublishSubscribe;
        if fanned_out && channel.requirements().bounded.is_some() {
            let what = "a publish-subscribe channel cannot have a bound: `bounded` is required";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_help("drop the requirement, or bound a point-to-point channel"));
        }
        Ok(())
    }
}

fn kafka() -> Capabilities {
    let mut capabilities = Capabilities::none()
        .native(&[
            Capability::PointToPoint,
            Capability::PublishSubscribe,
            Capability::NamedSubscription,
            Capability::EphemeralSubscription,
            Capability::OrderPerKey,
            Capability::Durable,
            Capability::StartPosition,
        ])
        .emulated(&[Capability::DeadLetter, Capability::Replies])
        .without(
            Capability::AttemptCount,
            "keeps only in part: attempts go over to another consumer when the partition does, not when its consumer dies",
            "nothing: attempts are counted by each consumer",
        )
        .without(
            Capability::Bounded,
            "does not have: a topic keeps what its retention says, whether it was read or not",
            "drop the requirement, or bind the channel to a broker that has queues",
        )
        .without(
            Capability::LeaseExtension,
            "does not need: a partition belongs to its consumer until that leaves or dies",
            "nothing: handling may take as long as it takes",
        );
    capabilities.reconnects = true;
    capabilities.commits_later = true;
    capabilities
}

fn rabbitmq() -> Capabilities {
    Capabilities::none()
        .native(&[
            Capability::PointToPoint,
            Capability::PublishSubscribe,
            Capability::NamedSubscription,
            Capability::EphemeralSubscription,
            Capability::Durable,
            Capability::DeadLetter,
            Capability::Bounded,
            Capability::Replies,
        ])
        .emulated(&[Capability::OrderPerKey])
        .without(
            Capability::StartPosition,
            "does not have: its queues hold what came after they were made",
            "subscribe before the first message is sent, or bind the channel to a broker that keeps a log",
        )
        .without(
            Capability::AttemptCount,
            "keeps only in part: it counts what was given back without being handled, too",
            "nothing: attempts are counted by each consumer, and the broker's own limit catches what ends its consumers",
        )
        .without(
            Capability::LeaseExtension,
            "does not need: a delivery belongs to its consumer until that settles or ends",
            "nothing: raise RabbitMQ's `consumer_timeout` where handling takes longer than half an hour",
        )
}
