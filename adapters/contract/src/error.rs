use crate::Message;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// A result with Anybroker's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The one error of the library: a kind, what was attempted, and what to do about it.
///
/// `Display` gives one line (and, where there is one, a second that begins with `= help:`); `source()` gives the client library's error. Neither
/// ever shows a credential: whoever makes an error keeps secrets out of its texts.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    what: String,
    help: Option<String>,
    operation: Option<&'static str>,
    adapter: Option<&'static str>,
    channel: Option<String>,
    outcome: Option<SendOutcome>,
    retry_after: Option<Duration>,
    message: Option<Message>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The channel, subscription or broker named does not exist.
    NotFound,
    /// Credentials were refused, or lack a right.
    Unauthorized,
    /// The adapter cannot do this, here.
    Unsupported,
    /// What exists at the broker differs from what is declared.
    Conflict,
    /// The message is larger than the channel takes.
    PayloadTooLarge,
    /// The message cannot be carried, or not be read.
    InvalidMessage,
    /// The deadline has passed.
    Timeout,
    /// The broker asks to slow down.
    Throttled,
    /// Not possible now, the handle lives on: call again.
    Unavailable,
    /// The handle is dead: open another.
    Disconnected,
    /// The delivery belongs to this consumer no more; it comes again elsewhere.
    LeaseLost,
    /// The broker or the receiver has refused the message.
    Rejected,
    /// The configuration is wrong.
    Config,
    /// Used after close.
    Closed,
    /// None of the above.
    Other,
}

/// What became of a message whose sending failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendOutcome {
    /// It never left: sending it again makes no duplicate.
    NotSent,
    /// The broker has refused it and does not have it.
    Refused,
    /// Nobody knows: sending it again may make a duplicate, with the same id.
    Unknown,
}

impl Error {
    /// An error of that kind; `what` completes the sentence "failed because …" and names the thing at fault.
    #[must_use]
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            help: None,
            operation: None,
            adapter: None,
            channel: None,
            outcome: None,
            retry_after: None,
            message: None,
            source: None,
        }))
    }

    /// Adds what to do instead.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Puts the place at fault in front of the text, such as the path of a configuration field.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.what = format!("{place}: {}", self.0.what);
        self
    }

    /// Adds what was attempted, such as `send`, unless it is there already.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Adds the adapter's name, unless it is there already.
    #[must_use]
    pub fn with_adapter(mut self, adapter: &'static str) -> Self {
        self.0.adapter.get_or_insert(adapter);
        self
    }

    /// Adds the portable name of the channel, unless it is there already.
    #[must_use]
    pub fn with_channel(mut self, channel: impl Into<String>) -> Self {
        self.0.channel.get_or_insert_with(|| channel.into());
        self
    }

    /// Adds what became of the message.
    #[must_use]
    pub fn with_outcome(mut self, outcome: SendOutcome) -> Self {
        self.0.outcome = Some(outcome);
        self
    }

    /// Adds how long the broker asks to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Adds the message that was not sent, so that the caller gets it back.
    #[must_use]
    pub fn with_message(mut self, message: Message) -> Self {
        self.0.message = Some(message);
        self
    }

    /// Adds the error of the client library.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anyone changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Timeout | ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Disconnected
        )
    }

    /// For sends: what became of the message.
    #[must_use]
    pub const fn outcome(&self) -> Option<SendOutcome> {
        self.0.outcome
    }

    /// How long the broker asks to wait.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What was attempted.
    #[must_use]
    pub const fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The adapter's name.
    #[must_use]
    pub const fn adapter(&self) -> Option<&'static str> {
        self.0.adapter
    }

    /// The portable name of the channel.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.0.channel.as_deref()
    }

    /// What to do instead.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The message that was not sent.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        self.0.message.as_ref()
    }

    /// The message that was not sent, to send it again or store it.
    #[must_use]
    pub fn into_message(self) -> Option<Message> {
        self.0.message
    }

    /// The same error again, for another message of the batch that failed as a whole. Message and source stay with the first.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let inner = &self.0;
        let mut what = inner.what.clone();
        if let Some(source) = &inner.source {
            what = format!("{what} ({source})");
        }
        Self(Box::new(Inner {
            kind: inner.kind,
            what,
            help: inner.help.clone(),
            operation: inner.operation,
            adapter: inner.adapter,
            channel: inner.channel.clone(),
            outcome: inner.outcome,
            retry_after: inner.retry_after,
            message: None,
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.write_str(&inner.what)?;
        let mut context = Vec::new();
        context.extend(inner.operation.map(|o| format!("operation: {o}")));
        context.extend(inner.adapter.map(|a| format!("adapter: {a}")));
        context.extend(inner.channel.as_ref().map(|c| format!("channel: {c}")));
        context.extend(inner.outcome.map(|o| {
            String::from(match o {
                SendOutcome::NotSent => "the message was not sent",
                SendOutcome::Refused => "the message was refused",
                SendOutcome::Unknown => "whether the message was sent is unknown",
            })
        }));
        if !context.is_empty() {
            write!(f, " ({})", context.join("; "))?;
        }
        if let Some(help) = &inner.help {
            write!(f, "\n  = help: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(source) = &self.0.source {
            write!(f, "\n  = caused by: {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}
