//! The dispatcher: a future in the handler actor's own context that takes deliveries, decodes them, and calls
//! `Handler::handle` on the actor.
//!
//! Deliveries do not go through the actor's mailbox. That would cost one more hop for each message, a crash would lose
//! the messages that wait there, and it would be unknown which message the actor had in hand when it panicked.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use actix::{Actor, AsyncContext, Context, fut::ActorFuture};
use fluffle_supervise::{Panicked, SupervisedContext};
use futures_util::{
    FutureExt, StreamExt,
    future::LocalBoxFuture,
    stream::{FuturesUnordered, LocalBoxStream},
};

use crate::{
    base::failure::Failure,
    consume::{
        attempt::{
            attempt::Attempt,
            contents::Contents,
            crash::Crash,
            items::{Item, Opened},
            job::{Job, Work},
            outcome::{ItemOutcomes, Outcome},
            ticket::Ticket,
        },
        handler::{
            adapter::Adapter,
            answer::{Answered, Reply, Unanswered},
            around::Middlewares,
            calls::Calls,
            crash_log::CrashLog,
            duty::Duty,
            on_io::{OnIo, Stay},
        },
        intake::seen::Seen,
        queue::handler_queue::HandlerQueue,
    },
};

/// How many messages are handled in one turn. Then the actor's other futures, messages and timers get a turn.
const BUDGET: usize = 64;

/// On the `io` thread a turn also ends after this time, because connections, publishers and other consumers wait for
/// the same thread.
const TURN_ON_IO: Duration = Duration::from_millis(1);

/// Makes the dispatchers of one consumer's handler instances.
#[derive(Clone)]
pub(crate) struct Feeder<F> {
    pub(crate) queue: Arc<HandlerQueue>,
    pub(crate) seen: Option<Seen>,
    pub(crate) middleware: Middlewares,
    /// Makes the [`Adapter`] of one instance.
    pub(crate) adapter: F,
}

impl<D: Adapter, F: Fn() -> D> Feeder<F> {
    /// The dispatcher of one instance, which may have `concurrency` messages in hand.
    pub(crate) fn dispatch(&self, instance: usize, concurrency: usize, crash_log: Arc<CrashLog>) -> Dispatch<D> {
        Dispatch {
            queue: Arc::clone(&self.queue),
            jobs: self.queue.jobs(instance),
            adapter: Arc::new((self.adapter)()),
            seen: self.seen.clone(),
            middleware: self.middleware.clone(),
            concurrency: concurrency.max(1),
            proven: false,
            in_hand: None,
            current: None,
            looked_up: None,
            unanswered: FuturesUnordered::new(),
            stay: self.middleware.on_io.as_deref().map(OnIo::stay),
            crash_log,
        }
    }
}

/// The dispatcher of one handler instance.
pub(crate) struct Dispatch<F: Adapter> {
    queue: Arc<HandlerQueue>,
    jobs: LocalBoxStream<'static, Job>,
    adapter: Arc<F>,
    seen: Option<Seen>,
    middleware: Middlewares,
    concurrency: usize,
    /// Whether this actor has handled a message.
    proven: bool,
    /// The duty to answer for the message that the handler is handling at this moment. If the handler panics, the duty
    /// is dropped with the actor and answers "crashed", with the text of the panic.
    in_hand: Option<Duty>,
    /// The open batch whose items are being handed over.
    current: Option<Opened>,
    /// With effectively once: the batch whose items are being looked up.
    looked_up: Option<LocalBoxFuture<'static, LookedUp>>,
    unanswered: FuturesUnordered<Unanswered<F>>,
    /// If the handler runs on the `io` thread: until when.
    stay: Option<Stay>,
    crash_log: Arc<CrashLog>,
}

/// A batch, and which of its items were handled before.
type LookedUp = (Arc<Attempt>, Ticket, Vec<bool>);

impl<F: Adapter> Dispatch<F> {
    /// Takes a job: a single message goes to the handler, a batch is opened.
    fn take<A>(&mut self, Job { attempt, work }: Job, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        let ticket = match work {
            Work::Rest(rest) => return self.current = Some(rest),
            Work::Item(item) => return self.hand_over_by_key(&attempt, item, actor, ctx),
            Work::Whole(ticket) => ticket,
        };
        if !self.queue.is_ours(&attempt) {
            return;
        }
        if attempt.request.is_some_and(|request| request.is_over_in(Duration::ZERO)) {
            return ticket.answer(Outcome::Expired);
        }
        let decoded_from = self.queue.now();
        match self.adapter.open(&attempt) {
            Ok(None) => self.hand_over(attempt, ticket, decoded_from, actor, ctx),
            Ok(Some(contents)) => self.open(attempt, (contents, decoded_from), ticket, actor, ctx),
            Err(outcome) => ticket.answer(outcome),
        }
    }

