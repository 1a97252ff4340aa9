//! The connection pool: it opens connections and assigns each channel a slot on one of them.
//!
//! Publishing and consuming never share a socket. A broker that blocks publishers (`connection.blocked`) stops reading
//! from their sockets, and an ack on such a socket would wait with the messages (RabbitMQ, "Memory and Disk Alarms").

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use actix_rt::ArbiterHandle;
use fluffle_supervise::{Intensity, Strategy, SupervisedAddr, SupervisorHandle, SupervisorSpec};
use tokio::{sync::Notify, time::Instant};

use crate::{
    base::clock,
    link::{
        broker::Broker,
        connection::{self, ConnectionActor},
        connection_shared::ConnectionShared,
        learned::{Learned, most_slots},
        pending_starts::PendingStarts,
        topology_store::TopologyStore,
    },
};

/// The use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishers, requesters, and the copies for retries and dead letters.
    Publish,
    /// Consumers.
    Consume,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Publish => "publish",
            Role::Consume => "consume",
        })
    }
}

/// The pool had no free channel in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// All channels of all connections are in use.
    #[error(
        "no {role} channel within {waited:?}: {connections} connections with {channels} channels each are all taken; \
         raise PoolConfig::max_connections, or PoolConfig::channels and `channel_max`, in the URI and at the broker"
    )]
    Exhausted {
        /// The use that a channel was wanted for.
        role: Role,
        /// The number of open connections.
        connections: usize,
        /// The most channels on each connection.
        channels: usize,
        /// How long the caller has waited.
        waited: Duration,
    },
}

/// The connections of one role.
pub(crate) struct Pool {
    role: Role,
    broker: Arc<Broker>,
    topology: Arc<TopologyStore>,
    learned: Arc<Learned>,
    io: ArbiterHandle,
    supervisor: SupervisorHandle,
    pending_starts: PendingStarts,
    slots: Mutex<Slots>,
    released: Notify,
}

#[derive(Default)]
struct Slots {
    next: usize,
    open: Vec<Slot>,
}

struct Slot {
    id: String,
    /// Whether the connection is closed when it has no channel for `idle_timeout`.
    extra: bool,
    /// Whether the connection is reserved for one channel.
    alone: bool,
    /// Slots in use.
    channels: usize,
    /// When a slot was last freed; only read while no slot is in use.
    idle_since: Instant,
    connection: PooledConnection,
}

/// A connection of the pool, on which a channel can be opened.
#[derive(Clone)]
pub(crate) struct PooledConnection {
    pub(crate) shared: Arc<ConnectionShared>,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    /// The supervisor of its channels.
    pub(crate) channels: SupervisorHandle,
}

/// A slot for one channel on a connection. Dropping it frees the slot.
pub(crate) struct ConnectionSlot {
    pub(crate) place: PooledConnection,
    slot: String,
    pool: Weak<Pool>,
}

impl Pool {
    /// The pool, and the specification of its supervisor with the permanent connections as children.
    pub(crate) fn new(
        role: Role,
        broker: &Arc<Broker>,
        topology: &Arc<TopologyStore>,
        learned: &Arc<Learned>,
        io: &ArbiterHandle,
        pending_starts: &PendingStarts,
    ) -> (Arc<Self>, SupervisorSpec) {
        let mut slots = Slots::default();
        let mut spec = SupervisorSpec::new(role.to_string())
            .strategy(Strategy::OneForOne)
            .stops_together()
            .intensity(Intensity::unlimited());
        let handle = spec.handle();
        for _ in 0..broker.pool.connections.max(1) {
            let (slot, child) = slots.make(role, broker, topology, learned, io, false);
            slots.open.push(slot);
            spec = spec.child(child);
        }
        let pool = Arc::new(Self {
            role,
            broker: Arc::clone(broker),
            topology: Arc::clone(topology),
            learned: Arc::clone(learned),
            io: io.clone(),
            supervisor: handle,
            pending_starts: pending_starts.clone(),
            slots: Mutex::new(slots),
            released: Notify::new(),
        });
        (pool, spec)
    }

