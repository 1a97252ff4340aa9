//! The connection actor: owns one socket, hands out channels on it, and ends when it is lost.
//!
//! It never reconnects by itself: it fails with a typed reason, its supervisor waits and starts a fresh one, and
//! everything that lived on the old socket goes down with it (rest-for-one). The decision "once more, or never" is
//! `class.rs`'s.

use std::{
    fmt,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, Running,
    StreamHandler, WrapFuture,
};
use fluffle_supervise::{ActorSpec, ExitError, SupervisedContext};
use lapin::{ConnectionStatus, ErrorKind, Event};
use tokio::sync::watch;

use crate::{
    base::frame::FrameMax,
    link::{
        bounded::{OPERATION_TIMEOUT, OperationError, bounded},
        broker::Broker,
        class::{Class, ClientError, Operation, classify},
        declare::{self, Scope},
        socket::{self, ConnectError, Socket},
    },
    topology::{Topology, TopologyError},
};

/// How often a connection looks at itself even when lapin reports nothing.
const SELF_CHECK: Duration = Duration::from_secs(1);

/// What outlives every incarnation of one connection actor, and what its channels watch.
pub(crate) struct ConnectionShared {
    pub(crate) name: String,
    pub(crate) broker: Arc<Broker>,
    pub(crate) topology: Arc<TopologyStore>,
    /// The broker's reason while it blocks publishing on this connection (`connection.blocked`).
    pub(crate) blocked: watch::Sender<Option<String>>,
    /// Ticks whenever lapin reports an error anywhere on the socket; it does not say on which channel.
    pub(crate) pulse: watch::Sender<Option<lapin::Error>>,
    learned: Arc<Learned>,
    status: Mutex<Option<ConnectionStatus>>,
    /// The largest frame of the socket of now, or of the last one.
    frame_max: Mutex<FrameMax>,
    /// How many channels have a place here; the pool keeps it.
    pub(crate) places: AtomicUsize,
    connects: AtomicU64,
    losses: Mutex<Losses>,
    /// How often lapin's parser could not read what came.
    pub(crate) deaths_in_parser: watch::Sender<u32>,
}

/// How often a connection was lost of late.
#[derive(Clone, Copy, Default)]
struct Losses {
    count: u32,
    last: Option<Instant>,
}

/// After so long without a loss, earlier ones are forgotten: RabbitMQ lets no delivery be unacked for longer by default
/// (`consumer_timeout`), so whatever was unacked then has been settled since.
const LOSSES_REMEMBERED: Duration = Duration::from_secs(30 * 60);

