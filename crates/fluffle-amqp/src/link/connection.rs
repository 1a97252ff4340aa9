//! The connection actor: it owns one socket, opens channels on it, and ends when the socket is lost.
//!
//! The actor does not reconnect by itself. It fails with a typed reason; its supervisor waits and starts a new actor,
//! and takes down everything that used the old socket (rest-for-one). `class.rs` decides whether a retry is worth it.

use std::{
    rc::Rc,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, Running,
    StreamHandler, WrapFuture,
};
use fluffle_supervise::{ActorSpec, Backoff, ExitError, SupervisedContext};
use lapin::{ErrorKind, Event};

use crate::{
    base::events::ConnectionEvent,
    link::{
        bounded::{OPERATION_TIMEOUT, OperationError, bounded},
        broker::Broker,
        class::{Class, ClientError, Operation, classify, reply},
        connection_shared::ConnectionShared,
        endpoint::Endpoint,
        socket::{self, ConnectError, Socket},
        topology_parts::{Declare, declare_added, declare_again, declare_exclusive, declare_shared},
    },
};

/// How often the actor checks the state of its connection even if lapin reports nothing.
const SELF_CHECK: Duration = Duration::from_secs(1);

/// How often the actor checks the states of the channels on it even if lapin reports nothing. One check for all of them
/// is cheaper than a timer for each: most of a thousand channels are at rest.
const CHANNELS_CHECK: Duration = Duration::from_millis(500);

/// One incarnation of a connection; it owns the lapin connection.
pub(crate) struct ConnectionActor {
    shared: Arc<ConnectionShared>,
    socket: Option<Rc<Socket>>,
    /// Whether lapin's parser could not read the incoming bytes.
    unreadable: bool,
    up: Option<Up>,
}

/// A connection that is up. Dropped, it tells the listeners how it ended: closed by the application, unless it was
/// lost.
struct Up {
    shared: Arc<ConnectionShared>,
    end: ConnectionEvent,
}

impl Up {
    fn new(shared: &Arc<ConnectionShared>, took: Duration) -> Self {
        shared.events.tell(&ConnectionEvent::Connected { took });
        Self { shared: Arc::clone(shared), end: ConnectionEvent::Closed }
    }

    fn lost(mut self, code: Option<u16>) {
        self.end = ConnectionEvent::Lost { code };
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.shared.events.tell(&self.end);
    }
}

/// The child specification of a connection's socket: permanent, restarted without limit, with the broker's backoff.
pub(crate) fn spec(shared: &Arc<ConnectionShared>) -> ActorSpec<ConnectionActor> {
    let factory = {
        let shared = Arc::clone(shared);
        move || ConnectionActor { shared: Arc::clone(&shared), socket: None, unreadable: false, up: None }
    };
    let heard = Arc::clone(shared);
    ActorSpec::new("socket", factory)
        .reports_ready()
        .logs_exits(|_| true)
        .observe(move |event| heard.outage.hear(&event.what))
        .backoff(backoff(&shared.broker))
        .shutdown(shared.broker.close_timeout + Duration::from_secs(1))
}

/// After a lost connection another endpoint is tried at once.
fn backoff(broker: &Broker) -> Backoff {
    if broker.endpoints.len() > 1 { broker.reconnect.first_at_once() } else { broker.reconnect }
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let shared = Arc::clone(&self.shared);
        let begun = Instant::now();
        let opening = async move { open(&shared).await };
        ctx.spawn(opening.into_actor(self).map(move |opened, actor, ctx| match opened {
            Ok((socket, endpoint)) => actor.opened(socket, &endpoint, begun.elapsed(), ctx),
            Err(error) => ctx.fail(error),
        }));
    }

    /// Closes the connection with `connection.close`, within the broker's `close_timeout`, then stops.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        self.shared.standing.down();
        match self.socket.take() {
            Some(socket) if socket.connection.status().connected() => {
                self.shared.outage.back();
                let limit = self.shared.broker.close_timeout;
                let connection = self.shared.name.clone();
                let closing = async move {
                    let begun = Instant::now();
                    match socket.close("closed by the application", limit).await {
                        Ok(()) => tracing::info!(%connection, took = ?begun.elapsed(), "connection closed"),
                        Err(why) => {
                            tracing::warn!(%connection, %why, "not closed in order: its socket is shut down")
                        }
                    }
                };
                ctx.spawn(closing.into_actor(self).map(|(), _, ctx| ctx.stop()));
                Running::Continue
            }
            Some(_) => {
                // It was lost, and nobody has noticed yet.
                self.lose(None, "the socket is gone");
                Running::Stop
            }
            None => Running::Stop,
        }
    }
}

/// Connects, then declares the topology, so that no publisher or consumer starts before its exchange or queue exists.
async fn open(shared: &ConnectionShared) -> Result<(Socket, Endpoint), ExitError> {
    let name = format!("{}/{}", shared.broker.name, shared.name);
    let connected = socket::connect(&shared.broker, &name, &shared.turn).await;
    let (socket, endpoint) = connected.map_err(|error| refused(shared, error))?;
    shared.learned.connected(socket.connection.configuration().channel_max());
    if let Some(error) = shared.too_many_channels() {
        return Err(ExitError::permanent(error));
    }
    if let Err(error) = declare_shared(shared, &socket).await {
        shared.turn.failed(socket.address);
        return Err(error);
    }
    Ok((socket, endpoint))
}

fn refused(shared: &ConnectionShared, error: ConnectError) -> ExitError {
    let connected_before = shared.learned.has_connected();
    match error.class(connected_before) {
        Class::Permanent => ExitError::permanent(error),
        Class::Transient | Class::Contention => {
            if connected_before && error.is_about_tls() {
                shared.outage.refused_certificate();
            }
            ExitError::transient(error)
        }
    }
}

