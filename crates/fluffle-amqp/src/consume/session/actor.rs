//! The consumer actor: borrows a channel, subscribes to the queue, and runs one [`Session`] on that channel.
//!
//! The actor never outlives its channel, because delivery tags are valid on that channel only. If the broker cancels
//! the consumer, the channel closes, the connection is lost, or the actor crashes, the supervisor starts a new actor on
//! a new channel. Only a permanent error ends the consumer; its text says why.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedAddr, SupervisedContext};
use tokio::sync::watch;

use crate::{
    base::drain,
    consume::{
        session::{
            end::End,
            session::Session,
            settings::SharedSettings,
            subscription::{Subscribe, Subscription},
        },
        spec::contradictions::{self, STREAMS_ONLY},
    },
    link::{
        channel::{self, ChannelActor, ChannelShared, Generation, LeasedChannel},
        class::{Class, ClientError, Operation, classify, reply},
        sanitizer::Peer,
    },
};

pub(crate) struct ConsumerActor {
    settings: Arc<SharedSettings>,
    channel: SupervisedAddr<ChannelActor>,
    shared: Arc<ChannelShared>,
    lease: Option<LeasedChannel>,
    draining: watch::Sender<bool>,
}

/// The child specification of a consumer on the channel that `channel` addresses.
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
    let on = Arc::clone(&shared.connection);
    ActorSpec::new("consumer", factory)
        .reports_ready()
        .logs_exits(move |_| !on.connected())
        .backoff(channel::backoff())
        .shutdown_within(move || if guard.pause.is_cut_off() { Duration::ZERO } else { clock.left(drain::Step::Work) })
        .note(move || paused.pause.is_on().then(|| "paused".to_owned()))
        .mailbox_gauge(move || fluffle_supervise::MailboxDepth { waiting: gauge.len(), capacity })
}

impl Actor for ConsumerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (settings, channel) = (Arc::clone(&self.settings), self.channel.clone());
        let subscribing = async move {
            let lease = channel::borrow(channel).await?;
            check_filter(&settings)?;
            let mut subscription = Subscription::new(lease.channel.clone(), Arc::clone(&settings));
            let subscribed = match settings.guard.allows(settings.prefetch) {
                Some(prefetch) if !settings.quarantine.is_on() => subscription.begin(prefetch).await,
                // The session subscribes later: when the switches allow it, or when it may isolate a suspect message.
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

    /// If the channel still works, the session first stops taking deliveries and settles those in flight.
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

/// The broker cancelled the consumer (`basic.cancel`), because the queue was deleted or moves to another node.
#[derive(Debug, thiserror::Error)]
#[error("the broker cancelled the consumer of queue `{0}`: the queue was deleted, or is moving to another node")]
struct Cancelled(Arc<str>);

/// Not a fault. The session closed its channel on purpose, because that returns unacked messages to the queue in order.
#[derive(Debug, thiserror::Error)]
#[error(
    "the consumer of queue `{0}` closed its channel to begin or end handling messages one at a time: a message that is \
     delivered again and again may be ending the process"
)]
struct Isolated(Arc<str>);

/// Not a fault: a paused session has closed its channel, and the next one waits on a fresh channel.
#[derive(Debug, thiserror::Error)]
#[error("the consumer of queue `{0}` is paused, and its channel's actor did not end to open a fresh channel")]
struct Paused(Arc<str>);

/// The broker is too old for the filter of a reader.
#[derive(Debug, thiserror::Error)]
#[error(
    "the reader `{queue}` has a filter (`StreamReader::filter`), which RabbitMQ has since version 3.13, and this is \
     {broker}: remove the filter, or update the broker"
)]
struct NoFilters {
    queue: Arc<str>,
    broker: Peer,
}

fn check_filter(settings: &SharedSettings) -> Result<(), ExitError> {
    let has_filter = settings.reader.as_ref().is_some_and(|reader| reader.spec.filter.is_some());
    match settings.deliveries.peer() {
        Some(broker) if has_filter && broker.is_rabbitmq_before(3, 13) => {
            Err(ExitError::permanent(NoFilters { queue: settings.queue.clone(), broker }))
        }
        _ => Ok(()),
    }
}

