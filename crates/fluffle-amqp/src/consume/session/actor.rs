//! The consumer actor: takes deliveries off its channel, hands them to the lane, and settles what comes back.
//!
//! It owns the delivery tags of one channel generation. Whatever ends it — a cancel by the broker, a closed channel, a
//! lost connection, a crash — ends in a fresh actor consuming on a fresh channel, or in a permanent error that says why.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedAddr, SupervisedContext};
use tokio::sync::watch;

use crate::{
    base::{drain, requests::Requests},
    consume::{
        intake::seen::Seen,
        message::deliveries::Deliveries,
        queue::handler_queue::HandlerQueue,
        session::{
            guard::{ConsumerState, Guard},
            quarantine::Quarantine,
            session::{End, Session},
            stats::ConsumerCounters,
            subscription::Subscription,
            watchdog::{Orphans, Patience},
        },
        spec::{consume::Guarantee, contradictions, retry::Retry},
    },
    link::{
        channel::{self, Broken, ChannelActor, ChannelShared, LeasedChannel, Retire},
        class::{Class, ClientError, Operation, classify, reply},
        connection::ConnectionActor,
        pool::PooledConnection,
    },
    publish::send_queue::SendQueue,
};

/// How long a consumer without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

/// What outlives every incarnation of one consumer.
pub(crate) struct SharedSettings {
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
    /// Whether a channel of now has or had a subscription: the broker may have delivered messages on it that are
    /// unacked.
    pub(crate) engaged: AtomicBool,
    /// Deliveries that a session which is paused has not settled yet.
    pub(crate) held: AtomicUsize,
    pub(crate) retry_queue: String,
    pub(crate) dead_letter_queue: String,
    pub(crate) handler_queue: Arc<HandlerQueue>,
    pub(crate) orphans: Arc<Orphans>,
    pub(crate) copies: Arc<SendQueue>,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    pub(crate) counters: Arc<ConsumerCounters>,
    /// Effectively once: what has been handled.
    pub(crate) seen: Option<Seen>,
    /// How long deliveries in flight may take to finish when the application shuts down.
    pub(crate) clock: drain::Clock,
}

impl SharedSettings {
    /// The same consumer, in another place and with another prefetch.
    pub(crate) fn on(&self, place: &PooledConnection, prefetch: u16) -> Self {
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
            engaged: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            retry_queue: self.retry_queue.clone(),
            dead_letter_queue: self.dead_letter_queue.clone(),
            handler_queue: Arc::clone(&self.handler_queue),
            orphans: Arc::clone(&self.orphans),
            copies: Arc::clone(&self.copies),
            connection: place.connection.clone(),
            counters: Arc::clone(&self.counters),
            seen: self.seen.clone(),
            clock: self.clock.clone(),
        }
    }

    /// What the consumer of this settings is doing: its switches first, then isolation, then its subscription.
    pub(crate) fn state(&self) -> ConsumerState {
        match self.guard.state() {
            ConsumerState::Consuming if self.quarantine.is_on() => ConsumerState::Isolating,
            ConsumerState::Consuming if !self.subscribed.load(Relaxed) => ConsumerState::Unsubscribed,
            state => state,
        }
    }
}

pub(crate) struct ConsumerActor {
    settings: Arc<SharedSettings>,
    channel: SupervisedAddr<ChannelActor>,
    shared: Arc<ChannelShared>,
    lease: Option<LeasedChannel>,
    draining: watch::Sender<bool>,
}

