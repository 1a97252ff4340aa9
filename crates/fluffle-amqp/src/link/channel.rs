//! The channel actor: it owns one AMQP channel of one generation, and ends when the broker closes the channel.
//!
//! A channel actor and its consumer or publisher live and end together (one-for-all). When a 404 or 406 closes the
//! channel, these start again, and nothing else is affected. Delivery tags and confirms belong to the generation of the
//! channel.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, Running, WrapFuture,
    fut::wrap_future,
};
use fluffle_supervise::{ActorSpec, Backoff, ExitError, SupervisedAddr, SupervisedContext};
use lapin::options::{BasicQosOptions, ConfirmSelectOptions};
use tokio::time::sleep;

use crate::{
    base::{events::ChannelEvent, frame::FrameMax, observer::Listeners},
    link::{
        bounded::{OPERATION_TIMEOUT, OperationError, bounded},
        channel_lost::{ChannelLost, code_of, lost},
        class::{Class, ClientError, Operation, classify, reply},
        connection::{ConnectionActor, LeaveNode, OpenChannel},
        connection_shared::ConnectionShared,
        open_channels::Checked,
        outage::{Seat, Traffic},
        socket,
        topology_parts::{Declare, Missing},
    },
};

/// How long the actor of a closed channel waits for the consumer or publisher to report the cause.
const GRACE: Duration = Duration::from_millis(200);

/// How long an actor without a channel waits to be stopped before it ends by itself.
const PARKED: Duration = Duration::from_secs(5);

/// Counts the channels that one consumer or publisher has had. A delivery tag or confirm of an earlier generation is
/// invalid.
pub(crate) type Generation = u64;

/// The use that a channel is opened for.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// Publisher confirms on (`confirm.select`).
    Confirm,
    /// Without confirms and without a prefetch.
    Plain,
    /// `basic.qos` with this prefetch count, for each consumer on the channel.
    Consume {
        prefetch: u16,
        /// Exclusive queues to declare on this connection before the consumer starts.
        exclusive: Vec<String>,
    },
}

/// The state that outlives the incarnations of one channel actor.
pub(crate) struct ChannelShared {
    pub(crate) name: String,
    pub(crate) connection: Arc<ConnectionShared>,
    mode: Mode,
    seat: Arc<Seat>,
    generation: AtomicU64,
    /// The part of the topology to declare before the next channel opens.
    missing: Mutex<Missing>,
    /// Whether the present channel has been used successfully.
    proven: AtomicBool,
    events: Listeners<ChannelEvent>,
    /// Whether the channel is open, and since when that is so.
    open: Mutex<(bool, Instant)>,
}

impl ChannelShared {
    /// Whether the channel is open, since when that is so, and the number of the present or last channel.
    pub(crate) fn is_open(&self) -> (bool, Instant, Generation) {
        let (is_open, since) = *self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (is_open, since, self.generation.load(Ordering::Relaxed))
    }

