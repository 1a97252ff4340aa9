//! Calls a handler, and waits for its answer if it answers later.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
};

use actix::{
    Actor, AsyncContext, Context, Handler, Message, ResponseActFuture, ResponseFuture, dev::MessageResponse,
    fut::ActorFuture,
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::{
    base::failure::Failure,
    consume::{
        attempt::crash::Crash,
        handler::{adapter::Adapter, around::Handlings, duty::Duty},
    },
};

/// A handler's answer, or how it or a middleware around it crashed.
pub(crate) type Said<F> = Result<Result<<F as Adapter>::Answer, Failure>, Crash>;

/// A handler's answer, there already or to come.
pub(crate) enum Reply<F: Adapter> {
    Now(Said<F>),
    Later(Answer<F>),
}

/// Calls the handler, inside its middleware.
pub(crate) fn call<F, M, A>(message: M, mut around: Handlings, actor: &mut A, ctx: &mut Context<A>) -> Reply<F>
where
    F: Adapter,
    M: Message<Result = Result<F::Answer, Failure>> + 'static,
    A: Actor<Context = Context<A>> + Handler<M, Result: 'static>,
{
    let mut response = match around.step(|| actor.handle(message, ctx)) {
        Ok(response) => Some(response),
        Err(crash) => return Reply::Now(around.end(Err(crash), F::result)),
    };
    // A plain result is the answer itself and needs no channel.
    let plain = (&mut response as &mut dyn Any).downcast_mut::<Option<Result<F::Answer, Failure>>>();
    if let Some(answer) = plain.and_then(Option::take) {
        return Reply::Now(around.end(Ok(answer), F::result));
    }
    // A `ResponseFuture` is spawned outside the actor, as actix would do. It is done here because actix would lose the
    // text of a panic in it.
    let apart = (&mut response as &mut dyn Any).downcast_mut::<Option<ResponseFuture<Result<F::Answer, Failure>>>>();
    if let Some(mut future) = apart.and_then(Option::take) {
        let (reply, answer) = oneshot::channel();
        actix_rt::spawn(async move {
            let polls = poll_fn(|cx| match around.step(|| future.as_mut().poll(cx)) {
                Ok(answer) => answer.map(Ok),
                Err(crash) => Poll::Ready(Err(crash)),
            });
            let said = AssertUnwindSafe(polls).catch_unwind().await;
            let said = said.unwrap_or_else(|payload| Err(Crash::of_a_future(&*payload)));
            // Before the answer, so that what the handler holds is free when its message is settled.
            drop(future);
            // Fails if nobody waits any more.
            let _ = reply.send(around.end(said, F::result));
        });
        return Reply::Later(Answer::Apart(answer));
    }
    // A `ResponseActFuture` runs in the actor's context, where actix would run it, but inside its middleware.
    let in_context =
        (&mut response as &mut dyn Any).downcast_mut::<Option<ResponseActFuture<A, Result<F::Answer, Failure>>>>();
    if let Some(future) = in_context.filter(|_| !around.is_empty()).and_then(Option::take) {
        let (reply, answer) = oneshot::channel();
        ctx.spawn(InContext::<F, A> { future: Some(future), around, reply: Some(reply) });
        return Reply::Later(Answer::InContext(answer));
    }
    let (reply, mut answer) = oneshot::channel();
    if let Some(response) = response {
        response.handle(ctx, Some(reply));
    }
    match answer.try_recv() {
        Ok(answer) => Reply::Now(around.end(Ok(answer), F::result)),
        Err(_) => Reply::Later(Answer::Actix(answer, around)),
    }
}

/// A future of the handler in its actor's context, inside the middleware.
struct InContext<F: Adapter, A: Actor> {
    /// `None` once it is done.
    future: Option<ResponseActFuture<A, Result<F::Answer, Failure>>>,
    around: Handlings,
    reply: Option<oneshot::Sender<Said<F>>>,
}

impl<F: Adapter, A: Actor> ActorFuture<A> for InContext<F, A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, ctx: &mut A::Context, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Self { future, around, reply } = self.get_mut();
        let Some(polled) = future else { return Poll::Ready(()) };
        let said = match around.step(|| polled.as_mut().poll(actor, ctx, cx)) {
            Ok(answer) => Ok(ready!(answer)),
            Err(crash) => Err(crash),
        };
        // Before the answer, so that what the handler holds is free when its message is settled.
        *future = None;
        let said = std::mem::take(around).end(said, F::result);
        if let Some(reply) = reply.take() {
            // Fails if nobody waits any more.
            let _ = reply.send(said);
        }
        Poll::Ready(())
    }
}

