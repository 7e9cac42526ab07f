use crate::{BoxFuture, Error, ErrorKind, Level, Result, SendOutcome, Text};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The broker's word that it has a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// How safe the message is. "Nothing lost" starts here.
    pub level: Level,
    /// Where the message is, for brokers that say so: a shard and an offset in it.
    pub position: Option<(u32, u64)>,
    /// The broker's own id of the message, for brokers that give one.
    pub native_id: Option<Text>,
}

impl Receipt {
    /// A receipt of that level.
    #[must_use]
    #[inline]
    pub const fn new(level: Level) -> Self {
        Self { level, position: None, native_id: None }
    }

    /// Adds where the message is.
    #[must_use]
    pub const fn at(mut self, shard: u32, offset: u64) -> Self {
        self.position = Some((shard, offset));
        self
    }

    /// Adds the broker's own id of the message.
    #[must_use]
    pub fn with_native_id(mut self, id: impl Into<Text>) -> Self {
        self.native_id = Some(id.into());
        self
    }
}

/// What becomes of a batch that was handed over: a future of one result per message, in the order of the batch.
///
/// It resolves also when the connection dies: then with [`ErrorKind::Disconnected`] and [`SendOutcome::Unknown`] for what has no answer.
pub struct Confirm(State);

enum State {
    Done(Option<Confirmed>),
    Pending(BoxFuture<'static, Vec<Result<Receipt>>>),
}

impl Confirm {
    /// Every message of the batch was accepted, with the same receipt. Allocates nothing.
    #[must_use]
    #[inline]
    pub const fn accepted(receipt: Receipt) -> Self {
        Self(State::Done(Some(Confirmed::All(receipt))))
    }

    /// The results are there already.
    #[must_use]
    #[inline]
    pub const fn ready(results: Vec<Result<Receipt>>) -> Self {
        Self(State::Done(Some(Confirmed::Each(results))))
    }

    /// The results come later. The future must not borrow the sender and must resolve when the connection dies.
    pub fn pending(results: impl Future<Output = Vec<Result<Receipt>>> + Send + 'static) -> Self {
        Self(State::Pending(Box::pin(results)))
    }

    /// The results, if they are there already.
    ///
    /// # Errors
    /// Gives the confirm back when it has to be awaited.
    #[inline]
    pub fn try_now(self) -> std::result::Result<Confirmed, Self> {
        match self.0 {
            State::Done(Some(confirmed)) => Ok(confirmed),
            other => Err(Self(other)),
        }
    }
}

impl Future for Confirm {
    type Output = Confirmed;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Confirmed> {
        match &mut self.0 {
            State::Done(confirmed) => Poll::Ready(confirmed.take().unwrap_or(Confirmed::Each(Vec::new()))),
            State::Pending(results) => results.as_mut().poll(cx).map(Confirmed::Each),
        }
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Done(_) => "Confirm(done)",
            State::Pending(_) => "Confirm(pending)",
        })
    }
}

/// The answers for a batch.
#[derive(Debug)]
#[non_exhaustive]
pub enum Confirmed {
    /// Every message was accepted, with this receipt.
    All(Receipt),
    /// One result per message.
    Each(Vec<Result<Receipt>>),
}

impl Confirmed {
    /// One result for each of `count` messages. A missing answer is an unknown outcome, never a silent success.
    #[must_use]
    pub fn into_results(self, count: usize) -> Vec<Result<Receipt>> {
        match self {
            Self::All(receipt) => std::iter::repeat_with(|| Ok(receipt.clone())).take(count).collect(),
            Self::Each(mut results) => {
                results.resize_with(count, || {
                    Err(Error::new(ErrorKind::Other, "the adapter gave no answer for this message")
                        .with_outcome(SendOutcome::Unknown))
                });
                results
            }
        }
    }
}