impl ConnectionShared {
    /// Connections of one service share what they have `learned`.
    pub(crate) fn new(
        name: String,
        broker: Arc<Broker>,
        topology: Arc<TopologyStore>,
        learned: Arc<Learned>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            broker,
            topology,
            learned,
            blocked: watch::Sender::new(None),
            pulse: watch::Sender::new(None),
            status: Mutex::new(None),
            frame_max: Mutex::default(),
            places: AtomicUsize::new(0),
            connects: AtomicU64::new(0),
            losses: Mutex::default(),
            deaths_in_parser: watch::Sender::new(0),
        })
    }

    /// Whether the socket is up at this moment.
    pub(crate) fn connected(&self) -> bool {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(ConnectionStatus::connected)
    }

    /// How many times this connection has been established.
    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// How often this connection was lost of late, while this process lived: each message that was unacked then has
    /// been handed out in vain, and it was not the message's doing.
    pub(crate) fn losses(&self) -> u32 {
        let losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.last.filter(|last| last.elapsed() < LOSSES_REMEMBERED).map_or(0, |_| losses.count)
    }

    /// Losses of the connection on which the same queue was consumed before.
    pub(crate) fn losses_before(&self, other: &Self) {
        let losses = *other.losses.lock().unwrap_or_else(PoisonError::into_inner);
        *self.losses.lock().unwrap_or_else(PoisonError::into_inner) = losses;
    }

    /// Counts one loss of this connection.
    pub(crate) fn lost(&self) {
        let before = self.losses();
        *self.losses.lock().unwrap_or_else(PoisonError::into_inner) =
            Losses { count: before.saturating_add(1), last: Some(Instant::now()) };
    }

    /// The largest frame of the socket that is up, as negotiated with the broker; before the first one, what is asked
    /// for unless the URI says otherwise.
    pub(crate) fn frame_max(&self) -> FrameMax {
        *self.frame_max.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More channels have a place here than the broker allows: they got it before anybody knew.
    fn too_many_places(&self) -> Option<TooManyChannels> {
        let (most, places) = (self.learned.most_places()?, self.places.load(Ordering::SeqCst));
        let connection = self.name.clone();
        (places > most).then_some(TooManyChannels { connection, places, channel_max: most + 1 })
    }

    fn set_status(&self, status: Option<ConnectionStatus>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// What the connections of one service have learned of their broker.
#[derive(Default)]
pub(crate) struct Learned {
    /// Most channels on a connection, as negotiated last; 0 before the first connection.
    channel_max: AtomicU16,
}

impl Learned {
    fn connected(&self, channel_max: u16) {
        // lapin has made the largest number of "no limit".
        self.channel_max.store(channel_max.max(1), Ordering::SeqCst);
    }

    /// Whether any of them has been established.
    fn has_connected(&self) -> bool {
        self.channel_max.load(Ordering::SeqCst) > 0
    }

    /// Most channels that may have a place on one of them; `None` before the first connection.
    pub(crate) fn most_places(&self) -> Option<usize> {
        self.has_connected().then(|| most_places(self.channel_max.load(Ordering::SeqCst)))
    }
}

/// Of the channels that a connection may have, one is kept for declaring the topology.
pub(crate) fn most_places(channel_max: u16) -> usize {
    usize::from(channel_max).saturating_sub(1)
}

/// The broker allows fewer channels on a connection than have been planned for this one.
#[derive(Debug)]
struct TooManyChannels {
    connection: String,
    places: usize,
    channel_max: usize,
}

impl fmt::Display for TooManyChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, places, channel_max } = self;
        write!(
            f,
            "connection {connection} is to have {places} channels, and one on which the topology is declared; the broker allows \
             {channel_max} (`channel_max`): raise `channel_max` in rabbitmq.conf"
        )?;
        match channel_max {
            0 | 1 => Ok(()),
            _ => write!(
                f,
                ", or write it into the broker's URI (?channel_max={channel_max}), so that more connections are opened"
            ),
        }
    }
}

impl std::error::Error for TooManyChannels {}

/// The application's topology; consumers and requesters add the queues they need.
#[derive(Default)]
pub(crate) struct TopologyStore(Mutex<Topology>);

impl TopologyStore {
    pub(crate) fn new(topology: Topology) -> Arc<Self> {
        Arc::new(Self(Mutex::new(topology)))
    }

    pub(crate) fn get(&self) -> Topology {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds what `other` names; entities already there must be the same.
    pub(crate) fn add(&self, other: Topology) -> Result<(), TopologyError> {
        let mut topology = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *topology = topology.clone().merge(other)?;
        Ok(())
    }
}

/// Owns the lapin connection of one incarnation.
pub(crate) struct ConnectionActor {
    shared: Arc<ConnectionShared>,
    socket: Option<Rc<Socket>>,
    /// lapin's parser could not read what came.
    unreadable: bool,
}

/// The child specification of a connection's socket: permanent, retried for ever with the broker's backoff.
pub(crate) fn spec(shared: &Arc<ConnectionShared>) -> ActorSpec<ConnectionActor> {
    let factory = {
        let shared = Arc::clone(shared);
        move || ConnectionActor { shared: Arc::clone(&shared), socket: None, unreadable: false }
    };
    ActorSpec::new("socket", factory)
        .reports_ready()
        .backoff(shared.broker.reconnect)
        .shutdown(shared.broker.close_timeout + Duration::from_secs(1))
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let shared = Arc::clone(&self.shared);
        let opening = async move { open(&shared).await };
        ctx.spawn(opening.into_actor(self).map(|opened, actor, ctx| match opened {
            Ok(socket) => actor.opened(socket, ctx),
            Err(error) => ctx.fail(error),
        }));
    }

