//! Calls a handler, and waits for its answer if it answers later.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use actix::{Actor, Context, Handler, ResponseFuture, dev::MessageResponse};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::{
    base::failure::Failure,
    consume::{
        attempt::crash::Crash,
        handler::{adapter::Adapter, duty::Duty},
    },
};

/// A handler's answer: given at once, or to come later.
pub(crate) enum Reply<F: Adapter> {
    Now(Result<F::Answer, Failure>),
    Later(Answer<F>),
}

/// Calls the handler.
pub(crate) fn call<F, A>(message: F::Message, actor: &mut A, ctx: &mut Context<A>) -> Reply<F>
where
    F: Adapter,
    A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
{
    let mut response = Some(actor.handle(message, ctx));
    // If the handler's result is a plain `Result`, it is the answer, and no channel is needed.
    let plain = (&mut response as &mut dyn Any).downcast_mut::<Option<Result<F::Answer, Failure>>>();
    if let Some(answer) = plain.and_then(Option::take) {
        return Reply::Now(answer);
    }
    // A `ResponseFuture` is spawned outside the actor, as actix would do. It is done here because actix would lose the
    // text of a panic in it.
    let apart = (&mut response as &mut dyn Any).downcast_mut::<Option<ResponseFuture<Result<F::Answer, Failure>>>>();
    if let Some(future) = apart.and_then(Option::take) {
        let (reply, answer) = oneshot::channel();
        actix_rt::spawn(async move {
            let answer = AssertUnwindSafe(future).catch_unwind().await;
            // Fails only if the receiver is gone, because the answer is no longer needed.
            let _ = reply.send(answer.map_err(|payload| Crash::of_a_future(&*payload)));
        });
        return Reply::Later(Answer::Apart(answer));
    }
    let (reply, mut answer) = oneshot::channel();
    if let Some(response) = response {
        response.handle(ctx, Some(reply));
    }
    match answer.try_recv() {
        Ok(answer) => Reply::Now(answer),
        Err(_) => Reply::Later(Answer::Actix(answer)),
    }
}

/// An answer to come.
pub(crate) enum Answer<F: Adapter> {
    /// Sent by actix.
    Actix(oneshot::Receiver<Result<F::Answer, Failure>>),
    /// The answer of a future that runs outside the actor, or how that future crashed.
    Apart(oneshot::Receiver<Result<Result<F::Answer, Failure>, Crash>>),
}

impl<F: Adapter> Future for Answer<F> {
    type Output = Result<Result<F::Answer, Failure>, Crash>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Answer::Actix(answer) => answer.poll_unpin(cx).map(|answer| answer.map_err(|_| Crash::default())),
            Answer::Apart(answer) => answer.poll_unpin(cx).map(|said| said.unwrap_or_else(|_| Err(Crash::default()))),
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

    fn give_away(&mut self) -> Self {
        let (_, nothing) = oneshot::channel();
        let answer = std::mem::replace(&mut self.answer, Answer::Actix(nothing));
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