    fn set_open(&self, is_open: bool) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = (is_open, Instant::now());
        self.seat.set_in_use(is_open && self.seat.has_no_traffic());
    }

    /// The publisher or consumer has begun to work on the channel.
    pub(crate) fn is_in_use(&self) {
        self.seat.set_in_use(true);
    }

    /// `traffic`: the publisher or consumer that the channel is for; `None` if a lost connection costs it nothing that
    /// is repeated.
    pub(crate) fn new(
        name: String,
        connection: Arc<ConnectionShared>,
        mode: Mode,
        traffic: Option<Weak<dyn Traffic>>,
    ) -> Arc<Self> {
        let seat = connection.outage.seat(traffic);
        let (generation, proven) = (AtomicU64::new(0), AtomicBool::new(false));
        let events = connection.channel_events(&name);
        let open = Mutex::new((false, Instant::now()));
        let missing = Mutex::default();
        Arc::new(Self { name, connection, mode, seat, generation, missing, proven, events, open })
    }

    /// Notes that the present channel has been used successfully. If it is lost, the next channel is opened with the
    /// shortest wait, as after a first loss.
    pub(crate) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// The state of the same channel on another connection: its generations continue.
    pub(crate) fn on(&self, connection: Arc<ConnectionShared>, prefetch: u16, traffic: Weak<dyn Traffic>) -> Arc<Self> {
        let mode = match &self.mode {
            Mode::Consume { exclusive, .. } => Mode::Consume { prefetch, exclusive: exclusive.clone() },
            other => other.clone(),
        };
        Arc::new(Self {
            name: self.name.clone(),
            events: connection.channel_events(&self.name),
            seat: connection.outage.seat(Some(traffic)),
            connection,
            mode,
            generation: AtomicU64::new(self.generation.load(Ordering::Relaxed)),
            missing: Mutex::new(Missing::Unknown),
            proven: AtomicBool::new(false),
            open: Mutex::new((false, Instant::now())),
        })
    }

    /// Declares the topology again before the next channel opens, because an entity of it was deleted.
    pub(crate) fn redeclare(&self) {
        self.misses(Missing::Unknown);
    }

    /// Declares the queues that were added to the topology before the next channel opens, because the connection may
    /// have declared the topology without them.
    pub(crate) fn declare_added(&self) {
        self.misses(Missing::Added);
    }

    fn misses(&self, what: Missing) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        *missing = what.max(*missing);
    }
}

/// One incarnation of a channel; it owns the lapin channel.
pub(crate) struct ChannelActor {
    shared: Arc<ChannelShared>,
    connection: SupervisedAddr<ConnectionActor>,
    open: Option<LeasedChannel>,
    up: Option<Up>,
}

/// A channel that is open. Dropped, it tells the listeners how it ended: closed by the application, unless it was lost.
struct Up {
    shared: Arc<ChannelShared>,
    end: ChannelEvent,
    _checked: Checked,
}

impl Up {
    fn new(shared: &Arc<ChannelShared>, generation: Generation, _checked: Checked) -> Self {
        shared.set_open(true);
        shared.events.tell(&ChannelEvent::Opened { generation });
        Self { shared: Arc::clone(shared), end: ChannelEvent::Closed, _checked }
    }

    fn lost(mut self, code: Option<u16>) {
        self.end = ChannelEvent::Lost { code };
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.shared.set_open(false);
        self.shared.events.tell(&self.end);
    }
}

/// One open channel and its generation.
#[derive(Clone)]
pub(crate) struct LeasedChannel {
    pub(crate) channel: lapin::Channel,
    pub(crate) generation: Generation,
    /// The largest frame of the channel's connection.
    pub(crate) frame_max: FrameMax,
}

/// The child specification of a channel.
pub(crate) fn spec(
    shared: &Arc<ChannelShared>,
    connection: &SupervisedAddr<ConnectionActor>,
) -> ActorSpec<ChannelActor> {
    let on = Arc::clone(&shared.connection);
    let factory = {
        let shared = Arc::clone(shared);
        let connection = connection.clone();
        move || ChannelActor { shared: Arc::clone(&shared), connection: connection.clone(), open: None, up: None }
    };
    ActorSpec::new("channel", factory)
        .reports_ready()
        .logs_exits(move |_| !on.connected())
        .backoff(backoff())
        .shutdown(shared.connection.broker.close_timeout + Duration::from_secs(1))
}

