//! The one mapping from what librdkafka and Kafka say to the contract's kinds.

use anybroker_contract::{Error, ErrorKind};

pub(crate) fn error(kind: ErrorKind, what: impl Into<String>) -> Error {
    Error::new(kind, what).with_adapter(crate::NAME)
}
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The code in what the crate gives, where there is one.
pub(crate) fn code(failed: &KafkaError) -> Option<Code> {
    match failed {
        // The crate leaves it out.
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The kind of what Kafka or librdkafka says.
pub(crate) const fn kind(code: Code) -> ErrorKind {
    match code {
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::GroupIdNotFound => ErrorKind::NotFound,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::SSL
        | Code::UnsupportedSASLMechanism => ErrorKind::Unauthorized,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            ErrorKind::PayloadTooLarge
        }
        Code::TopicAlreadyExists | Code::NonEmptyGroup | Code::InconsistentGroupProtocol => {
            ErrorKind::Conflict
        }
        Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidTopic
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout => ErrorKind::Config,
        Code::InvalidTimestamp | Code::InvalidRecord | Code::PolicyViolation => ErrorKind::Rejected,
        Code::UnsupportedFeature | Code::UnsupportedVersion => ErrorKind::Unsupported,
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            ErrorKind::Timeout
        }
        Code::PurgeQueue | Code::PurgeInflight | Code::Fatal | Code::Fenced => ErrorKind::Disconnected,
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::WaitingForCoordinator
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::BrokerNotAvailable
        | Code::NetworkException => ErrorKind::Unavailable,
        Code::ThrottlingQuotaExceeded => ErrorKind::Throttled,
        _ => ErrorKind::Other,
    }
}

/// What became of an operation.
pub(crate) fn operation(what: &str, code: Code) -> Error {
    let kind = kind(code);
    let failed = error(kind, format!("{what}: Kafka says `{code}`"));
    match help(code) {
        "" => failed,
        help => failed.with_help(help),
    }
}

const fn help(code: Code) -> &'static str {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "declare it first, or correct its name"
        }
        Code::TopicAuthorizationFailed => {
            "give the user the right to describe and to read or write the topic, and to create it where it is declared"
        }
        Code::GroupAuthorizationFailed => "give the user the right to read the group",
        Code::ClusterAuthorizationFailed => {
            "give the user the right to create topics, or declare with a user who has it"
        }
        Code::InvalidReplicationFactor => "set the channel's `replication` to no more than there are brokers",
        Code::NonEmptyGroup => "close its consumers first",
        Code::InconsistentGroupProtocol => {
            "other members of the group divide its partitions otherwise: let all use `cooperative-sticky`, or choose another `group`"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            "use a newer Kafka, or set `group-protocol` to `classic`"
        }
        Code::MessageSizeTooLarge => "raise the topic's `max.message.bytes` and the channel's `max-message`",
        _ => "",
    }
}