    fn open<A>(
        &mut self,
        attempt: Arc<Attempt>,
        (contents, decoded_from): (Contents, Option<Instant>),
        ticket: Ticket,
        actor: &mut A,
        ctx: &mut Context<A>,
    ) where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        let items = attempt.open(contents).items.len();
        self.queue.start(&attempt, decoded_from);
        match &self.seen {
            Some(seen) if attempt.seen_key.is_some() => {
                let seen = seen.clone();
                self.looked_up = Some(Box::pin(async move {
                    let known = seen.known(&attempt, items).await;
                    (attempt, ticket, known)
                }));
            }
            _ => self.begin(attempt, ticket, actor, ctx),
        }
    }

    /// Begins a batch that is open and looked up: its items go to the handler, together or one by one.
    fn begin<A>(&mut self, attempt: Arc<Attempt>, ticket: Ticket, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        let Some(contents) = attempt.contents() else { return };
        if F::APART {
            self.current = Some(Opened::new(&attempt, contents, ticket));
        } else if contents.new_items(..).next().is_none() {
            ticket.answer(Outcome::Items(ItemOutcomes::all_handled(contents.items.len())));
        } else {
            self.hand_over(attempt, ticket, None, actor, ctx);
        }
    }

    /// Gives a whole delivery to the handler.
    fn hand_over<A>(
        &mut self,
        attempt: Arc<Attempt>,
        mut ticket: Ticket,
        decoded_from: Option<Instant>,
        actor: &mut A,
        ctx: &mut Context<A>,
    ) where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        let message = match self.adapter.whole(&attempt) {
            Ok(message) => message,
            Err(error) => return ticket.answer(Outcome::Undecodable(error)),
        };
        ticket.start();
        self.queue.start(&attempt, decoded_from);
        self.give(message, Duty::Delivery(ticket, attempt), actor, ctx);
    }

    /// Gives one item of a batch to this handler, which has the item's key.
    fn hand_over_by_key<A>(&mut self, attempt: &Arc<Attempt>, item: Item, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        if !self.queue.is_ours(attempt) {
            return;
        }
        self.queue.start(attempt, None);
        let (index, raw) = (item.index, item.raw.clone());
        let Some(ticket) = item.begin() else { return };
        match self.adapter.item(attempt, index, &raw) {
            Ok(message) => self.give(message, Duty::Item(ticket), actor, ctx),
            Err(error) => ticket.answer(Outcome::Undecodable(error)),
        }
    }

    /// Calls the handler.
    fn give<A>(&mut self, message: F::Message, duty: Duty, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        let duty = self.in_hand.insert(duty);
        let reply = match self.middleware.before(duty.attempt(), duty.index()) {
            Ok(around) => F::call(message, around, actor, ctx),
            Err(refused) => Reply::Now(refused.map(Err)),
        };
        match (reply, self.in_hand.take()) {
            (Reply::Now(Ok(answer)), Some(duty)) => self.answer(duty, answer, ctx),
            (Reply::Now(Err(crash)), Some(duty)) => duty.crashed(crash),
            (Reply::Later(answer), duty) => self.unanswered.push(Unanswered::new(duty, answer)),
            (Reply::Now(_), None) => {}
        }
    }

    /// Gives the next item of the open batch to the handler.
    fn hand_over_item<A>(&mut self, actor: &mut A, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        let ours = self.current.as_ref().is_some_and(|opened| self.queue.is_ours(&opened.items.attempt));
        let Some((opened, (index, raw))) =
            self.current.as_mut().filter(|_| ours).and_then(|opened| opened.next().map(|item| (opened, item)))
        else {
            // The batch has no more items, or its channel is lost and the broker delivers the rest again.
            return self.current = None;
        };
        let items = &opened.items;
        let message = match self.adapter.item(&items.attempt, index, &raw) {
            Ok(message) => message,
            Err(error) => return items.failed(index, Outcome::Undecodable(error)),
        };
        items.begin(index);
        let reply = match self.middleware.before(&items.attempt, Some(index)) {
            Ok(around) => F::call(message, around, actor, ctx),
            Err(refused) => Reply::Now(refused.map(Err)),
        };
        let failed = match reply {
            Reply::Now(Ok(Ok(_))) => None,
            Reply::Now(Ok(Err(failure))) => Some(Outcome::Failed(failure)),
            Reply::Now(Err(crash)) => Some(Outcome::Crashed(crash)),
            Reply::Later(answer) => {
                let duty = Some(Duty::Item(items.later(index)));
                return self.unanswered.push(Unanswered::new(duty, answer));
            }
        };
        match (items.end(), failed) {
            (true, None) => {
                opened.handled();
                self.prove(ctx);
            }
            (true, Some(outcome)) => items.failed(index, outcome),
            (false, failed) => items.late(index, failed.is_none()),
        }
    }

    fn answer<A>(&mut self, duty: Duty, answer: Result<F::Answer, Failure>, ctx: &Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        if answer.is_ok() {
            self.prove(ctx);
        }
        duty.answer(&*self.adapter, answer);
    }

    /// Reports the actor as healthy after its first handled message. So an occasional crash costs only the shortest
    /// wait before the restart, and only crashes in a row cost longer waits.
    fn prove<A>(&mut self, ctx: &Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        if !self.proven {
            self.proven = true;
            ctx.healthy();
        }
    }

    /// Whether this actor may end now without a loss: what is unanswered is answered all the same, and the next actor
    /// goes on with the rest. With a concurrency of 1, that must not begin before the last message is answered.
    fn is_idle(&self) -> bool {
        let may_go = self.concurrency > 1;
        self.looked_up.is_none() && self.unanswered.iter().all(|one| may_go && one.outlives_its_actor())
    }

    /// Hands over the next item of the open batch, or if there is none, the next job. Pending if there is neither.
    fn poll_hand_over<A>(&mut self, actor: &mut A, ctx: &mut Context<A>, cx: &mut TaskContext<'_>) -> Poll<Option<()>>
    where
        A: Actor<Context = Context<A>>,
        F: Calls<A>,
    {
        if self.current.is_some() {
            self.hand_over_item(actor, ctx);
            return Poll::Ready(Some(()));
        }
        if let Some(looked_up) = &mut self.looked_up {
            let Poll::Ready((attempt, ticket, known)) = looked_up.poll_unpin(cx) else { return Poll::Pending };
            self.looked_up = None;
            if let Some(contents) = attempt.contents() {
                contents.note_known(known);
            }
            if self.queue.is_ours(&attempt) {
                self.begin(attempt, ticket, actor, ctx);
            }
            return Poll::Ready(Some(()));
        }
        match self.jobs.poll_next_unpin(cx) {
            Poll::Ready(Some(job)) => {
                self.take(job, actor, ctx);
                Poll::Ready(Some(()))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The actor has ended.
///
/// - Its `ResponseFuture`s run outside the actor and will still answer. Their answers are waited for, because handling
///   their messages again would do the work twice.
/// - Futures in the actor's context are dropped, and with them the senders of their answers, so their messages have
///   crashed.
/// - Of an open batch, the item in hand has crashed. The next actor gets the items behind it.
impl<F: Adapter> Drop for Dispatch<F> {
    fn drop(&mut self) {
        let mut is_told = self.in_hand.is_some();
        if let Some(mut opened) = self.current.take() {
            is_told |= opened.survive();
            self.queue.go_on(opened);
        }
        let panic = Panicked::of_the_actor_being_dropped();
        if panic.is_some() && is_told {
            self.crash_log.is_logged();
        }
        if self.unanswered.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut unanswered = std::mem::take(&mut self.unanswered);
        let (adapter, actors) = (Arc::clone(&self.adapter), Crash::of_the_actor());
        if panic.is_some() {
            // By the line about a message whose answer never comes, or else by this task.
            self.crash_log.is_logged();
        }
        let crash_log = Arc::clone(&self.crash_log);
        actix_rt::spawn(async move {
            while let Some(answered) = unanswered.next().await {
                match answered {
                    Answered::Now(duty, answer) => duty.answer(&*adapter, answer),
                    Answered::Never(duty, crash) => {
                        is_told = true;
                        duty.crashed(crash.or(&actors));
                    }
                    Answered::Nothing => {}
                    Answered::GivenUp(late) => {
                        actix_rt::spawn(late.linger(Arc::clone(&adapter)));
                    }
                }
            }
            panic.iter().filter(|_| !is_told).for_each(|panic| crash_log.log(panic.message()));
        });
    }
}

impl<A, F: Adapter> ActorFuture<A> for Dispatch<F>
where
    A: Actor<Context = Context<A>>,
    F: Calls<A>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, actor: &mut A, ctx: &mut Context<A>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let leaves = this.stay.as_mut().is_some_and(|stay| stay.is_over(cx));
        let begun_on_io = this.stay.is_some().then(Instant::now);
        let mut budget = BUDGET;
        loop {
            let mut progress = false;
            while !ctx.waiting()
                && budget > 0
                && this.unanswered.len() < this.concurrency
                && (!leaves || this.looked_up.is_some())
            {
                match this.poll_hand_over(actor, ctx, cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
                budget -= 1;
                progress = true;
                if begun_on_io.is_some_and(|begun| begun.elapsed() > TURN_ON_IO) {
                    budget = 0;
                }
            }
            while let Poll::Ready(Some(answered)) = this.unanswered.poll_next_unpin(cx) {
                match answered {
                    Answered::Now(duty, answer) => this.answer(duty, answer, ctx),
                    Answered::Never(duty, crash) => duty.crashed(crash),
                    Answered::Nothing => {}
                    Answered::GivenUp(late) => {
                        actix_rt::spawn(late.linger(Arc::clone(&this.adapter)));
                    }
                }
                progress = true;
            }
            if leaves && !ctx.waiting() && this.is_idle() {
                return Poll::Ready(());
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

#[cfg(test)]
mod tests;
