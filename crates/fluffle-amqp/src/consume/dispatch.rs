//! The handler's side: a future inside the handler actor's own context that takes deliveries, decodes them and calls
//! `Handler::handle` on the actor directly.
//!
//! Compared with sending each delivery to the actor's mailbox this saves a hop per message, keeps what waits out of a
//! crash's way, and knows which messages the actor had in hand when it panicked.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use actix::{Actor, AsyncContext, Context, Handler, dev::MessageResponse, fut::ActorFuture};
use fluffle_supervise::SupervisedContext;
use fluffle_wire::Wire;
use futures_util::{
    StreamExt,
    stream::{FuturesUnordered, LocalBoxStream},
};
use tokio::sync::oneshot;

use crate::consume::{
    delivery::Delivery,
    failure::Failure,
    lane::{Job, Lane, Outcome, Ticket},
    received::Received,
};

/// Messages handled in one turn before the actor's other futures, messages and timers get theirs.
const BUDGET: usize = 64;

/// Feeds one handler instance.
pub(crate) struct Dispatch<T, R: 'static> {
    lane: Arc<Lane>,
    queue: LocalBoxStream<'static, Job>,
    wire: Wire<T>,
    reply: Wire<R>,
    concurrency: usize,
    /// This actor has handled a message.
    proven: bool,
    unanswered: FuturesUnordered<Unanswered<R>>,
}

/// A handler that has taken a message and not answered yet.
struct Unanswered<R> {
    ticket: Option<Ticket>,
    answer: oneshot::Receiver<Result<R, Failure>>,
    received: Arc<Received>,
}

impl<R> Future for Unanswered<R> {
    type Output = Answered<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let answer = match Pin::new(&mut self.answer).poll(cx) {
            Poll::Ready(answer) => answer,
            Poll::Pending if self.received.poll_given_up(cx) => {
                return Poll::Ready(Answered::GivenUp(self.give_away()));
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match (answer, self.ticket.take()) {
            (Ok(answer), Some(ticket)) => Answered::Now(ticket, answer, self.received.wants_reply()),
            // An answer that will never come (the future was dropped or panicked) drops the ticket: a crash.
            _ => Answered::Never,
        })
    }
}

/// What came of waiting for a handler's answer.
enum Answered<R> {
    Now(Ticket, Result<R, Failure>, bool),
    Never,
    /// It took too long: settled already, and only to be counted when it comes.
    GivenUp(Unanswered<R>),
}

impl<R> Unanswered<R> {
    fn give_away(&mut self) -> Self {
        let (_, nothing) = oneshot::channel();
        let answer = std::mem::replace(&mut self.answer, nothing);
        Self { ticket: self.ticket.take(), answer, received: Arc::clone(&self.received) }
    }

    /// Waits for the late answer apart from the handler's concurrency.
    async fn linger(mut self) {
        let late = (&mut self.answer).await;
        match (late, self.ticket.take()) {
            (Ok(Ok(_)), Some(ticket)) => ticket.answer(Outcome::Handled(None)),
            (Ok(Err(failure)), Some(ticket)) => ticket.answer(Outcome::Failed(failure)),
            // An answer that will never come drops the ticket: a crash.
            (_, ticket) => drop(ticket),
        }
    }
}

impl<T: 'static, R: 'static> Dispatch<T, R> {
    pub(crate) fn new(lane: Arc<Lane>, wire: Wire<T>, reply: Wire<R>, concurrency: usize) -> Self {
        let queue = lane.queue();
        let unanswered = FuturesUnordered::new();
        Self { lane, queue, wire, reply, concurrency: concurrency.max(1), proven: false, unanswered }
    }

    fn handle<A>(&mut self, job: Job, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<Delivery<T, R>>,
    {
        let Job { received, mut ticket } = job;
        if !self.lane.is_ours(&received) {
            return;
        }
        let message = match self.wire.decode_sized(&received.wire()) {
            Ok((message, unpacked)) => {
                received.unpacked(unpacked);
                message
            }
            Err(error) => return ticket.answer(Outcome::Undecodable(error)),
        };
        ticket.start();
        received.started.get_or_init(Instant::now);
        let kept = Arc::clone(&received);
        let (reply, mut answer) = oneshot::channel();
        actor.handle(Delivery::new(message, received), ctx).handle(ctx, Some(reply));
        match answer.try_recv() {
            Ok(result) => self.settle(ticket, result, kept.wants_reply(), ctx),
            Err(oneshot::error::TryRecvError::Empty) => {
                self.unanswered.push(Unanswered { ticket: Some(ticket), answer, received: kept });
            }
            Err(oneshot::error::TryRecvError::Closed) => drop(ticket),
        }
    }
}

impl<T, R: 'static> Dispatch<T, R> {
    /// A handled message proves the actor healthy: a crash now and then costs the shortest wait, only crashes in a row
    /// wait longer.
    fn settle<A>(&mut self, ticket: Ticket, result: Result<R, Failure>, asked: bool, ctx: &Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        if result.is_ok() && !self.proven {
            self.proven = true;
            ctx.healthy();
        }
        ticket.answer(outcome(&self.reply, result, asked));
    }
}

/// The answer is encoded only when somebody asked for one.
fn outcome<R>(reply: &Wire<R>, result: Result<R, Failure>, asked: bool) -> Outcome {
    match result {
        Ok(_) if !asked => Outcome::Handled(None),
        Ok(answer) => match reply.encode(&answer) {
            Ok(encoded) => Outcome::Handled(Some(encoded)),
            Err(error) => Outcome::Failed(Failure::reject(error)),
        },
        Err(failure) => Outcome::Failed(failure),
    }
}

/// The actor has ended. Its `ResponseFuture`s live on apart from it and will answer: they are waited for, for handling
/// their messages again would do the work twice. What lived in the actor's context is gone with it, and so is the
/// sending end of its answer: those tickets say "crashed".
impl<T, R: 'static> Drop for Dispatch<T, R> {
    fn drop(&mut self) {
        if self.unanswered.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut unanswered = std::mem::take(&mut self.unanswered);
        let reply = self.reply.clone();
        actix_rt::spawn(async move {
            while let Some(answered) = unanswered.next().await {
                match answered {
                    Answered::Now(ticket, result, asked) => ticket.answer(outcome(&reply, result, asked)),
                    Answered::Never => {}
                    Answered::GivenUp(late) => {
                        actix_rt::spawn(late.linger());
                    }
                }
            }
        });
    }
}

impl<A, T: 'static, R: 'static> ActorFuture<A> for Dispatch<T, R>
where
    A: Actor<Context = Context<A>> + Handler<Delivery<T, R>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut budget = BUDGET;
        loop {
            let mut progress = false;
            while !ctx.waiting() && budget > 0 && this.unanswered.len() < this.concurrency {
                match this.queue.poll_next_unpin(cx) {
                    Poll::Ready(Some(job)) => this.handle(job, actor, ctx),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
                budget -= 1;
                progress = true;
            }
            while let Poll::Ready(Some(answered)) = this.unanswered.poll_next_unpin(cx) {
                match answered {
                    Answered::Now(ticket, result, asked) => this.settle(ticket, result, asked, ctx),
                    Answered::Never => {}
                    Answered::GivenUp(late) => {
                        actix_rt::spawn(late.linger());
                    }
                }
                progress = true;
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !progress || ctx.waiting() {
                return Poll::Pending;
            }
        }
    }
}