/// An answer to come.
pub(crate) enum Answer<F: Adapter> {
    /// Sent by actix; and the middleware that is told then.
    Actix(oneshot::Receiver<Result<F::Answer, Failure>>, Handlings),
    /// Of a future in the actor's context, inside the middleware.
    InContext(oneshot::Receiver<Said<F>>),
    /// Of a future that runs apart from the actor; or how that future crashed.
    Apart(oneshot::Receiver<Said<F>>),
}

impl<F: Adapter> Future for Answer<F> {
    type Output = Said<F>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Said<F>> {
        match self.get_mut() {
            Answer::Actix(answer, around) => {
                let said = ready!(answer.poll_unpin(cx)).map_err(|_| Crash::default());
                Poll::Ready(std::mem::take(around).end(said, F::result))
            }
            Answer::InContext(answer) | Answer::Apart(answer) => {
                answer.poll_unpin(cx).map(|said| said.unwrap_or_else(|_| Err(Crash::default())))
            }
        }
    }
}

/// A handler that has taken a message and has not answered yet.
pub(crate) struct Unanswered<F: Adapter> {
    duty: Option<Duty>,
    answer: Answer<F>,
}

/// The result of waiting for a handler's answer.
pub(crate) enum Answered<F: Adapter> {
    Now(Duty, Result<F::Answer, Failure>),
    /// The answer will never come, because the handler's future was dropped or panicked.
    Never(Duty, Crash),
    /// The duty was given away before.
    Nothing,
    /// The handler took too long. The message is settled already, and its answer is reported as late when it comes.
    GivenUp(Unanswered<F>),
}

impl<F: Adapter> Unanswered<F> {
    pub(crate) fn new(duty: Option<Duty>, answer: Answer<F>) -> Self {
        Self { duty, answer }
    }

    /// Whether the answer comes even if the actor ends before.
    pub(crate) fn outlives_its_actor(&self) -> bool {
        matches!(self.answer, Answer::Apart(_))
    }

    fn give_away(&mut self) -> Self {
        let (_, nothing) = oneshot::channel();
        let answer = std::mem::replace(&mut self.answer, Answer::Actix(nothing, Handlings::default()));
        Self { duty: self.duty.take(), answer }
    }

    /// Waits for the late answer. It no longer counts against the handler's concurrency.
    pub(crate) async fn linger(mut self, adapter: Arc<F>) {
        self.duty.iter_mut().for_each(Duty::free_key);
        match ((&mut self.answer).await, self.duty.take()) {
            (Ok(answer), Some(duty)) => duty.answer(&*adapter, answer),
            (Err(crash), Some(duty)) => duty.crashed(crash),
            (_, None) => {}
        }
    }
}

impl<F: Adapter> Future for Unanswered<F> {
    type Output = Answered<F>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let answer = match Pin::new(&mut self.answer).poll(cx) {
            Poll::Ready(answer) => answer,
            Poll::Pending if self.duty.as_ref().is_some_and(|duty| duty.poll_given_up(cx)) => {
                return Poll::Ready(Answered::GivenUp(self.give_away()));
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match (answer, self.duty.take()) {
            (Ok(answer), Some(duty)) => Answered::Now(duty, answer),
            (Err(crash), Some(duty)) => Answered::Never(duty, crash),
            (_, None) => Answered::Nothing,
        })
    }
}
