//! The handler's side: a future inside the handler actor's own context that takes deliveries, decodes them and calls
//! `Handler::handle` on the actor directly.
//!
//! Compared with sending each delivery to the actor's mailbox this saves a hop per message, keeps what waits out of a
//! crash's way, and knows which messages the actor had in hand when it panicked.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture, dev::MessageResponse, fut::ActorFuture};
use fluffle_supervise::SupervisedContext;
use futures_util::{
    FutureExt, StreamExt,
    future::LocalBoxFuture,
    stream::{FuturesUnordered, LocalBoxStream},
};
use tokio::sync::oneshot;

use crate::{
    base::failure::Failure,
    consume::{
        attempt::{
            crash::Crash,
            envelope::{Contents, Item, ItemOutcomes, ItemTicket, Opened},
        },
        handler::adapter::Adapter,
        intake::seen::{self, Seen},
        message::received::Received,
        queue::handler_queue::{HandlerQueue, Job, Outcome, Ticket, Work},
    },
};

/// Messages handled in one turn before the actor's other futures, messages and timers get theirs.
const BUDGET: usize = 64;

/// Feeds one handler instance.
pub(crate) struct Dispatch<F: Adapter> {
    handler_queue: Arc<HandlerQueue>,
    queue: LocalBoxStream<'static, Job>,
    adapter: Arc<F>,
    seen: Option<Seen>,
    concurrency: usize,
    /// This actor has handled a message.
    proven: bool,
    /// What the handler is in the middle of being given: when it panics, this is dropped with the actor, which knows why.
    in_hand: Option<Duty>,
    /// The batch whose items are handed over now.
    current: Option<Opened>,
    /// Effectively once: the batch whose items are being looked up.
    looked_up: Option<LocalBoxFuture<'static, LookedUp>>,
    unanswered: FuturesUnordered<Unanswered<F>>,
}

/// A batch, and which of its items have been handled before.
type LookedUp = (Arc<Received>, Ticket, Vec<bool>);

/// The duty to answer for a message that a handler has taken.
enum Duty {
    Delivery(Ticket, Arc<Received>),
    Item(ItemTicket),
}

impl Duty {
    fn received(&self) -> &Arc<Received> {
        match self {
            Duty::Delivery(_, received) => received,
            Duty::Item(item) => item.received(),
        }
    }

    fn poll_given_up(&self, cx: &TaskContext<'_>) -> bool {
        match self {
            Duty::Delivery(_, received) => received.poll_given_up(cx),
            Duty::Item(item) => item.poll_given_up(cx),
        }
    }

    fn answer<F: Adapter>(self, adapter: &F, answer: Result<F::Answer, Failure>) {
        let outcome = adapter.outcome(self.received(), answer);
        match self {
            Duty::Delivery(ticket, _) => ticket.answer(outcome),
            Duty::Item(item) => item.answer(outcome),
        }
    }

    fn crashed(self, crash: Crash) {
        match self {
            Duty::Delivery(ticket, _) => ticket.answer(Outcome::Crashed(crash)),
            Duty::Item(item) => item.answer(Outcome::Crashed(crash)),
        }
    }
}

/// A handler that has taken a message and not answered yet.
struct Unanswered<F: Adapter> {
    duty: Option<Duty>,
    answer: Answer<F>,
}

/// An answer to come.
enum Answer<F: Adapter> {
    /// By way of actix.
    Actix(oneshot::Receiver<Result<F::Answer, Failure>>),
    /// Of a future that runs apart from the actor; or how it crashed.
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
            // An answer that will never come: the future was dropped, or panicked.
            (Err(crash), Some(duty)) => Answered::Never(duty, crash),
            (_, None) => Answered::Nothing,
        })
    }
}

/// What came of waiting for a handler's answer.
enum Answered<F: Adapter> {
    Now(Duty, Result<F::Answer, Failure>),
    Never(Duty, Crash),
    /// Its duty was given away before.
    Nothing,
    /// It took too long: settled already, and only to be counted when it comes.
    GivenUp(Unanswered<F>),
}

impl<F: Adapter> Unanswered<F> {
    fn give_away(&mut self) -> Self {
        let (_, nothing) = oneshot::channel();
        let answer = std::mem::replace(&mut self.answer, Answer::Actix(nothing));
        Self { duty: self.duty.take(), answer }
    }

    /// Waits for the late answer apart from the handler's concurrency.
    async fn linger(mut self, adapter: Arc<F>) {
        if let Some(Duty::Item(item)) = &mut self.duty {
            item.free_key();
        }
        match ((&mut self.answer).await, self.duty.take()) {
            (Ok(answer), Some(duty)) => duty.answer(&*adapter, answer),
            (Err(crash), Some(duty)) => duty.crashed(crash),
            (_, None) => {}
        }
    }
}