    /// A slot for one channel, on the connection with the fewest channels. If all connections have `spread` channels
    /// and one more connection is allowed, the slot is on a new connection; else it is the first slot that becomes free
    /// within `acquire_timeout`.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<ConnectionSlot, PoolError> {
        let limits = &self.broker.pool;
        let deadline = Instant::now() + limits.acquire_timeout;
        loop {
            let released = self.released.notified();
            if let Some(slot) = self.take(limits.spread.min(limits.channels)) {
                return Ok(slot);
            }
            if let Some(child) = self.extra() {
                // Not awaited: if the caller were dropped meanwhile, the pool would have a slot without a connection.
                self.pending_starts.place(self.supervisor.clone(), child);
                continue;
            }
            if let Some(slot) = self.take(limits.channels) {
                return Ok(slot);
            }
            if clock::timeout_at(deadline, released).await.is_err() {
                return Err(self.exhausted());
            }
        }
    }

    /// A slot on a new connection that no other channel gets, whatever the number of connections: for a consumer whose
    /// messages end connections.
    pub(crate) fn lease_alone(self: &Arc<Self>) -> ConnectionSlot {
        let (reserved, child) = {
            let mut slots = self.slots();
            let (mut slot, child) = slots.make(self.role, &self.broker, &self.topology, &self.learned, &self.io, true);
            slot.alone = true;
            slot.set_channels(1);
            let reserved =
                ConnectionSlot { place: slot.connection.clone(), slot: slot.id.clone(), pool: Arc::downgrade(self) };
            slots.open.push(slot);
            (reserved, child)
        };
        self.pending_starts.place(self.supervisor.clone(), child);
        reserved
    }

    /// A slot on the connection with the fewest channels, if it has fewer than `limit`.
    fn take(self: &Arc<Self>, limit: usize) -> Option<ConnectionSlot> {
        let limit = limit.max(1).min(self.most_slots());
        let mut slots = self.slots();
        let slot = slots
            .open
            .iter_mut()
            .filter(|slot| slot.channels < limit && !slot.alone)
            .min_by_key(|slot| slot.channels)?;
        slot.set_channels(slot.channels + 1);
        Some(ConnectionSlot { place: slot.connection.clone(), slot: slot.id.clone(), pool: Arc::downgrade(self) })
    }

    fn extra(&self) -> Option<SupervisorSpec> {
        let mut slots = self.slots();
        if slots.open.iter().filter(|slot| !slot.alone).count()
            >= self.broker.pool.max_connections.max(self.broker.pool.connections)
        {
            return None;
        }
        let (slot, child) = slots.make(self.role, &self.broker, &self.topology, &self.learned, &self.io, true);
        tracing::info!(connection = %slot.id, "all connections have their share of channels: this one is opened too");
        slots.open.push(slot);
        Some(child)
    }

    fn give_back(self: &Arc<Self>, id: &str) {
        let mut slots = self.slots();
        if let Some(slot) = slots.open.iter_mut().find(|slot| slot.id == id) {
            slot.set_channels(slot.channels - 1);
            slot.idle_since = Instant::now();
            if slot.extra && slot.channels == 0 {
                let pool = Arc::downgrade(self);
                let idle = self.broker.pool.idle_timeout;
                self.io.spawn(async move {
                    tokio::time::sleep(idle).await;
                    if let Some(pool) = pool.upgrade() {
                        pool.close_idle().await;
                    }
                });
            }
        }
        drop(slots);
        self.released.notify_one();
    }

    /// Closes the extra connections that have had no channel for `idle_timeout`.
    async fn close_idle(&self) {
        let idle = self.broker.pool.idle_timeout;
        let closing: Vec<String> = {
            let mut slots = self.slots();
            let over = |slot: &Slot| slot.extra && slot.channels == 0 && slot.idle_since.elapsed() >= idle;
            let ids = slots.open.iter().filter(|slot| over(slot)).map(|slot| slot.id.clone()).collect();
            slots.open.retain(|slot| !over(slot));
            ids
        };
        for id in closing {
            tracing::info!(connection = %id, ?idle, "an extra connection without channels is closed");
            // An error means that the connection has ended by itself.
            let _ = self.supervisor.stop_child(&id).await;
        }
    }

    fn exhausted(&self) -> PoolError {
        let (connections, waited) = (self.slots().open.len(), self.broker.pool.acquire_timeout);
        PoolError::Exhausted { role: self.role, connections, channels: self.most_slots(), waited }
    }

    /// The most channels on one connection: the least of the limits of the pool, of the URIs and, once it is known, of
    /// the broker.
    fn most_slots(&self) -> usize {
        let Broker { endpoints, pool, .. } = &*self.broker;
        let asked = endpoints.iter().filter_map(|endpoint| endpoint.channel_max).map(most_slots).min();
        [asked, self.learned.most_slots()].into_iter().flatten().fold(pool.channels.max(1), usize::min)
    }

    pub(crate) fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.broker)
    }

    /// A connection that is up and has room for one more channel than it has slots in use.
    pub(crate) fn with_room(&self) -> Option<PooledConnection> {
        let most = self.learned.most_slots()?;
        let has_room = |slot: &&Slot| slot.connection.shared.connected() && slot.channels < most;
        self.slots().open.iter().find(has_room).map(|slot| slot.connection.clone())
    }

    /// The connections that are open now, the permanent ones first.
    pub(crate) fn connections(&self) -> Vec<Arc<ConnectionShared>> {
        self.slots().open.iter().map(|slot| Arc::clone(&slot.connection.shared)).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn set_channels(&mut self, channels: usize) {
        self.channels = channels;
        self.connection.shared.slots_in_use.store(channels, Ordering::SeqCst);
    }
}

impl Slots {
    /// A connection and its supervisor, with the socket as the first child and the supervisor of the channels as the
    /// second (rest-for-one): a lost socket takes the channels down, a closed channel leaves the socket alone.
    fn make(
        &mut self,
        role: Role,
        broker: &Arc<Broker>,
        topology: &Arc<TopologyStore>,
        learned: &Arc<Learned>,
        io: &ArbiterHandle,
        extra: bool,
    ) -> (Slot, SupervisorSpec) {
        let id = format!("{role}-{}", self.next);
        self.next += 1;
        let shared = ConnectionShared::new(id.clone(), Arc::clone(broker), Arc::clone(topology), Arc::clone(learned));
        let socket = connection::spec(&shared).on(io.clone());
        let connection = socket.addr();
        let channels = SupervisorSpec::new("channels")
            .strategy(Strategy::OneForOne)
            .stops_together()
            .intensity(Intensity::unlimited());
        let pooled = PooledConnection { shared, connection, channels: channels.handle() };
        let spec = SupervisorSpec::new(id.as_str())
            .strategy(Strategy::RestForOne)
            .intensity(Intensity::unlimited())
            .child(socket)
            .child(channels);
        (Slot { id, extra, alone: false, channels: 0, idle_since: Instant::now(), connection: pooled }, spec)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(&self.slot);
        }
    }
}
