//! The consumer actor: takes deliveries off its channel, hands them to the lane, and settles what comes back.
//!
//! It owns the delivery tags of one channel generation. Whatever ends it — a cancel by the broker, a closed channel, a
//! lost connection, a crash — ends in a fresh actor consuming on a fresh channel, or in a permanent error that says why.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedAddr, SupervisedContext};
use futures_util::{
    FutureExt, StreamExt,
    future::LocalBoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use lapin::{
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::watch,
    time::{interval, timeout},
};

use crate::{
    channel::{self, Broken, ChannelActor, ChannelShared, Lease},
    class::{Class, ClientError, Operation, classify, reply},
    connection::{ConnectionActor, OPERATION_TIMEOUT},
    consume::{
        failure::Failure,
        lane::{Answers, Completion, Lane, Outcome},
        received::{Received, Settled, Settling},
        retry::Retry,
        seen::{self, Known, Seen},
        settlement::{self, Arrival, Counters, Settler, count},
        spec::Guarantee,
    },
    publish::outbox::Outbox,
};

/// Deliveries and answers taken in one turn.
const BURST: usize = 64;

/// How often deliveries are checked for handlers that take too long: four times a timeout, within these bounds.
const SHORTEST_CHECK: Duration = Duration::from_millis(10);
const LONGEST_CHECK: Duration = Duration::from_secs(1);

/// How long handlers may leave waiting deliveries alone, without an answer, before that is worth a warning.
const STALLED: Duration = Duration::from_secs(10);

/// How long a consumer without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

/// What outlives every incarnation of one consumer.
pub(crate) struct Plan {
    pub(crate) queue: String,
    pub(crate) tag: String,
    pub(crate) prefetch: u16,
    pub(crate) guarantee: Guarantee,
    pub(crate) retry: Retry,
    pub(crate) handler_timeout: Duration,
    pub(crate) exclusive: bool,
    pub(crate) priority: Option<i32>,
    pub(crate) retry_queue: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) lane: Arc<Lane>,
    pub(crate) copies: Arc<Outbox>,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) counters: Arc<Counters>,
    /// Effectively once: what has been handled.
    pub(crate) seen: Option<Seen>,
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
            let deliveries = subscribe(&lease, &plan).await;
            Ok::<_, ExitError>((lease, deliveries))
        };
        ctx.spawn(subscribing.into_actor(self).map(|subscribed, actor, ctx| match subscribed {
            Ok((lease, Ok(deliveries))) => actor.consume(lease, deliveries, ctx),
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

async fn subscribe(lease: &Lease, plan: &Plan) -> Result<lapin::Consumer, lapin::Error> {
    let mut arguments = FieldTable::default();
    if let Some(priority) = plan.priority {
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
    }
    let options = BasicConsumeOptions { exclusive: plan.exclusive, ..BasicConsumeOptions::default() };
    let subscribing =
        lease.channel.basic_consume(plan.queue.as_str().into(), plan.tag.as_str().into(), options, arguments);
    match timeout(OPERATION_TIMEOUT, subscribing).await {
        Ok(result) => result,
        Err(_) => Err(lapin::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
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
    fn consume(&mut self, lease: Lease, deliveries: lapin::Consumer, ctx: &mut Context<Self>) {
        let Some(answers) = self.plan.lane.answers() else {
            return ctx.fail(ExitError::transient(Overlap(self.plan.queue.clone())));
        };
        self.plan.lane.begin(lease.generation);
        tracing::info!(queue = %self.plan.queue, generation = lease.generation, "consuming");
        let turn = Turn::new(lease.clone(), Arc::clone(&self.plan), deliveries, answers);
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
    ChannelLost(lapin::Error),
}

/// One generation of consuming.
struct Turn {
    channel: lapin::Channel,
    generation: channel::Generation,
    plan: Arc<Plan>,
    deliveries: lapin::Consumer,
    answers: Answers,
    settler: Arc<Settler>,
    /// By delivery tag: given to the lane and not answered.
    in_flight: HashMap<u64, Arc<Received>>,
    settling: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    /// Effectively once: deliveries whose message is being looked up, in order.
    looked_up: FuturesOrdered<LocalBoxFuture<'static, (Arc<Received>, Known)>>,
    /// And those whose message an earlier delivery has in hand; they have no place in the order any more.
    held_up: FuturesUnordered<LocalBoxFuture<'static, (Arc<Received>, Known)>>,
    /// When a handler last answered, or had nothing to take.
    moved: Instant,
}

impl Turn {
    fn new(lease: Lease, plan: Arc<Plan>, deliveries: lapin::Consumer, answers: Answers) -> Self {
        let settler = Arc::new(Settler {
            channel: lease.channel.clone(),
            copies: Arc::clone(&plan.copies),
            retry_queue: plan.retry_queue.clone(),
            dead_letter_queue: plan.dead_letter_queue.clone(),
            connection: plan.connection.clone(),
            counters: Arc::clone(&plan.counters),
            seen: plan.seen.clone(),
        });
        Self {
            channel: lease.channel,
            generation: lease.generation,
            plan,
            deliveries,
            answers,
            settler,
            in_flight: HashMap::new(),
            settling: FuturesUnordered::new(),
            looked_up: FuturesOrdered::new(),
            held_up: FuturesUnordered::new(),
            moved: Instant::now(),
        }
    }

    async fn run(mut self, mut draining: watch::Receiver<bool>) -> End {
        let mut answered = Vec::with_capacity(BURST);
        let mut overdue = interval(self.plan.handler_timeout.div_f64(4.0).clamp(SHORTEST_CHECK, LONGEST_CHECK));
        let mut drain_asked = false;
        loop {
            if drain_asked && self.in_flight.is_empty() && self.settling.is_empty() {
                return End::Drained;
            }
            let taking = !drain_asked && self.has_room();
            tokio::select! {
                biased;
                () = self.answers.take(&mut answered, BURST) => {
                    self.moved = Instant::now();
                    for completion in answered.drain(..) {
                        self.complete(completion);
                    }
                }
                Some(()) = self.settling.next(), if !self.settling.is_empty() => {}
                Some((received, known)) = self.looked_up.next(), if !self.looked_up.is_empty() => {
                    self.admit(received, known);
                }
                Some((received, known)) = self.held_up.next(), if !self.held_up.is_empty() => {
                    self.admit(received, known);
                }
                _ = draining.wait_for(|asked| *asked), if !drain_asked => {
                    drain_asked = true;
                    self.stop_taking().await;
                }
                _ = overdue.tick() => {
                    self.expire();
                    self.watch_handlers();
                }
                item = self.deliveries.next(), if taking => {
                    if let Some(end) = self.accept_burst(item) {
                        return end;
                    }
                }
            }
        }
    }

    /// With `AtMostOnce` the broker's prefetch counts what is acked at once, so the lane is bounded here.
    fn has_room(&self) -> bool {
        self.plan.guarantee == Guarantee::AtLeastOnce || self.plan.lane.waiting() < usize::from(self.plan.prefetch)
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
            match self.deliveries.next().now_or_never() {
                Some(next) => item = next,
                None => break,
            }
        }
        None
    }

    fn accept(&mut self, delivery: lapin::message::Delivery) {
        count(&self.plan.counters.received);
        let received = Arc::new(Received::new(&self.plan.queue, self.generation, delivery));
        match settlement::receive(&received, self.plan.guarantee, self.plan.seen.is_some()) {
            Arrival::Handle => {}
            Arrival::LookUp(key) => return self.look_up(received, key),
            Arrival::AckAndHandle => self.ack_on_receipt(received.tag),
            Arrival::AckAndDrop => {
                self.ack_on_receipt(received.tag);
                return self.drop_delivery(&received, "delivered again, and possibly handled before");
            }
            Arrival::Settle(verdict) => return self.settle(received, verdict),
        }
        self.hand_over(received);
    }

    fn hand_over(&mut self, received: Arc<Received>) {
        self.in_flight.insert(received.tag, Arc::clone(&received));
        self.plan.lane.push(received);
    }

    fn look_up(&mut self, received: Arc<Received>, key: String) {
        let Some(seen) = self.plan.seen.clone() else { return self.hand_over(received) };
        self.looked_up.push_back(Box::pin(async move { (received, seen.look_up(key).await) }));
    }

    /// Effectively once: what is known of a delivery's message decides whether it is handled.
    fn admit(&mut self, received: Arc<Received>, known: Known) {
        match (known, self.plan.seen.clone()) {
            (Known::Handled, _) => self.settle(received, settlement::Verdict::Duplicate),
            (Known::New(claim), _) => {
                let _ = received.claim.set(claim);
                self.hand_over(received);
            }
            (Known::InHand(release), Some(seen)) => self.held_up.push(Box::pin(async move {
                release.wait().await;
                let key = seen::key(&received).unwrap_or_default();
                (received, seen.look_up(key).await)
            })),
            (Known::InHand(_), None) => self.hand_over(received),
        }
    }

    fn ack_on_receipt(&self, tag: u64) {
        let channel = self.channel.clone();
        self.settling.push(Box::pin(async move {
            // There is nothing else to do about a channel that is gone: what comes again is dropped on arrival.
            let _ = channel.basic_ack(tag, BasicAckOptions::default()).await;
        }));
    }

    /// An answer from the lane: settled if it is for a delivery of this channel that still waits for one.
    fn complete(&mut self, Completion { received, outcome }: Completion) {
        if matches!(outcome, Outcome::Crashed) {
            count(&self.plan.counters.crashed);
        }
        if received.generation != self.generation {
            if matches!(outcome, Outcome::Handled(_)) {
                // At most once it was acked before: then this is all there was to do.
                let at_most_once = self.plan.guarantee == Guarantee::AtMostOnce;
                let counters = &self.plan.counters;
                count(if at_most_once { &counters.handled } else { &counters.work_done_ack_lost });
                self.remember(received);
            }
            return;
        }
        match self.in_flight.remove(&received.tag) {
            Some(received) if self.plan.guarantee == Guarantee::AtLeastOnce => {
                let verdict = settlement::decide(outcome, &received, &self.plan.retry);
                self.settle(received, verdict);
            }
            Some(received) => self.note(&received, &outcome),
            None => {
                count(&self.plan.counters.late);
                if matches!(outcome, Outcome::Handled(_)) {
                    self.remember(received);
                }
            }
        }
    }

    /// Effectively once: the work is done, though its delivery cannot be acked for it any more.
    fn remember(&mut self, received: Arc<Received>) {
        if received.claim.get().is_some() {
            let settler = Arc::clone(&self.settler);
            self.settling.push(Box::pin(async move { settler.remember(&received).await }));
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
        let (settler, received) = (Arc::clone(&self.settler), Settling(received));
        self.settling.push(Box::pin(async move { settler.settle(&received.0, verdict).await }));
    }

    /// Deliveries whose handler has had them for too long are failed attempts. Waiting for a handler does not count.
    fn expire(&mut self) {
        let limit = self.plan.handler_timeout;
        let overdue = |received: &Received| received.started.get().is_some_and(|started| started.elapsed() > limit);
        let late: Vec<_> = self.in_flight.values().filter(|one| overdue(one)).cloned().collect();
        for received in late {
            received.give_up();
            let failure = Failure::retry(format!("the handler did not answer within {limit:?}"));
            self.complete(Completion { received, outcome: Outcome::Failed(failure) });
        }
    }

    /// Says so when deliveries wait and no handler has answered for a while: a handler that blocks its thread looks
    /// like a quiet service otherwise.
    fn watch_handlers(&mut self) {
        let waiting = self.plan.lane.waiting();
        if waiting == 0 {
            self.moved = Instant::now();
        } else if self.moved.elapsed() > STALLED {
            tracing::warn!(
                queue = %self.plan.queue, waiting, in_flight = self.in_flight.len(), for_ = ?STALLED,
                "no handler of this consumer answers or takes anything: is its thread blocked? See `Consume::blocking`"
            );
            self.moved = Instant::now();
        }
    }

    /// No more deliveries: cancels the subscription and takes back what no handler has been given.
    async fn stop_taking(&mut self) {
        let cancelling = self.channel.basic_cancel(self.plan.tag.as_str().into(), BasicCancelOptions::default());
        if !matches!(timeout(OPERATION_TIMEOUT, cancelling).await, Ok(Ok(()))) {
            tracing::warn!(queue = %self.plan.queue, "basic.cancel was not answered: closing the channel will do");
        }
        // At most once they are acked already: nobody else will handle them.
        if self.plan.guarantee == Guarantee::AtLeastOnce {
            self.plan.lane.clear();
        }
        // The broker has these again when the channel closes.
        self.looked_up.clear();
        self.held_up.clear();
    }
}

/// The channel is gone: what no handler has answered yet cannot be acked any more.
impl Drop for Turn {
    fn drop(&mut self) {
        if self.plan.guarantee == Guarantee::AtLeastOnce {
            self.in_flight.values().for_each(|received| received.settle_as(Settled::Lost));
        }
    }
}