/// The child specification of a consumer; it lives on the channel that `channel` addresses.
pub(crate) fn spec(
    settings: &Arc<SharedSettings>,
    shared: &Arc<ChannelShared>,
    channel: &SupervisedAddr<ChannelActor>,
) -> ActorSpec<ConsumerActor> {
    let factory = {
        let (settings, shared, channel) = (Arc::clone(settings), Arc::clone(shared), channel.clone());
        move || ConsumerActor {
            settings: Arc::clone(&settings),
            channel: channel.clone(),
            shared: Arc::clone(&shared),
            lease: None,
            draining: watch::Sender::new(false),
        }
    };
    let (clock, guard, paused) = (settings.clock.clone(), Arc::clone(&settings.guard), Arc::clone(&settings.guard));
    let (gauge, capacity) = (Arc::clone(&settings.handler_queue), usize::from(settings.prefetch));
    ActorSpec::new("consumer", factory)
        .reports_ready()
        .backoff(channel::backoff())
        .shutdown_within(move || if guard.pause.is_cut_off() { Duration::ZERO } else { clock.left(drain::Step::Work) })
        .note(move || paused.pause.is_on().then(|| "paused".to_owned()))
        .mailbox_gauge(move || fluffle_supervise::MailboxDepth { waiting: gauge.waiting(), capacity })
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (settings, channel) = (Arc::clone(&self.settings), self.channel.clone());
        let subscribing = async move {
            let lease = channel::borrow(channel).await?;
            let mut subscription = Subscription::new(lease.channel.clone(), Arc::clone(&settings));
            let subscribed = match settings.guard.allows(settings.prefetch) {
                Some(prefetch) if !settings.quarantine.is_on() => subscription.begin(prefetch).await,
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

/// Its channel was closed so that what no handler had begun is in the queue again, in its place.
#[derive(Debug, thiserror::Error)]
#[error("the consumer of queue `{0}` is paused, and its channel was not opened again in time")]
struct Paused(Arc<str>);

/// RabbitMQ refuses the priority of a consumer for no other kind of queue: "invalid arg 'x-priority' for queue 's' in vhost '/' of
/// queue type rabbit_stream_queue".
fn is_stream(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, text)| code == 406 && text.contains("x-priority") && text.contains("stream"))
}

impl ConsumerActor {
    fn consume(&mut self, lease: LeasedChannel, subscription: Subscription, ctx: &mut Context<Self>) {
        let Some(answers) = self.settings.handler_queue.answers() else {
            return ctx.fail(ExitError::transient(Overlap(self.settings.queue.clone())));
        };
        self.settings.handler_queue.begin(lease.generation);
        tracing::info!(queue = %self.settings.queue, generation = lease.generation, "consuming");
        let turn = Session::new(lease.clone(), Arc::clone(&self.settings), subscription, answers);
        let running = turn.run(self.draining.subscribe());
        self.settings.guard.pause.tell(self.draining.clone());
        self.lease = Some(lease);
        ctx.spawn(running.into_actor(self).map(|end, actor, ctx| match end {
            End::Drained => {
                actor.lease = None;
                ctx.stop();
            }
            End::Cancelled => {
                actor.shared.redeclare();
                actor.park(ExitError::transient(Cancelled(actor.settings.queue.clone())), ctx);
            }
            End::Isolated => actor.park(ExitError::transient(Isolated(actor.settings.queue.clone())), ctx),
            End::Paused => actor.retire(ctx),
            End::Refused(error) => actor.refused(&error, ctx),
            End::ChannelLost(error) => actor.park(ExitError::transient(ClientError(error)), ctx),
        }));
        ctx.ready();
    }

    /// A queue that this application declares may have been deleted a moment ago: declare it again and retry. Any other
    /// that is missing, or refused, stays so until a person acts.
    fn refused(&mut self, error: &lapin::Error, ctx: &mut Context<Self>) {
        let ours = self.shared.connection.topology.get().find_queue(&self.settings.queue).is_some();
        let code = reply(error).map(|(code, _)| code);
        let missing = code == Some(404);
        let refusal = ConsumeRefused {
            queue: self.settings.queue.clone(),
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

    /// Paused, and its channel is closed: the next incarnation waits on a fresh one. Should the channel actor not take
    /// this one down, ends.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        self.lease = None;
        let retiring = self.channel.post(Retire);
        ctx.spawn(retiring.into_actor(self).map(|_, _, _| ()));
        let queue = self.settings.queue.clone();
        ctx.run_later(PARKED, move |_, ctx| ctx.fail(ExitError::transient(Paused(queue))));
    }

    /// Without a channel: tells the channel actor, which takes this actor down with itself. Should it not, ends.
    fn park(&mut self, error: ExitError, ctx: &mut Context<Self>) {
        self.lease = None;
        let telling = self.channel.post(Broken(error));
        ctx.spawn(telling.into_actor(self).map(|_, _, _| ()));
        let queue = self.settings.queue.clone();
        ctx.run_later(PARKED, move |_, ctx| ctx.fail(ExitError::transient(Cancelled(queue))));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the previous consumer of queue `{0}` has not let go yet")]
struct Overlap(Arc<str>);