/// The queue has delivered a message without an offset.
#[derive(Debug, thiserror::Error)]
#[error("queue `{0}` is no stream, because its messages have no offset (`x-stream-offset`) — {STREAMS_ONLY}")]
struct NotAStream(String);

/// RabbitMQ refuses the priority of a consumer for no other kind of queue: "invalid arg 'x-priority' for queue 's' in
/// vhost '/' of queue type rabbit_stream_queue".
fn is_stream(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, text)| code == 406 && text.contains("x-priority") && text.contains("stream"))
}

/// RabbitMQ takes an offset for no other kind of queue: "invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of
/// queue type rabbit_classic_queue".
fn is_no_stream(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, text)| code == 406 && text.contains("x-stream-offset"))
}

impl ConsumerActor {
    fn consume(&mut self, lease: LeasedChannel, subscription: Subscription, ctx: &mut Context<Self>) {
        let Some(answers) = self.settings.handler_queue.answers() else {
            return ctx.fail(ExitError::transient(Overlap(self.settings.queue.clone())));
        };
        self.settings.handler_queue.begin(lease.generation);
        self.settings.events.next_channel();
        self.shared.is_in_use();
        self.log_begin(lease.generation);
        let turn =
            Session::new(lease.generation, lease.channel.clone(), Arc::clone(&self.settings), subscription, answers);
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
            End::NotAStream => ctx.fail(ExitError::permanent(NotAStream(actor.settings.source().into()))),
            End::Refused(error) => actor.refused(&error, ctx),
            End::ChannelLost(error) => actor.park(ExitError::transient(ClientError(error)), ctx),
        }));
        ctx.ready();
    }

    /// Logs that the consumer begins. After an outage the line about the connection says that for all its consumers.
    fn log_begin(&self, generation: Generation) {
        let SharedSettings { prefetch, .. } = *self.settings;
        let (queue, (handlers, _)) = (&self.settings.queue, self.settings.handlers);
        if self.shared.connection.outage.is_going_on() {
            tracing::debug!(%queue, generation, "consuming again, on a new connection");
        } else if generation == 1 {
            tracing::info!(%queue, prefetch, handlers, "consuming");
        } else {
            tracing::info!(%queue, generation, prefetch, handlers, "consuming again, on a new channel");
        }
    }

    /// The broker refused `basic.consume`. If the queue is missing and this application declares it, it was deleted a
    /// moment ago: it is declared again and the consumer retries. If another queue is missing, or access to it is
    /// refused, only a person can change that, so the error is permanent.
    fn refused(&mut self, error: &lapin::Error, ctx: &mut Context<Self>) {
        let ours = self.shared.connection.topology.get().find_queue(self.settings.source()).is_some();
        let code = reply(error).map(|(code, _)| code);
        let missing = code == Some(404);
        let refusal = ConsumeRefused {
            queue: self.settings.source().into(),
            what: reply(error).map_or_else(|| error.to_string(), |(_, text)| text),
            hint: if self.settings.reader.is_some() && is_no_stream(error) {
                STREAMS_ONLY
            } else if is_stream(error) {
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

    /// The consumer is paused and its channel is closed: the next incarnation waits on a fresh one.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        self.lease = None;
        let queue = self.settings.queue.clone();
        channel::retire(&self.channel, move || ExitError::transient(Paused(queue)), ctx);
    }

    /// The channel is lost.
    fn park(&mut self, error: ExitError, ctx: &mut Context<Self>) {
        self.lease = None;
        let queue = self.settings.queue.clone();
        channel::park(&self.channel, error, move || ExitError::transient(Forgotten(queue)), ctx);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the consumer of queue `{0}` lost its channel, and the channel's actor did not end in 5 s: it restarts")]
struct Forgotten(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("the previous session of the consumer of queue `{0}` has not ended yet: the consumer restarts after a wait")]
struct Overlap(Arc<str>);