    /// Closes the connection in an orderly way, within the broker's `close_timeout`, then stops.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        self.shared.set_status(None);
        self.shared.blocked.send_replace(None);
        match self.socket.take() {
            Some(socket) if socket.connection.status().connected() => {
                let limit = self.shared.broker.close_timeout;
                let connection = self.shared.name.clone();
                let closing = async move {
                    let begun = Instant::now();
                    match socket.close("closed by the application", limit).await {
                        Ok(()) => tracing::info!(%connection, took = ?begun.elapsed(), "closed"),
                        Err(why) => tracing::warn!(%connection, %why, "the socket was shut down without a good-bye"),
                    }
                };
                ctx.spawn(closing.into_actor(self).map(|(), _, ctx| ctx.stop()));
                Running::Continue
            }
            _ => Running::Stop,
        }
    }
}

/// Connects, then declares the topology, so that nothing ever publishes to or consumes from what is not there yet.
async fn open(shared: &ConnectionShared) -> Result<Socket, ExitError> {
    let (socket, endpoint) = socket::connect(&shared.broker, &format!("{}/{}", shared.broker.name, shared.name))
        .await
        .map_err(|error| refused(shared, error))?;
    shared.learned.connected(socket.connection.configuration().channel_max());
    if let Some(error) = shared.too_many_places() {
        return Err(ExitError::permanent(error));
    }
    declare(shared, &socket, Scope::Shared).await?;
    tracing::info!(connection = %shared.name, %endpoint, "connected");
    Ok(socket)
}

fn refused(shared: &ConnectionShared, error: ConnectError) -> ExitError {
    let connected_before = shared.learned.has_connected();
    match error.class(connected_before) {
        Class::Permanent => ExitError::permanent(error),
        Class::Transient | Class::Contention => {
            if connected_before && error.is_about_tls() {
                tracing::error!(
                    connection = %shared.name, %error,
                    "TLS is refused, which was good when this service connected before: it tries again until somebody puts the \
                     right certificate back"
                );
            }
            ExitError::transient(error)
        }
    }
}

async fn declare(shared: &ConnectionShared, socket: &Socket, scope: Scope<'_>) -> Result<(), ExitError> {
    let topology = shared.topology.get();
    let open = async || socket.connection.create_channel().await;
    declare::declare(&topology, open, scope, OPERATION_TIMEOUT).await.map_err(exit)
}

fn exit(error: TopologyError) -> ExitError {
    if error.is_permanent() { ExitError::permanent(error) } else { ExitError::transient(error) }
}

impl ConnectionActor {
    fn opened(&mut self, socket: Socket, ctx: &mut Context<Self>) {
        self.shared.connects.fetch_add(1, Ordering::Relaxed);
        *self.shared.frame_max.lock().unwrap_or_else(PoisonError::into_inner) = socket.frame_max();
        self.shared.set_status(Some(socket.connection.status().clone()));
        ctx.add_stream(socket.connection.events_listener());
        self.socket = Some(Rc::new(socket));
        ctx.run_interval(SELF_CHECK, |actor, ctx| actor.check(None, ctx));
        ctx.ready();
    }

    /// Ends this incarnation when the connection is no longer usable.
    fn check(&mut self, cause: Option<&lapin::Error>, ctx: &mut Context<Self>) {
        let lost = self.socket.as_ref().is_some_and(|socket| !socket.connection.status().connected());
        if lost {
            let cause =
                cause.map_or_else(|| "the socket is gone".to_owned(), |error| ClientError(error.clone()).to_string());
            // Once: this actor ends now.
            self.socket = None;
            self.shared.lost();
            ctx.fail(ExitError::transient(ConnectionLost { connection: self.shared.name.clone(), cause }));
        }
    }
}

