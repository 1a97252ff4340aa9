//! The consumer actor: takes deliveries off its channel, hands them to the lane, and settles what comes back.
//!
//! It owns the delivery tags of one channel generation. Whatever ends it — a cancel by the broker, a closed channel, a
//! lost connection, a crash — ends in a fresh actor consuming on a fresh channel, or in a permanent error that says why.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedAddr, SupervisedContext};
use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use lapin::options::BasicAckOptions;
use tokio::{sync::watch, time::interval};

use crate::{
    channel::{self, Broken, ChannelActor, ChannelShared, Lease},
    class::{Class, ClientError, Operation, classify, reply},
    connection::ConnectionActor,
    consume::{
        failure::Failure,
        guard::{Guard, Watch},
        lane::{Answers, Completion, Lane, Outcome},
        received::Received,
        retry::Retry,
        settlement::{self, Arrival, Counters, Settler, count},
        spec::Guarantee,
        subscription::Subscription,
        watchdog::{Due, Orphans, Patience, Watchdog},
    },
    publish::outbox::Outbox,
};

/// Deliveries and answers taken in one turn.
const BURST: usize = 64;

/// How long a consumer without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

/// What outlives every incarnation of one consumer.
pub(crate) struct Plan {
    pub(crate) queue: String,
    pub(crate) tag: String,
    pub(crate) prefetch: u16,
    pub(crate) guarantee: Guarantee,
    pub(crate) retry: Retry,
    pub(crate) patience: Patience,
    pub(crate) exclusive: bool,
    pub(crate) priority: Option<i32>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) retry_queue: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) lane: Arc<Lane>,
    pub(crate) orphans: Orphans,
    pub(crate) copies: Arc<Outbox>,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) counters: Arc<Counters>,
    /// How long deliveries in flight may take to finish when the application shuts down.
    pub(crate) drain: Duration,
}

pub(crate) struct ConsumerActor {
    plan: Arc<Plan>,
    channel: SupervisedAddr<ChannelActor>,
    shared: Arc<ChannelShared>,
    lease: Option<Lease>,
    draining: watch::Sender<bool>,
}

/// The child specification of a consumer; it lives on the channel that `channel` addresses.
pub(crate) fn spec(
    plan: &Arc<Plan>,
    shared: &Arc<ChannelShared>,
    channel: &SupervisedAddr<ChannelActor>,
) -> ActorSpec<ConsumerActor> {
    let factory = {
        let (plan, shared, channel) = (Arc::clone(plan), Arc::clone(shared), channel.clone());
        move || ConsumerActor {
            plan: Arc::clone(&plan),
            channel: channel.clone(),
            shared: Arc::clone(&shared),
            lease: None,
            draining: watch::Sender::new(false),
        }
    };
    let (gauge, capacity) = (Arc::clone(&plan.lane), usize::from(plan.prefetch));
    ActorSpec::new("consumer", factory)
        .reports_ready()
        .backoff(channel::backoff())
        .shutdown(plan.drain + Duration::from_secs(1))
        .mailbox_gauge(move || fluffle_supervise::MailboxDepth { waiting: gauge.waiting(), capacity })
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (plan, channel) = (Arc::clone(&self.plan), self.channel.clone());
        let subscribing = async move {
            let lease = channel::borrow(channel).await?;
            let mut subscription = Subscription::new(lease.channel.clone(), Arc::clone(&plan));
            let subscribed = match plan.guard.allows(plan.prefetch) {
                Some(prefetch) => subscription.begin(prefetch).await,
                None => Ok(()),
            };
            Ok::<_, ExitError>((lease, subscribed.map(|()| subscription)))
        };
        ctx.spawn(subscribing.into_actor(self).map(|subscribed, actor, ctx| match subscribed {
            Ok((lease, Ok(subscription))) => actor.consume(lease, subscription, ctx),
            Ok((_, Err(error))) => actor.refused(&error, ctx),
            Err(error) => ctx.fail(error),
        }));
    }

    /// With a channel that still works: stops taking, lets what is in flight finish and settles it, then stops.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        let usable = self.lease.as_ref().is_some_and(|lease| lease.channel.status().connected());
        if usable && !*self.draining.borrow() {
            self.draining.send_replace(true);
            Running::Continue
        } else {
            Running::Stop
        }
    }
}

/// The broker refused `basic.consume`.
#[derive(Debug, thiserror::Error)]
#[error("cannot consume from queue `{queue}`: {what}{hint}")]
struct ConsumeRefused {
    queue: String,
    what: String,
    hint: &'static str,
}

