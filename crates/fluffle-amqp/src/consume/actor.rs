//! The consumer actor: takes deliveries off its channel, hands them to the lane, and settles what comes back.
//!
//! It owns the delivery tags of one channel generation. Whatever ends it — a cancel by the broker, a closed channel, a
//! lost connection, a crash — ends in a fresh actor consuming on a fresh channel, or in a permanent error that says why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedAddr, SupervisedContext};
use tokio::sync::watch;

use crate::{
    channel::{self, Broken, ChannelActor, ChannelShared, Lease},
    class::{Class, ClientError, Operation, classify, reply},
    connection::ConnectionActor,
    consume::{
        contradictions,
        deliveries::Deliveries,
        guard::{ConsumerState, Guard},
        lane::Lane,
        quarantine::Quarantine,
        requests::Requests,
        retry::Retry,
        seen::Seen,
        spec::Guarantee,
        stats::Counters,
        subscription::Subscription,
        turn::{End, Turn},
        watchdog::{Orphans, Patience},
    },
    drain,
    pool::Place,
    publish::outbox::Outbox,
};

/// How long a consumer without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

/// What outlives every incarnation of one consumer.
pub(crate) struct Plan {
    pub(crate) queue: Arc<str>,
    pub(crate) tag: String,
    pub(crate) prefetch: u16,
    pub(crate) guarantee: Guarantee,
    pub(crate) retry: Retry,
    pub(crate) deliveries: Deliveries,
    pub(crate) delivery_limit: u32,
    pub(crate) requests: Requests,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) patience: Patience,
    pub(crate) exclusive: bool,
    pub(crate) priority: Option<i32>,
    pub(crate) guard: Arc<Guard>,
    /// Whether the broker delivers to it, on any channel.
    pub(crate) subscribed: AtomicBool,
    pub(crate) retry_queue: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) lane: Arc<Lane>,
    pub(crate) orphans: Arc<Orphans>,
    pub(crate) copies: Arc<Outbox>,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) counters: Arc<Counters>,
    /// Effectively once: what has been handled.
    pub(crate) seen: Option<Seen>,
    /// How long deliveries in flight may take to finish when the application shuts down.
    pub(crate) clock: drain::Clock,
}

impl Plan {
    /// The same consumer, in another place and with another prefetch.
    pub(crate) fn on(&self, place: &Place, prefetch: u16) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            tag: self.tag.clone(),
            prefetch,
            guarantee: self.guarantee,
            retry: self.retry.clone(),
            deliveries: self.deliveries.on(Arc::clone(&place.shared)),
            delivery_limit: self.delivery_limit,
            requests: self.requests,
            quarantine: Arc::clone(&self.quarantine),
            patience: self.patience,
            exclusive: self.exclusive,
            priority: self.priority,
            guard: Arc::clone(&self.guard),
            subscribed: AtomicBool::new(false),
            retry_queue: self.retry_queue.clone(),
            dead_letter_queue: self.dead_letter_queue.clone(),
            lane: Arc::clone(&self.lane),
            orphans: Arc::clone(&self.orphans),
            copies: Arc::clone(&self.copies),
            connection: place.connection.clone(),
            counters: Arc::clone(&self.counters),
            seen: self.seen.clone(),
            clock: self.clock.clone(),
        }
    }

    /// What the consumer of this plan is doing: its switches first, then isolation, then its subscription.
    pub(crate) fn state(&self) -> ConsumerState {
        match self.guard.state() {
            ConsumerState::Consuming if self.quarantine.is_on() => ConsumerState::Isolating,
            ConsumerState::Consuming if !self.subscribed.load(Relaxed) => ConsumerState::Unsubscribed,
            state => state,
        }
    }
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
    let clock = plan.clock.clone();
    let (gauge, capacity) = (Arc::clone(&plan.lane), usize::from(plan.prefetch));
    ActorSpec::new("consumer", factory)
        .reports_ready()
        .backoff(channel::backoff())
        .shutdown_within(move || clock.left(drain::Step::Work))
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
                Some(prefetch) if !plan.quarantine.is_on() => subscription.begin(prefetch).await,
                // When it may.
                _ => Ok(()),
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
#[error("cannot consume from queue `{queue}`: {what}{}{hint}", if hint.is_empty() { "" } else { " — " })]
struct ConsumeRefused {
    queue: Arc<str>,
    what: String,
    hint: &'static str,
}

/// The broker took the queue away from under its consumer (`basic.cancel`): deleted, or moved to another node.
#[derive(Debug, thiserror::Error)]
#[error("the broker cancelled the consumer of queue `{0}`: the queue was deleted, or is moving to another node")]
struct Cancelled(Arc<str>);

/// Not a fault: a channel that ends gives back in order what it holds.
#[derive(Debug, thiserror::Error)]
#[error("messages of queue `{0}` that may be ending the process are to be handled alone, or no longer")]
struct Isolated(Arc<str>);

/// RabbitMQ refuses the priority of a consumer for no other kind of queue: "invalid arg 'x-priority' for queue 's' in vhost '/' of
/// queue type rabbit_stream_queue".
fn is_stream(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, text)| code == 406 && text.contains("x-priority") && text.contains("stream"))
}

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
            End::Isolated => actor.park(ExitError::transient(Isolated(actor.plan.queue.clone())), ctx),
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
            hint: if is_stream(error) {
                contradictions::NO_STREAMS
            } else if missing && !ours {
                "declare it in this application's topology, or create it first"
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
struct Overlap(Arc<str>);