/// The connection ended under the application: the broker stopped, closed it, or the network did.
#[derive(Debug, thiserror::Error)]
#[error("connection {connection} was lost: {cause}")]
struct ConnectionLost {
    connection: String,
    cause: String,
}

impl StreamHandler<Event> for ConnectionActor {
    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        match event {
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(connection = %self.shared.name, %reason, "the broker blocks publishing");
                self.shared.blocked.send_replace(Some(reason));
            }
            Event::ConnectionUnblocked => {
                tracing::info!(connection = %self.shared.name, "the broker takes messages again");
                self.shared.blocked.send_replace(None);
            }
            Event::Error(error) => {
                // lapin reports it more than once.
                if matches!(error.kind(), ErrorKind::ParsingError(_)) && !std::mem::replace(&mut self.unreadable, true)
                {
                    self.shared.deaths_in_parser.send_modify(|deaths| *deaths += 1);
                }
                self.shared.pulse.send_replace(Some(error.clone()));
                self.check(Some(&error), ctx);
            }
            _ => {}
        }
    }

    /// lapin's event stream ends with the connection.
    fn finished(&mut self, ctx: &mut Self::Context) {
        self.check(None, ctx);
    }
}

/// Asks for a fresh channel on the connection.
#[derive(Message)]
#[rtype(result = "Result<lapin::Channel, ExitError>")]
pub(crate) struct OpenChannel;

impl Handler<OpenChannel> for ConnectionActor {
    type Result = ResponseFuture<Result<lapin::Channel, ExitError>>;

    fn handle(&mut self, _: OpenChannel, _: &mut Self::Context) -> Self::Result {
        let socket = self.socket.clone();
        let shared = Arc::clone(&self.shared);
        let connection = self.shared.name.clone();
        Box::pin(async move {
            let lost = |cause: &str| {
                ExitError::transient(ConnectionLost { connection: connection.clone(), cause: cause.to_owned() })
            };
            let Some(socket) = socket else {
                return Err(lost("it is not connected"));
            };
            match bounded(OPERATION_TIMEOUT, socket.connection.create_channel()).await {
                Ok(channel) => Ok(channel),
                Err(OperationError::Failed(error)) if classify(&error, Operation::OpenChannel) == Class::Permanent => {
                    Err(ExitError::permanent(ClientError(error)))
                }
                // Places taken while the socket was opened.
                Err(OperationError::Failed(error)) => Err(match shared.too_many_places() {
                    Some(too_many) => ExitError::permanent(too_many),
                    None => ExitError::transient(ClientError(error)),
                }),
                Err(OperationError::Unanswered(_)) => Err(lost("channel.open was not answered in time")),
            }
        })
    }
}

/// Asks for part of the topology to be declared now: exclusive queues, or all of it after something was deleted.
#[derive(Message)]
#[rtype(result = "Result<(), ExitError>")]
pub(crate) enum Declare {
    /// Everything but exclusive queues.
    Shared,
    /// These exclusive queues and their bindings.
    Exclusive(Vec<String>),
}

impl Handler<Declare> for ConnectionActor {
    type Result = ResponseFuture<Result<(), ExitError>>;

    fn handle(&mut self, what: Declare, _: &mut Self::Context) -> Self::Result {
        let socket = self.socket.clone();
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some(socket) = socket else {
                return Err(ExitError::transient(ConnectionLost {
                    connection: shared.name.clone(),
                    cause: "it is not connected".to_owned(),
                }));
            };
            match &what {
                Declare::Shared => declare(&shared, &socket, Scope::Shared).await,
                Declare::Exclusive(queues) => {
                    let names: Vec<&str> = queues.iter().map(String::as_str).collect();
                    declare(&shared, &socket, Scope::Exclusive(&names)).await
                }
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection to nowhere.
    pub(crate) fn shared() -> Arc<ConnectionShared> {
        let broker = Broker::new("amqp://localhost").unwrap();
        ConnectionShared::new(
            "consume-0".to_owned(),
            Arc::new(broker),
            TopologyStore::new(Topology::new()),
            Arc::default(),
        )
    }
}