/// The broker took the queue away from under its consumer (`basic.cancel`): deleted, or moved to another node.
#[derive(Debug, thiserror::Error)]
#[error("the broker cancelled the consumer of queue `{0}`: the queue was deleted, or is moving to another node")]
struct Cancelled(String);

impl ConsumerActor {
    fn consume(&mut self, lease: Lease, subscription: Subscription, ctx: &mut Context<Self>) {
        let Some(answers) = self.plan.lane.answers() else {
            return ctx.fail(ExitError::transient(Overlap(self.plan.queue.clone())));
        };
        self.plan.lane.begin(lease.generation);
        tracing::info!(queue = %self.plan.queue, generation = lease.generation, "consuming");
        let turn = Turn::new(lease.clone(), Arc::clone(&self.plan), subscription, answers);
        let running = turn.run(self.draining.subscribe());
        self.lease = Some(lease);
        ctx.spawn(running.into_actor(self).map(|end, actor, ctx| match end {
            End::Drained => {
                actor.lease = None;
                ctx.stop();
            }
            End::Cancelled => {
                actor.shared.redeclare();
                actor.park(ExitError::transient(Cancelled(actor.plan.queue.clone())), ctx);
            }
            End::Refused(error) => actor.refused(&error, ctx),
            End::ChannelLost(error) => actor.park(ExitError::transient(ClientError(error)), ctx),
        }));
        ctx.ready();
    }

    /// A queue that this application declares may have been deleted a moment ago: declare it again and retry. Any other
    /// that is missing, or refused, stays so until a person acts.
    fn refused(&mut self, error: &lapin::Error, ctx: &mut Context<Self>) {
        let ours = self.shared.connection.topology.get().find_queue(&self.plan.queue).is_some();
        let code = reply(error).map(|(code, _)| code);
        let missing = code == Some(404);
        let refusal = ConsumeRefused {
            queue: self.plan.queue.clone(),
            what: reply(error).map_or_else(|| error.to_string(), |(_, text)| text),
            hint: if missing && !ours {
                " — declare it in this application's topology, or create it first"
            } else {
                ""
            },
        };
        if missing && ours {
            self.shared.redeclare();
            self.park(ExitError::transient(refusal), ctx);
        } else if classify(error, Operation::Consume) == Class::Permanent {
            ctx.fail(ExitError::permanent(refusal));
        } else {
            self.park(ExitError::transient(refusal), ctx);
        }
    }