/// The waits between attempts to open a channel. Opening one is cheap: the first retry comes after 20 ms at most, and
/// repeated refusals slow the retries down to one in 5 s.
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

    /// Closes the channel within the broker's `close_timeout`, then stops. By then the broker has acted upon everything
    /// that was written on the channel.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        let Some(LeasedChannel { channel, .. }) = self.open.take() else { return Running::Stop };
        let connection = &self.shared.connection;
        // While a connection is blocked, the broker does not read from it and lapin does not write to it: a close would
        // wait in vain.
        if !channel.status().connected() || !connection.connected() || connection.standing.is_blocked() {
            if !channel.status().connected() || !connection.connected() {
                self.up.take().into_iter().for_each(|up| up.lost(None));
            }
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
    let missing = std::mem::take(&mut *shared.missing.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(declaration) = missing.declaration()
        && let Err(error) = ask(&connection, declaration).await
    {
        shared.misses(missing);
        return Err(error);
    }
    if let Mode::Consume { exclusive, .. } = &shared.mode
        && !exclusive.is_empty()
    {
        ask(&connection, Declare::Exclusive(exclusive.clone())).await?;
    }
    let channel = ask(&connection, OpenChannel).await?;
    let prepared = bounded(OPERATION_TIMEOUT, async {
        match &shared.mode {
            Mode::Confirm => channel.confirm_select(ConfirmSelectOptions::default()).await,
            Mode::Consume { prefetch, .. } => channel.basic_qos(*prefetch, BasicQosOptions::default()).await,
            Mode::Plain => Ok(()),
        }
    });
    match prepared.await {
        Ok(()) => Ok(channel),
        Err(OperationError::Failed(error)) if classify(&error, Operation::OpenChannel) == Class::Permanent => {
            Err(ExitError::permanent(ClientError(error)))
        }
        Err(OperationError::Failed(error)) => Err(ExitError::transient(ClientError(error))),
        Err(OperationError::Unanswered(_)) => {
            let (name, connection) = (&shared.name, &shared.connection.name);
            Err(ExitError::transient(lost(name, connection, "the broker did not answer its opening in time", None)))
        }
    }
}

/// Asks the connection actor. If the connection is down, this fails; the channel actor then fails too, and is started
/// again with the connection.
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

impl ChannelActor {
    fn opened(&mut self, channel: lapin::Channel, ctx: &mut Context<Self>) {
        let generation = self.shared.generation.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.proven.store(false, Ordering::Relaxed);
        let checked = self.shared.connection.open_channels.add(channel.status().clone());
        let watching = watch(Arc::clone(&self.shared), channel.clone());
        let frame_max = self.shared.connection.frame_max();
        self.open = Some(LeasedChannel { channel, generation, frame_max });
        self.up = Some(Up::new(&self.shared, generation, checked));
        ctx.spawn(watching.into_actor(self).map(|lost, actor, ctx| {
            // Unless the channel is being closed by this actor.
            if actor.open.is_some() {
                actor.fail(ExitError::transient(lost), ctx);
            }
        }));
        ctx.ready();
    }

    /// Ends this incarnation. If the channel was used successfully, the next one is opened after the shortest wait;
    /// only losses in a row wait longer.
    fn fail(&mut self, error: ExitError, ctx: &mut Context<Self>) {
        self.up.take().into_iter().for_each(|up| up.lost(code_of(&error)));
        if self.shared.proven.load(Ordering::Relaxed) {
            ctx.healthy();
        }
        ctx.fail(error);
    }
}

/// Resolves when the channel is closed while its connection is still up, unless the consumer or publisher reports it
/// first.
///
/// If the connection is lost too, this does not resolve. The connection actor then ends for the same reason, and its
/// supervisor takes this channel down with everything else on that socket, once and in order.
async fn watch(shared: Arc<ChannelShared>, channel: lapin::Channel) -> ChannelLost {
    let mut pulse = shared.connection.pulse.subscribe();
    loop {
        // lapin has reported an error somewhere on the socket, or the connection's actor has found a closed channel.
        // Never fails, because the connection owns the sender.
        let _ = pulse.changed().await;
        if !channel.status().connected() && shared.connection.connected() {
            let error = pulse.borrow_and_update().clone();
            let code = error.as_ref().and_then(reply).map(|(code, _)| code);
            let cause = error.map(|error| ClientError(error).to_string());
            // Wait, because the consumer or publisher knows better which operation was refused: see `Broken`.
            sleep(GRACE).await;
            let cause = cause.as_deref().unwrap_or("the broker closed it");
            return lost(&shared.name, &shared.connection.name, cause, code);
        }
    }
}

/// The consumer or publisher on the channel reports that the channel is over, and why. It does not end the channel
/// itself: only the channel actor does.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Broken(pub(crate) ExitError);

impl Handler<Broken> for ChannelActor {
    type Result = ();

    fn handle(&mut self, Broken(error): Broken, ctx: &mut Self::Context) {
        // If the connection is lost, its supervisor takes everything on it down, once and in order.
        if self.shared.connection.connected() {
            self.fail(error, ctx);
        }
    }
}

impl Handler<LeaveNode> for ChannelActor {
    type Result = ();

    fn handle(&mut self, leave: LeaveNode, ctx: &mut Self::Context) {
        ctx.spawn(wrap_future(self.connection.post(leave)).map(|_, _, _| ()));
    }
}

/// The consumer on the channel has ended in order and wants a fresh channel. That is no fault, so the wait before the
/// next channel is the shortest.
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

/// Gets the open channel for its consumer or publisher. Those start after the channel is ready, so this does not wait
/// for it.
pub(crate) async fn borrow(channel: SupervisedAddr<ChannelActor>) -> Result<LeasedChannel, ExitError> {
    match channel.send(Borrow).within(OPERATION_TIMEOUT).await {
        Ok(Some(leased)) => Ok(leased),
        Ok(None) => Err(ExitError::transient(Unreachable("the channel is not open".to_owned()))),
        Err(error) => Err(ExitError::transient(Unreachable(error.to_string()))),
    }
}

/// For an actor that has closed its channel in order: lets the channel actor open a fresh one, which takes the calling
/// actor down. If that has not happened within 5 s, the calling actor ends with `if_not_stopped`.
pub(crate) fn retire<A>(
    channel: &SupervisedAddr<ChannelActor>,
    if_not_stopped: impl FnOnce() -> ExitError + 'static,
    ctx: &mut Context<A>,
) where
    A: Actor<Context = Context<A>>,
{
    part(channel, Retire, if_not_stopped, ctx);
}

/// For an actor whose channel works and gets no work done by its node: lets the connection go to another node, which
/// takes the calling actor down. If that has not happened within 5 s, the calling actor ends with `if_not_stopped`.
pub(crate) fn leave_node<A>(
    channel: &SupervisedAddr<ChannelActor>,
    cause: String,
    if_not_stopped: impl FnOnce() -> ExitError + 'static,
    ctx: &mut Context<A>,
) where
    A: Actor<Context = Context<A>>,
{
    part(channel, LeaveNode { cause }, if_not_stopped, ctx);
}

/// For an actor that has lost its channel: tells the channel actor why, which ends and takes the calling actor down
/// with itself. If that has not happened within 5 s, the calling actor ends with `if_not_stopped`.
pub(crate) fn park<A>(
    channel: &SupervisedAddr<ChannelActor>,
    why: ExitError,
    if_not_stopped: impl FnOnce() -> ExitError + 'static,
    ctx: &mut Context<A>,
) where
    A: Actor<Context = Context<A>>,
{
    part(channel, Broken(why), if_not_stopped, ctx);
}

/// Posts `message` to the channel actor, which takes the calling actor down. If that has not happened within 5 s, the
/// calling actor ends with `if_not_stopped`.
fn part<A, M>(
    channel: &SupervisedAddr<ChannelActor>,
    message: M,
    if_not_stopped: impl FnOnce() -> ExitError + 'static,
    ctx: &mut Context<A>,
) where
    A: Actor<Context = Context<A>>,
    M: Message<Result = ()> + Send + 'static,
    ChannelActor: Handler<M>,
{
    ctx.spawn(wrap_future(channel.post(message)).map(|_, _: &mut A, _| ()));
    ctx.run_later(PARKED, move |_, ctx| ctx.fail(if_not_stopped()));
}
