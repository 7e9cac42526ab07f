//! The headers of a dead letter: beside them it is the message as it was, under its id.

/// Why it is one: the caller's reason, `attempts exhausted`, `expired`, or `undecodable: …`.
pub const REASON: &str = "anybroker-dead-letter-reason";

/// How many attempts it had, in decimal.
pub const ATTEMPTS: &str = "anybroker-dead-letter-attempts";

/// The channel, or channel/subscription, that it was received from.
pub const ORIGIN: &str = "anybroker-dead-letter-origin";