    /// Without a channel: tells the channel actor, which takes this actor down with itself. Should it not, ends.
    fn park(&mut self, error: ExitError, ctx: &mut Context<Self>) {
        self.lease = None;
        let telling = self.channel.post(Broken(error));
        ctx.spawn(telling.into_actor(self).map(|_, _, _| ()));
        let queue = self.plan.queue.clone();
        ctx.run_later(PARKED, move |_, ctx| ctx.fail(ExitError::transient(Cancelled(queue))));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the previous consumer of queue `{0}` has not let go yet")]
struct Overlap(String);

enum End {
    Drained,
    Cancelled,
    /// It could not consume again after its guard had stopped it.
    Refused(lapin::Error),
    ChannelLost(lapin::Error),
}

/// One generation of consuming.
struct Turn {
    channel: lapin::Channel,
    generation: channel::Generation,
    plan: Arc<Plan>,
    subscription: Subscription,
    watch: Watch,
    /// The last delivery tag seen; they count up.
    last_tag: u64,
    answers: Answers,
    settler: Arc<Settler>,
    /// By delivery tag: given to the lane and not answered.
    in_flight: HashMap<u64, Arc<Received>>,
    settling: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    watchdog: Watchdog,
}

impl Turn {
    fn new(lease: Lease, plan: Arc<Plan>, subscription: Subscription, answers: Answers) -> Self {
        let settler = Arc::new(Settler {
            channel: lease.channel.clone(),
            copies: Arc::clone(&plan.copies),
            retry_queue: plan.retry_queue.clone(),
            dead_letter_queue: plan.dead_letter_queue.clone(),
            connection: plan.connection.clone(),
            counters: Arc::clone(&plan.counters),
        });
        let watchdog = Watchdog::new(plan.patience);
        Self {
            channel: lease.channel,
            generation: lease.generation,
            watch: Watch::new(&plan.guard),
            plan,
            subscription,
            last_tag: 0,
            answers,
            settler,
            in_flight: HashMap::new(),
            settling: FuturesUnordered::new(),
            watchdog,
        }
    }

    async fn run(mut self, mut draining: watch::Receiver<bool>) -> End {
        let mut answered = Vec::with_capacity(BURST);
        let mut overdue = interval(self.plan.patience.check_every());
        let mut drain_asked = false;
        loop {
            if drain_asked && self.in_flight.is_empty() && self.settling.is_empty() {
                return End::Drained;
            }
            if !drain_asked && let Some(end) = self.follow_guard().await {
                return end;
            }
            let taking = !drain_asked && self.has_room();
            tokio::select! {
                biased;
                () = self.answers.take(&mut answered, BURST) => {
                    self.watchdog.moved();
                    for completion in answered.drain(..) {
                        self.complete(completion);
                    }
                }
                Some(()) = self.settling.next(), if !self.settling.is_empty() => {}
                _ = draining.wait_for(|asked| *asked), if !drain_asked => {
                    drain_asked = true;
                    self.stop_taking().await;
                }
                _ = overdue.tick() => {
                    self.expire();
                    self.watchdog.look_at_handlers(&self.plan.queue, &self.plan.lane, self.in_flight.len());
                }
                () = self.watch.changed(), if self.watch.is_on() && !drain_asked => {}
                item = self.subscription.next(), if taking => {
                    if let Some(end) = self.accept_burst(item) {
                        return end;
                    }
                }
            }
        }
    }

    /// With `AtMostOnce` the broker's prefetch counts what is acked at once, so the lane is bounded here; and so are the
    /// probes of a half-open circuit breaker.
    fn has_room(&self) -> bool {
        match (self.plan.guarantee, self.subscription.prefetch()) {
            (Guarantee::AtLeastOnce, _) | (_, None) => true,
            (Guarantee::AtMostOnce, Some(all)) if all == self.plan.prefetch => {
                self.plan.lane.waiting() < usize::from(all)
            }
            (Guarantee::AtMostOnce, Some(probes)) => self.in_flight.len() < usize::from(probes),
        }
    }

    /// Consumes, stops, or takes a few to probe, as circuit breaker and kill switch have it. Stopping leaves nothing behind
    /// that another consumer of the queue could handle: what no handler has begun goes back. What one has, it finishes.
    async fn follow_guard(&mut self) -> Option<End> {
        let allowed = self.plan.guard.allows(self.plan.prefetch);
        if allowed == self.subscription.prefetch() {
            self.watch.look(self.last_tag + 1);
            return None;
        }
        match self.subscription.end().await {
            Ok(left) => self.give_back(left),
            Err(error) => return Some(End::ChannelLost(error)),
        }
        self.watch.look(self.last_tag + 1);
        tracing::info!(queue = %self.plan.queue, state = ?self.plan.guard.state(), prefetch = ?allowed, "consuming changes");
        match allowed {
            Some(prefetch) => self.subscription.begin(prefetch).await.err().map(End::Refused),
            None => None,
        }
    }

    /// What was delivered and no handler has begun. At most once, what waits is acked already, and what would go back would
    /// be refused as delivered again: all of it is handled.
    fn give_back(&mut self, left: Vec<lapin::message::Delivery>) {
        if self.plan.guarantee == Guarantee::AtMostOnce {
            return left.into_iter().for_each(|delivery| self.accept(delivery));
        }
        self.plan.lane.clear();
        for delivery in left {
            let received = self.receive(delivery);
            let tag = received.tag;
            self.in_flight.insert(tag, received);
            self.complete(Completion { generation: self.generation, tag, outcome: Outcome::NotStarted });
        }
    }

    /// Takes what has arrived, up to a burst; gives the end if that has arrived too.
    fn accept_burst(&mut self, first: Option<lapin::Result<lapin::message::Delivery>>) -> Option<End> {
        let mut item = first;
        for taken in 1.. {
            match item {
                Some(Ok(delivery)) => self.accept(delivery),
                Some(Err(error)) => return Some(End::ChannelLost(error)),
                None => return Some(End::Cancelled),
            }
            if taken == BURST || !self.has_room() {
                break;
            }
            match self.subscription.next().now_or_never() {
                Some(next) => item = next,
                None => break,
            }
        }
        None
    }

    fn receive(&mut self, delivery: lapin::message::Delivery) -> Arc<Received> {
        count(&self.plan.counters.received);
        self.last_tag = delivery.delivery_tag;
        Arc::new(Received::new(&self.plan.queue, self.generation, delivery))
    }

    fn accept(&mut self, delivery: lapin::message::Delivery) {
        let received = self.receive(delivery);
        match settlement::receive(&received, self.plan.guarantee) {
            Arrival::Handle => {}
            Arrival::AckAndHandle => self.ack_on_receipt(received.tag),
            Arrival::AckAndDrop => {
                self.ack_on_receipt(received.tag);
                return self.drop_delivery(&received, "delivered again, and possibly handled before");
            }
            Arrival::Settle(verdict) => return self.settle(received, verdict),
        }
        self.in_flight.insert(received.tag, Arc::clone(&received));
        self.plan.lane.push(received);
    }

    fn ack_on_receipt(&self, tag: u64) {
        let channel = self.channel.clone();
        self.settling.push(Box::pin(async move {
            // There is nothing else to do about a channel that is gone: what comes again is dropped on arrival.
            let _ = channel.basic_ack(tag, BasicAckOptions::default()).await;
        }));
    }

    /// An answer from the lane: settled if it is for a delivery of this channel that still waits for one.
    fn complete(&mut self, Completion { generation, tag, outcome }: Completion) {
        if matches!(outcome, Outcome::Crashed) {
            count(&self.plan.counters.crashed);
        }
        if generation != self.generation {
            self.plan.orphans.remove(generation, tag);
            if matches!(outcome, Outcome::Handled(_)) {
                // At most once it was acked before: then this is all there was to do.
                let at_most_once = self.plan.guarantee == Guarantee::AtMostOnce;
                let counters = &self.plan.counters;
                count(if at_most_once { &counters.handled } else { &counters.work_done_ack_lost });
            }
            return;
        }
        let taken = self.in_flight.remove(&tag);
        if taken.is_some() {
            self.watch.answered(tag, &outcome);
        }
        match taken {
            Some(received) if self.plan.guarantee == Guarantee::AtLeastOnce => {
                let verdict = settlement::decide(outcome, &received, &self.plan.retry);
                self.settle(received, verdict);
            }
            Some(received) => self.note(&received, &outcome),
            None => count(&self.plan.counters.late),
        }
    }

    /// `AtMostOnce`: it is acked already, so a failure can only be told.
    fn note(&self, received: &Received, outcome: &Outcome) {
        match outcome {
            Outcome::Handled(_) => count(&self.plan.counters.handled),
            other => self.drop_delivery(received, &format!("{other:?}")),
        }
    }

    /// `AtMostOnce`: not handled, and it will not come again.
    fn drop_delivery(&self, received: &Received, why: &str) {
        count(&self.plan.counters.dropped);
        tracing::error!(
            queue = %received.queue, message_id = received.message_id().unwrap_or("-"), why,
            "not handled, and at most once: dropped"
        );
    }

    fn settle(&mut self, received: Arc<Received>, verdict: settlement::Verdict) {
        self.watch.settled(received.tag, &verdict);
        let settler = Arc::clone(&self.settler);
        self.settling.push(Box::pin(async move {
            settler.settle(&received, verdict).await;
            received.release();
        }));
    }

    /// Deliveries whose handler has had them for too long are failed attempts; those that waited for one for too long go
    /// back to the queue, where another consumer may have time for them.
    fn expire(&mut self) {
        self.plan.orphans.expire(self.plan.patience.handler_timeout);
        for (tag, due) in self.watchdog.look(&self.in_flight) {
            if due == Due::GiveBack {
                self.plan.lane.take_back(self.generation, tag);
                continue;
            }
            if let Some(received) = self.in_flight.get(&tag) {
                received.give_up();
            }
            let limit = self.plan.patience.handler_timeout;
            let failure = Failure::retry(format!("the handler did not answer within {limit:?}"));
            self.complete(Completion { generation: self.generation, tag, outcome: Outcome::Failed(failure) });
        }
    }

    /// No more deliveries: cancels the subscription and takes back what no handler has been given.
    async fn stop_taking(&mut self) {
        let left = self.subscription.end().await.unwrap_or_else(|error| {
            tracing::warn!(queue = %self.plan.queue, %error, "basic.cancel did not work: closing the channel will do");
            Vec::new()
        });
        // At most once what waits is acked already: nobody else will handle it.
        if self.plan.guarantee == Guarantee::AtLeastOnce {
            self.give_back(left);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.plan.orphans.add(self.in_flight.drain().map(|(_, received)| received));
    }
}
