//! Which part of the topology a connection declares.

use std::time::Duration;

use actix::Message;
use fluffle_supervise::ExitError;
use tokio::time::timeout;

use crate::{
    link::{
        bounded::OPERATION_TIMEOUT,
        connection_shared::ConnectionShared,
        declare::{self, Scope},
        socket::Socket,
        unreached::Unreached,
    },
    topology::TopologyError,
};

/// How many added queues a connection declares before it is another one's turn.
const AT_ONCE: usize = 100;

/// How long a connection waits for its turn to declare what was added.
const TURN: Duration = Duration::from_secs(2);

/// Which part of the topology may be missing at the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Missing {
    #[default]
    Nothing,
    /// The queues that a consumer has added.
    Added,
    /// Any part: an entity was deleted.
    Unknown,
}

impl Missing {
    /// The declaration that creates what may be missing.
    pub(super) fn declaration(self) -> Option<Declare> {
        match self {
            Self::Nothing => None,
            Self::Added => Some(Declare::Added),
            Self::Unknown => Some(Declare::Shared),
        }
    }
}

/// Asks for a declaration of part of the topology.
#[derive(Message)]
#[rtype(result = "Result<(), ExitError>")]
pub(crate) enum Declare {
    /// Everything but exclusive queues.
    Shared,
    /// The added queues that no connection of this service has declared yet.
    Added,
    /// The exclusive queues of these names, and their bindings.
    Exclusive(Vec<String>),
}

async fn declare(shared: &ConnectionShared, socket: &Socket, scope: Scope<'_>) -> Result<Vec<Unreached>, ExitError> {
    let topology = shared.topology.get();
    let open = async || socket.connection.create_channel().await;
    let exists = |queue: &str| shared.learned.unreached.exists(queue);
    declare::declare(&topology, open, scope, Some(&socket.peer), exists, OPERATION_TIMEOUT).await.map_err(exit)
}

/// Declares everything but exclusive queues. Queues that cannot be reached are left for later, and so are those that
/// another connection could not reach, so that nothing else waits for them.
pub(super) async fn declare_shared(shared: &ConnectionShared, socket: &Socket) -> Result<(), ExitError> {
    let declaring = async {
        let without = shared.learned.unreached.names();
        let topology = shared.topology.get();
        let tried = topology.queues().filter(|queue| !queue.is_exclusive()).map(|queue| queue.name().to_owned());
        let tried: Vec<String> = tried.filter(|queue| !without.contains(queue)).collect();
        let unreached = declare(shared, socket, Scope::Shared { without: &without }).await?;
        found(shared, &tried, &unreached);
        Ok(())
    };
    shared.declarations.share(declaring).await
}

/// Declares the queues that were added to the topology and that no connection of this service has declared yet.
pub(super) async fn declare_added(shared: &ConnectionShared, socket: &Socket) -> Result<(), ExitError> {
    loop {
        // One connection at a time, so that each queue is declared once. One that takes too long is not waited for.
        let _turn = timeout(TURN, shared.learned.adding.lock()).await;
        let added = shared.topology.added(AT_ONCE);
        if added.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = added.iter().map(String::as_str).collect();
        let unreached = declare(shared, socket, Scope::Queues(&names)).await?;
        found(shared, &added, &unreached);
    }
}

fn found(shared: &ConnectionShared, tried: &[String], unreached: &[Unreached]) {
    shared.learned.unreached.found(tried, unreached);
    shared.topology.declared(tried);
}

/// Declares the topology if something of it is missing, or else, if it is time, the queues that could not be reached.
pub(super) async fn declare_again(shared: &ConnectionShared, socket: &Socket) -> Result<(), ExitError> {
    if shared.topology.take_wanted() {
        return declare_shared(shared, socket).await;
    }
    let due = shared.learned.unreached.due();
    if due.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = due.iter().map(String::as_str).collect();
    let unreached = declare(shared, socket, Scope::Queues(&names)).await?;
    found(shared, &due, &unreached);
    Ok(())
}

/// Declares exclusive queues.
pub(super) async fn declare_exclusive(
    shared: &ConnectionShared,
    socket: &Socket,
    queues: &[String],
) -> Result<(), ExitError> {
    let names: Vec<&str> = queues.iter().map(String::as_str).collect();
    match declare(shared, socket, Scope::Queues(&names)).await?.pop() {
        Some(unreached) => Err(exit(unreached.why)),
        None => Ok(()),
    }
}

fn exit(error: TopologyError) -> ExitError {
    if error.is_permanent() { ExitError::permanent(error) } else { ExitError::transient(error) }
}