impl<F: Adapter> Dispatch<F> {
    pub(crate) fn new(
        handler_queue: Arc<HandlerQueue>,
        instance: usize,
        adapter: Arc<F>,
        seen: Option<Seen>,
        concurrency: usize,
    ) -> Self {
        let (queue, unanswered) = (handler_queue.queue(instance), FuturesUnordered::new());
        let concurrency = concurrency.max(1);
        Self {
            handler_queue,
            queue,
            adapter,
            seen,
            concurrency,
            proven: false,
            in_hand: None,
            current: None,
            looked_up: None,
            unanswered,
        }
    }

    /// Takes a delivery: a message by itself goes to the handler, a batch is opened.
    fn take<A>(&mut self, job: Job, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        let Job { received, work } = job;
        let ticket = match work {
            Work::Rest(rest) => return self.current = Some(rest),
            Work::Item(item) => return self.hand_over_by_key(&received, item, actor, ctx),
            Work::Whole(ticket) => ticket,
        };
        if !self.handler_queue.is_ours(&received) {
            return;
        }
        if received.request.is_some_and(|request| request.is_over_in(Duration::ZERO)) {
            return ticket.answer(Outcome::Expired);
        }
        match self.adapter.open(&received) {
            Ok(None) => self.hand_over(received, ticket, actor, ctx),
            Ok(Some(contents)) => self.open(received, contents, ticket, actor, ctx),
            Err(outcome) => ticket.answer(outcome),
        }
    }

