//! The channel actor: owns one AMQP channel of one generation, and ends when the broker closes it.
//!
//! A channel lives with what works on it (one-for-all): when a 404 or 406 closes it, this channel and its consumer or
//! publisher start afresh, and nothing else notices. Delivery tags and confirms belong to the generation it hands out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Running, WrapFuture,
};
use fluffle_supervise::{ActorSpec, Backoff, ExitError, SupervisedAddr, SupervisedContext};
use lapin::options::{BasicQosOptions, ConfirmSelectOptions};
use tokio::time::{sleep, timeout};

use crate::{
    base::frame::FrameMax,
    link::{
        class::{Class, ClientError, Operation, classify},
        connection::{ConnectionActor, ConnectionShared, Declare, OPERATION_TIMEOUT, OpenChannel},
        socket,
    },
};

/// How often a channel looks at itself even when nothing is reported.
const SELF_CHECK: Duration = Duration::from_millis(500);

/// How long a closed channel waits for what works on it to say why.
const GRACE: Duration = Duration::from_millis(200);

/// Counts the channels one consumer or publisher has had; a tag or confirm of an older one is worthless.
pub(crate) type Generation = u64;

/// What a channel is opened for.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// Publisher confirms on (`confirm.select`).
    Confirm,
    /// Neither confirms nor prefetch.
    Plain,
    /// `basic.qos` with this prefetch count, for each consumer on the channel.
    Consume {
        prefetch: u16,
        /// Exclusive queues to declare on this connection before consuming from them.
        exclusive: Vec<String>,
    },
}

/// What outlives every incarnation of one channel actor.
pub(crate) struct ChannelShared {
    pub(crate) name: String,
    pub(crate) connection: Arc<ConnectionShared>,
    mode: Mode,
    generation: AtomicU64,
    redeclare: AtomicBool,
    /// The channel of now has done what it is for.
    proven: AtomicBool,
}

impl ChannelShared {
    pub(crate) fn new(name: String, connection: Arc<ConnectionShared>, mode: Mode) -> Arc<Self> {
        let (generation, redeclare, proven) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { name, connection, mode, generation, redeclare, proven })
    }

    /// The channel of now has done what it is for: should it be lost, the next one is opened as soon as after a first loss.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// The same channel on another connection: generations count on.
    pub(crate) fn on(&self, connection: Arc<ConnectionShared>, prefetch: u16) -> Arc<Self> {
        let mode = match &self.mode {
            Mode::Consume { exclusive, .. } => Mode::Consume { prefetch, exclusive: exclusive.clone() },
            other => other.clone(),
        };
        Arc::new(Self {
            name: self.name.clone(),
            connection,
            mode,
            generation: AtomicU64::new(self.generation.load(Ordering::Relaxed)),
            redeclare: AtomicBool::new(true),
            proven: AtomicBool::new(false),
        })
    }

    /// The topology is declared again before the next channel opens: something it names was deleted.
    pub(crate) fn redeclare(&self) {
        self.redeclare.store(true, Ordering::Relaxed);
    }
}

/// Owns the lapin channel of one incarnation.
pub(crate) struct ChannelActor {
    shared: Arc<ChannelShared>,
    connection: SupervisedAddr<ConnectionActor>,
    open: Option<LeasedChannel>,
}

/// One open channel and its generation.
#[derive(Clone)]
pub(crate) struct LeasedChannel {
    pub(crate) channel: lapin::Channel,
    pub(crate) generation: Generation,
    /// The largest frame of its connection.
    pub(crate) frame_max: FrameMax,
}

/// The child specification of a channel.
pub(crate) fn spec(
    shared: &Arc<ChannelShared>,
    connection: &SupervisedAddr<ConnectionActor>,
) -> ActorSpec<ChannelActor> {
    let factory = {
        let shared = Arc::clone(shared);
        let connection = connection.clone();
        move || ChannelActor { shared: Arc::clone(&shared), connection: connection.clone(), open: None }
    };
    ActorSpec::new("channel", factory)
        .reports_ready()
        .backoff(backoff())
        .shutdown(shared.connection.broker.close_timeout + Duration::from_secs(1))
}

/// Channels are cheap to open: the first retry comes at once, a stubborn refusal slows down to every 5 s.
pub(crate) fn backoff() -> Backoff {
    Backoff::exponential(Duration::from_millis(20), Duration::from_secs(5))
        .map(|backoff| backoff.reset_after(Duration::from_secs(10)))
        .unwrap_or_default()
}

impl Actor for ChannelActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let opening = open(Arc::clone(&self.shared), self.connection.clone());
        ctx.spawn(opening.into_actor(self).map(|opened, actor, ctx| match opened {
            Ok(channel) => actor.opened(channel, ctx),
            Err(error) => ctx.fail(error),
        }));
    }

    /// Closes the channel, within the broker's `close_timeout`, then stops: what its last user wrote has been acted upon by
    /// then.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        let Some(LeasedChannel { channel, .. }) = self.open.take() else { return Running::Stop };
        let connection = &self.shared.connection;
        // A connection that is blocked is not read by the broker, nor written by lapin.
        if !channel.status().connected() || !connection.connected() || connection.blocked.borrow().is_some() {
            return Running::Stop;
        }
        let (name, limit) = (self.shared.name.clone(), connection.broker.close_timeout);
        let closing = async move {
            if let Err(why) = socket::close_channel(&channel, limit).await {
                tracing::debug!(channel = %name, %why, "the channel was not closed in an orderly way");
            }
        };
        ctx.spawn(closing.into_actor(self).map(|(), _, ctx| ctx.stop()));
        Running::Continue
    }
}

