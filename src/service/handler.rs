use super::Failure;
use super::context::Context;
use super::seat::Work;
use crate::adapter::{Kind, Message};
use crate::{Body, Command, IntoMessage, Result};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

/// A function that handles messages of one type: `async fn(B, Context<S>) -> Result<R, Failure>`.
///
/// `B` is the [`Body`], `S` the service's state, and `R` either `()` or, for a [`Command`], its reply, which goes to the return address of the
/// message. `Shape` is how the compiler tells the two apart; nobody names it.
#[diagnostic::on_unimplemented(
    message = "this is no handler for a service with the state `{S}`",
    label = "expected `async fn(B, Context<{S}>) -> Result<R, Failure>`",
    note = "`B` has to implement `Body`; `R` is `()`, or `<B as Command>::Reply` where `B` implements `Command`",
    note = "the state is `()` unless the service has one by `with_state`; what the handler awaits has to be `Send`"
)]
pub trait Handler<S, Shape>: Sized {
    #[doc(hidden)]
    fn endpoint(self) -> Endpoint<S>;
}

/// The shape of a handler that answers nothing.
#[derive(Debug)]
pub struct Handles<B>(PhantomData<fn(B)>);

/// The shape of a handler that answers commands.
#[derive(Debug)]
pub struct Answers<C>(PhantomData<fn(C)>);

/// A handler, ready to be called.
pub struct Endpoint<S> {
    pub(super) type_name: &'static str,
    pub(super) kind: Option<Kind>,
    pub(super) reply: Option<&'static str>,
    begin: Begin<S>,
}

/// Lays what handles the message where there may be room for it.
type Begin<S> = Box<dyn Fn(Context<S>, &mut Work) + Send + Sync>;

/// The reply, if there is one.
pub(super) type Answer = Result<Option<Message>, Failure>;

impl<S: Send + Sync + 'static> Endpoint<S> {
    fn new<Fut>(
        type_name: &'static str,
        kind: Option<Kind>,
        reply: Option<&'static str>,
        handle: impl Fn(Context<S>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let begin = Box::new(move |context, work: &mut Work| work.set(handle(context)));
        Self { type_name, kind, reply, begin }
    }

    pub(super) fn begin(&self, context: Context<S>, work: &mut Work) {
        (self.begin)(context, work);
    }
}

impl<S, F, B, Fut> Handler<S, Handles<B>> for F
where
    S: Send + Sync + 'static,
    F: Fn(B, Context<S>) -> Fut + Clone + Send + Sync + 'static,
    B: Body,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    fn endpoint(self) -> Endpoint<S> {
        typed::<S, B, _, _>(None, self, |()| Ok(None))
    }
}

impl<S, F, C, Fut> Handler<S, Answers<C>> for F
where
    S: Send + Sync + 'static,
    F: Fn(C, Context<S>) -> Fut + Clone + Send + Sync + 'static,
    C: Command,
    C::Reply: 'static,
    Fut: Future<Output = Result<C::Reply, Failure>> + Send + 'static,
{
    fn endpoint(self) -> Endpoint<S> {
        typed::<S, C, _, _>(Some(C::Reply::TYPE), self, |reply| (&reply).into_message().map(Some))
    }
}

fn typed<S, B, Fut, R>(
    reply: Option<&'static str>,
    handler: impl Fn(B, Context<S>) -> Fut + Clone + Send + Sync + 'static,
    answer: fn(R) -> Result<Option<Message>>,
) -> Endpoint<S>
where
    S: Send + Sync + 'static,
    B: Body,
    Fut: Future<Output = Result<R, Failure>> + Send + 'static,
    R: 'static,
{
    Endpoint::new(B::TYPE, B::KIND, reply, move |context: Context<S>| {
        let handler = handler.clone();
        async move {
            // The type was looked at when the handler was chosen: that of a message without one is the payload's.
            let handling = match B::decode(context.message().body()) {
                Ok(body) => handler(body, context),
                Err(undecodable) => return Err(Failure::reject(undecodable)),
            };
            Ok(answer(handling.await?)?)
        }
    })
}

/// A handler that takes messages of any type as they are.
pub(super) fn untyped<S, Fut>(
    handler: impl Fn(Message, Context<S>) -> Fut + Clone + Send + Sync + 'static,
) -> Endpoint<S>
where
    S: Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    Endpoint::new("", None, None, move |context: Context<S>| {
        let handler = handler.clone();
        async move { handler(context.message().clone(), context).await.map(|()| None) }
    })
}

impl<S> fmt::Debug for Endpoint<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.type_name).finish()
    }
}