    fn open<A>(
        &mut self,
        received: Arc<Received>,
        contents: Contents,
        ticket: Ticket,
        actor: &mut A,
        ctx: &mut Context<A>,
    ) where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        let items = received.open(contents).items.len();
        received.started.get_or_init(Instant::now);
        match &self.seen {
            Some(seen) if received.claim.get().is_some() => {
                let seen = seen.clone();
                self.looked_up = Some(Box::pin(async move {
                    let keys = seen::item_keys(&received, 0..items);
                    let known = seen.known(&keys).await;
                    (received, ticket, known)
                }));
            }
            _ => self.begin(received, ticket, actor, ctx),
        }
    }

    /// The items are known: they go to the handler, together or one by one.
    fn begin<A>(&mut self, received: Arc<Received>, ticket: Ticket, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        let Some(contents) = received.contents.get() else { return };
        if F::APART {
            self.current = Some(Opened::new(&received, contents, ticket));
        } else if contents.new_items(..).next().is_none() {
            ticket.answer(Outcome::Items(ItemOutcomes { until: contents.items.len(), failed: Vec::new() }));
        } else {
            self.hand_over(received, ticket, actor, ctx);
        }
    }

    /// All of a delivery goes to the handler.
    fn hand_over<A>(&mut self, received: Arc<Received>, mut ticket: Ticket, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        let message = match self.adapter.whole(&received) {
            Ok(message) => message,
            Err(error) => return ticket.answer(Outcome::Undecodable(error)),
        };
        ticket.start();
        received.started.get_or_init(Instant::now);
        self.give(message, Duty::Delivery(ticket, received), actor, ctx);
    }

    /// The handler takes a message.
    fn give<A>(&mut self, message: F::Message, duty: Duty, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        self.in_hand = Some(duty);
        let reply = handle::<F, A>(message, actor, ctx);
        match (reply, self.in_hand.take()) {
            (Reply::Now(answer), Some(duty)) => self.settle(duty, answer, ctx),
            (Reply::Later(answer), duty) => self.unanswered.push(Unanswered { duty, answer }),
            (Reply::Now(_), None) => {}
        }
    }

    /// The next item of the batch that is open goes to the handler.
    fn hand_over_item<A>(&mut self, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        let ours = self.current.as_ref().is_some_and(|opened| self.handler_queue.is_ours(&opened.envelope.received));
        let Some((opened, (index, raw))) =
            self.current.as_mut().filter(|_| ours).and_then(|opened| opened.next().map(|item| (opened, item)))
        else {
            // At its end; or what is left is the broker's again.
            return self.current = None;
        };
        let envelope = &opened.envelope;
        let message = match self.adapter.item(&envelope.received, index, &raw) {
            Ok(message) => message,
            Err(error) => return envelope.failed(index, Outcome::Undecodable(error)),
        };
        envelope.begin(index);
        let answer = match handle::<F, A>(message, actor, ctx) {
            Reply::Now(answer) => answer,
            Reply::Later(answer) => {
                let duty = Some(Duty::Item(envelope.later(index, &self.handler_queue)));
                return self.unanswered.push(Unanswered { duty, answer });
            }
        };
        match (envelope.end(), answer) {
            (true, Ok(_)) => {
                opened.handled();
                self.prove(ctx);
            }
            (true, Err(failure)) => envelope.failed(index, Outcome::Failed(failure)),
            (false, late) => self.handler_queue.late(&envelope.received, index, late.is_ok()),
        }
    }

    /// An item goes to the handler that has its key.
    fn hand_over_by_key<A>(&mut self, received: &Arc<Received>, item: Item, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        if !self.handler_queue.is_ours(received) {
            return;
        }
        let (index, raw) = (item.index, item.raw.clone());
        let Some(ticket) = item.begin(&self.handler_queue) else { return };
        let message = match self.adapter.item(received, index, &raw) {
            Ok(message) => message,
            Err(error) => return ticket.answer(Outcome::Undecodable(error)),
        };
        self.give(message, Duty::Item(ticket), actor, ctx);
    }

    fn settle<A>(&mut self, duty: Duty, answer: Result<F::Answer, Failure>, ctx: &Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        if answer.is_ok() {
            self.prove(ctx);
        }
        duty.answer(&*self.adapter, answer);
    }

    /// A handled message proves the actor healthy: a crash now and then costs the shortest wait, only crashes in a row
    /// wait longer.
    fn prove<A>(&mut self, ctx: &Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        if !self.proven {
            self.proven = true;
            ctx.healthy();
        }
    }

    /// Something to hand over: what is open, else what comes next. Pending when there is nothing.
    fn poll_hand_over<A>(&mut self, actor: &mut A, ctx: &mut Context<A>, cx: &mut TaskContext<'_>) -> Poll<Option<()>>
    where
        A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
    {
        if self.current.is_some() {
            self.hand_over_item(actor, ctx);
            return Poll::Ready(Some(()));
        }
        if let Some(looked_up) = &mut self.looked_up {
            let Poll::Ready((received, ticket, known)) = looked_up.poll_unpin(cx) else { return Poll::Pending };
            self.looked_up = None;
            if let Some(contents) = received.contents.get().filter(|_| known.contains(&true)) {
                let _ = contents.known.set(known);
            }
            if self.handler_queue.is_ours(&received) {
                self.begin(received, ticket, actor, ctx);
            }
            return Poll::Ready(Some(()));
        }
        match self.queue.poll_next_unpin(cx) {
            Poll::Ready(Some(job)) => {
                self.take(job, actor, ctx);
                Poll::Ready(Some(()))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A handler's answer, there or to come.
enum Reply<F: Adapter> {
    Now(Result<F::Answer, Failure>),
    Later(Answer<F>),
}

fn handle<F, A>(message: F::Message, actor: &mut A, ctx: &mut Context<A>) -> Reply<F>
where
    F: Adapter,
    A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
{
    let mut response = Some(actor.handle(message, ctx));
    // A plain result is the answer itself: it takes no channel.
    let plain = (&mut response as &mut dyn Any).downcast_mut::<Option<Result<F::Answer, Failure>>>();
    if let Some(answer) = plain.and_then(Option::take) {
        return Reply::Now(answer);
    }
    // As actix would: apart from the actor. But that would lose what a panic says.
    let apart = (&mut response as &mut dyn Any).downcast_mut::<Option<ResponseFuture<Result<F::Answer, Failure>>>>();
    if let Some(future) = apart.and_then(Option::take) {
        let (reply, answer) = oneshot::channel();
        actix_rt::spawn(async move {
            let answer = AssertUnwindSafe(future).catch_unwind().await;
            // Fails if nobody waits any more.
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

/// The actor has ended. Its `ResponseFuture`s live on apart from it and will answer: they are waited for, for handling
/// their messages again would do the work twice. What lived in the actor's context is gone with it, and so is the
/// sending end of its answer: those tickets say "crashed". Of a batch, the item in hand is charged; what comes after it is the
/// next actor's.
impl<F: Adapter> Drop for Dispatch<F> {
    fn drop(&mut self) {
        if let Some(mut opened) = self.current.take() {
            opened.survive();
            self.handler_queue.go_on(opened);
        }
        if self.unanswered.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut unanswered = std::mem::take(&mut self.unanswered);
        let (adapter, actors) = (Arc::clone(&self.adapter), Crash::of_the_actor());
        actix_rt::spawn(async move {
            while let Some(answered) = unanswered.next().await {
                match answered {
                    Answered::Now(duty, answer) => duty.answer(&*adapter, answer),
                    Answered::Never(duty, crash) => duty.crashed(crash.or(&actors)),
                    Answered::Nothing => {}
                    Answered::GivenUp(late) => {
                        actix_rt::spawn(late.linger(Arc::clone(&adapter)));
                    }
                }
            }
        });
    }
}

impl<A, F: Adapter> ActorFuture<A> for Dispatch<F>
where
    A: Actor<Context = Context<A>> + Handler<F::Message, Result: 'static>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut budget = BUDGET;
        loop {
            let mut progress = false;
            while !ctx.waiting() && budget > 0 && this.unanswered.len() < this.concurrency {
                match this.poll_hand_over(actor, ctx, cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
                budget -= 1;
                progress = true;
            }
            while let Poll::Ready(Some(answered)) = this.unanswered.poll_next_unpin(cx) {
                match answered {
                    Answered::Now(duty, answer) => this.settle(duty, answer, ctx),
                    Answered::Never(duty, crash) => duty.crashed(crash),
                    Answered::Nothing => {}
                    Answered::GivenUp(late) => {
                        actix_rt::spawn(late.linger(Arc::clone(&this.adapter)));
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