async fn open(
    shared: Arc<ChannelShared>,
    connection: SupervisedAddr<ConnectionActor>,
) -> Result<lapin::Channel, ExitError> {
    if shared.redeclare.swap(false, Ordering::Relaxed)
        && let Err(error) = ask(&connection, Declare::Shared).await
    {
        shared.redeclare();
        return Err(error);
    }
    if let Mode::Consume { exclusive, .. } = &shared.mode
        && !exclusive.is_empty()
    {
        ask(&connection, Declare::Exclusive(exclusive.clone())).await?;
    }
    let channel = ask(&connection, OpenChannel).await?;
    let prepared = timeout(OPERATION_TIMEOUT, async {
        match &shared.mode {
            Mode::Confirm => channel.confirm_select(ConfirmSelectOptions::default()).await,
            Mode::Consume { prefetch, .. } => channel.basic_qos(*prefetch, BasicQosOptions::default()).await,
            Mode::Plain => Ok(()),
        }
    });
    match prepared.await {
        Ok(Ok(())) => Ok(channel),
        Ok(Err(error)) if classify(&error, Operation::OpenChannel) == Class::Permanent => {
            Err(ExitError::permanent(ClientError(error)))
        }
        Ok(Err(error)) => Err(ExitError::transient(ClientError(error))),
        Err(_) => Err(ExitError::transient(lost(&shared, "it did not open in time"))),
    }
}

/// Asks the connection, which may be down just now: then this channel fails, and is started again with it.
async fn ask<M, T>(connection: &SupervisedAddr<ConnectionActor>, message: M) -> Result<T, ExitError>
where
    M: Message<Result = Result<T, ExitError>> + Send + 'static,
    T: Send + 'static,
    ConnectionActor: Handler<M>,
{
    match connection.send(message).within(OPERATION_TIMEOUT * 2).await {
        Ok(answer) => answer,
        Err(error) => Err(ExitError::transient(Unreachable(error.to_string()))),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the connection actor did not answer: {0}")]
struct Unreachable(String);

/// The broker closed the channel (or it never opened).
#[derive(Debug, thiserror::Error)]
#[error("channel {channel} on {connection} was lost: {cause}")]
pub(crate) struct ChannelLost {
    channel: String,
    connection: String,
    cause: String,
}

fn lost(shared: &ChannelShared, cause: &str) -> ChannelLost {
    ChannelLost { channel: shared.name.clone(), connection: shared.connection.name.clone(), cause: cause.to_owned() }
}

impl ChannelActor {
    fn opened(&mut self, channel: lapin::Channel, ctx: &mut Context<Self>) {
        let generation = self.shared.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.proven.store(false, Ordering::Relaxed);
        let watching = watch(Arc::clone(&self.shared), channel.clone());
        let frame_max = self.shared.connection.frame_max();
        self.open = Some(LeasedChannel { channel, generation, frame_max });
        ctx.spawn(watching.into_actor(self).map(|lost, actor, ctx| {
            // Unless it is being closed.
            if actor.open.is_some() {
                actor.fail(ExitError::transient(lost), ctx);
            }
        }));
        ctx.ready();
    }

    /// Ends. A channel that has done what it is for between two losses costs the shortest wait; only losses in a row wait longer.
    fn fail(&self, error: ExitError, ctx: &mut Context<Self>) {
        if self.shared.proven.load(Ordering::Relaxed) {
            ctx.healthy();
        }
        ctx.fail(error);
    }
}

/// Resolves when this channel is over while its connection lives on, unless what works on it has said so first.
///
/// When the connection is gone too, this says nothing: the connection actor ends for the same reason, and its
/// supervisor takes this channel down with everything else on that socket, once and in order.
async fn watch(shared: Arc<ChannelShared>, channel: lapin::Channel) -> ChannelLost {
    let mut pulse = shared.connection.pulse.subscribe();
    loop {
        // Either way, look: an error was reported somewhere on the socket, or nothing was for a while.
        let _ = timeout(SELF_CHECK, pulse.changed()).await;
        if !channel.status().connected() && shared.connection.connected() {
            let cause = pulse.borrow_and_update().clone().map(|error| ClientError(error).to_string());
            // Who was using it knows better what was refused: see `Broken`.
            sleep(GRACE).await;
            return lost(&shared, cause.as_deref().unwrap_or("the broker closed it"));
        }
    }
}

/// What works on the channel says that it is over, and why: only this actor ends it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Broken(pub(crate) ExitError);

impl Handler<Broken> for ChannelActor {
    type Result = ();

    fn handle(&mut self, Broken(error): Broken, ctx: &mut Self::Context) {
        // A lost connection takes everything on it down by itself, once and in order.
        if self.shared.connection.connected() {
            self.fail(error, ctx);
        }
    }
}

/// What works on the channel has ended in order and wants a fresh channel: no fault, and so no longer wait than the
/// shortest.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire;

impl Handler<Retire> for ChannelActor {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        ctx.healthy();
        ctx.stop();
    }
}

/// Asks for the open channel and its generation.
#[derive(Message)]
#[rtype(result = "Option<LeasedChannel>")]
pub(crate) struct Borrow;

impl Handler<Borrow> for ChannelActor {
    type Result = MessageResult<Borrow>;

    fn handle(&mut self, _: Borrow, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.open.clone())
    }
}

/// Borrows the channel for what lives on it; the channel is ready before its siblings start, so this is a formality.
pub(crate) async fn borrow(channel: SupervisedAddr<ChannelActor>) -> Result<LeasedChannel, ExitError> {
    match channel.send(Borrow).within(OPERATION_TIMEOUT).await {
        Ok(Some(lease)) => Ok(lease),
        Ok(None) => Err(ExitError::transient(Unreachable("the channel is not open".to_owned()))),
        Err(error) => Err(ExitError::transient(Unreachable(error.to_string()))),
    }
}