impl ConnectionActor {
    fn opened(&mut self, socket: Socket, endpoint: &Endpoint, took: Duration, ctx: &mut Context<Self>) {
        self.shared.connects.fetch_add(1, Ordering::Relaxed);
        *self.shared.frame_max.lock().unwrap_or_else(PoisonError::into_inner) = socket.frame_max();
        self.shared.standing.up(socket.connection.status().clone(), endpoint, &socket.peer);
        let topology = self.shared.topology.get();
        self.shared.outage.up(endpoint, (topology.exchanges().len(), topology.queues().len()));
        ctx.add_stream(socket.connection.events_listener());
        self.socket = Some(Rc::new(socket));
        self.up = Some(Up::new(&self.shared, took));
        ctx.run_interval(SELF_CHECK, |actor, ctx| {
            actor.check(None, ctx);
            actor.shared.outage.look();
            actor.declare_again(ctx);
        });
        ctx.run_interval(CHANNELS_CHECK, |actor, _| {
            if actor.shared.open_channels.has_closed() {
                // The watchers of all channels look at their own.
                actor.shared.pulse.send_modify(|_| {});
            }
        });
        ctx.ready();
    }

    /// Declares again what is missing or could not be reached, if there is anything.
    fn declare_again(&mut self, ctx: &mut Context<Self>) {
        let Some(socket) = self.socket.clone() else { return };
        let shared = Arc::clone(&self.shared);
        let declaring = async move { declare_again(&shared, &socket).await };
        ctx.spawn(declaring.into_actor(self).map(|declared, _, ctx| {
            if let Err(error) = declared {
                ctx.fail(error);
            }
        }));
    }

    /// Tells the listeners and the log that the connection is lost.
    fn lose(&mut self, code: Option<u16>, cause: &str) {
        self.up.take().into_iter().for_each(|up| up.lost(code));
        self.shared.outage.lost(self.shared.standing.now().endpoint.as_deref(), cause);
    }

    /// Ends this incarnation if the connection is lost.
    fn check(&mut self, cause: Option<&lapin::Error>, ctx: &mut Context<Self>) {
        let lost = self.socket.as_ref().is_some_and(|socket| !socket.connection.status().connected());
        if lost {
            let code = cause.and_then(reply).map(|(code, _)| code);
            let cause =
                cause.map_or_else(|| "the socket is gone".to_owned(), |error| ClientError(error.clone()).to_string());
            // Taken, so that the loss is counted once. The next connection is tried elsewhere first.
            self.socket.take().into_iter().for_each(|socket| self.shared.turn.failed(socket.address));
            self.shared.lost();
            self.lose(code, &cause);
            ctx.fail(ExitError::transient(ConnectionLost { connection: self.shared.name.clone(), cause }));
        }
    }
}

/// The connection was lost: the broker stopped or closed it, or the network failed.
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
                tracing::warn!(
                    connection = %self.shared.name, %reason,
                    "the broker blocks publishing: messages wait here until it has resources again"
                );
                self.shared.standing.set_blocked(Some(reason));
                self.shared.events.tell(&ConnectionEvent::Blocked);
            }
            Event::ConnectionUnblocked => {
                tracing::info!(connection = %self.shared.name, "the broker takes messages again");
                self.shared.standing.set_blocked(None);
                self.shared.events.tell(&ConnectionEvent::Unblocked);
            }
            Event::Error(error) => {
                // lapin reports a parsing error more than once.
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

    /// Called when lapin's event stream ends, which it does with the connection.
    fn finished(&mut self, ctx: &mut Self::Context) {
        self.check(None, ctx);
    }
}

/// Asks the connection to leave its node for another one, because the node answers and does no work. Ignored if the
/// broker has one endpoint only.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaveNode {
    pub(crate) cause: String,
}

impl Handler<LeaveNode> for ConnectionActor {
    type Result = ();

    fn handle(&mut self, LeaveNode { cause }: LeaveNode, ctx: &mut Self::Context) {
        if self.shared.broker.endpoints.len() < 2 {
            return;
        }
        let Some(socket) = self.socket.take() else { return };
        self.shared.standing.down();
        self.shared.turn.failed(socket.address);
        self.shared.lost();
        self.lose(None, &cause);
        let (connection, limit) = (self.shared.name.clone(), self.shared.broker.close_timeout);
        // Beside the next connection, because the node may not answer.
        actix::spawn(async move {
            if let Err(why) = socket.close("its node confirms nothing", limit).await {
                tracing::debug!(%connection, %why, "not closed in order: its socket is shut down");
            }
        });
        ctx.fail(ExitError::transient(ConnectionLost { connection: self.shared.name.clone(), cause }));
    }
}

/// Asks for a new channel on the connection.
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
                // The broker refuses the channel if slots beyond its limit were given out while the socket was opening.
                Err(OperationError::Failed(error)) => Err(match shared.too_many_channels() {
                    Some(too_many) => ExitError::permanent(too_many),
                    None => ExitError::transient(ClientError(error)),
                }),
                Err(OperationError::Unanswered(_)) => Err(lost("channel.open was not answered in time")),
            }
        })
    }
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
                Declare::Shared => declare_shared(&shared, &socket).await,
                Declare::Added => declare_added(&shared, &socket).await,
                Declare::Exclusive(queues) => declare_exclusive(&shared, &socket, queues).await,
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::link::topology_store::TopologyStore;

    /// The state of a connection that is never established.
    pub(crate) fn shared() -> Arc<ConnectionShared> {
        let broker = Broker::new("amqp://localhost").unwrap();
        ConnectionShared::new(
            "consume-0".to_owned(),
            Arc::new(broker),
            TopologyStore::new(crate::topology::Topology::new()),
            Arc::default(),
        )
    }
}
