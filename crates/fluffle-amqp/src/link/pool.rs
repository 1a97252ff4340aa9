//! Connections, and places for channels on them.
//!
//! Publishing and consuming never share a socket: a broker that blocks publishers (`connection.blocked`) stops reading
//! from their sockets, and an ack on such a socket would wait with them (RabbitMQ, "Memory and Disk Alarms").

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use actix_rt::ArbiterHandle;
use fluffle_supervise::{Intensity, Strategy, SupervisedAddr, SupervisorHandle, SupervisorSpec};
use tokio::{sync::Notify, time::Instant};

use crate::link::{
    broker::Broker,
    connection::{self, ConnectionActor, ConnectionShared, Learned, TopologyStore},
    pending_starts::PendingStarts,
};

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishers, requesters, and the copies that settlements publish.
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

/// No channel could be had in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Every channel of every connection is taken.
    #[error(
        "no {role} channel within {waited:?}: {connections} connections with {channels} channels each are all taken; \
         raise PoolConfig::max_connections, or PoolConfig::channels and `channel_max`, in the URI and at the broker"
    )]
    Exhausted {
        /// What for.
        role: Role,
        /// Connections open.
        connections: usize,
        /// Most channels on each.
        channels: usize,
        /// How long was waited.
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
    orders: PendingStarts,
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
    extra: bool,
    /// Nothing else is put on it.
    alone: bool,
    channels: usize,
    idle_since: Instant,
    place: PooledConnection,
}

/// Where a channel can be opened.
#[derive(Clone)]
pub(crate) struct PooledConnection {
    pub(crate) shared: Arc<ConnectionShared>,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
    /// The supervisor its channels live under.
    pub(crate) channels: SupervisorHandle,
}

/// A place taken; dropping it gives the place back.
pub(crate) struct ConnectionSlot {
    pub(crate) place: PooledConnection,
    slot: String,
    pool: Weak<Pool>,
}

impl Pool {
    /// The pool and the specification of its supervisor, with the connections that are always open as its children.
    pub(crate) fn new(
        role: Role,
        broker: &Arc<Broker>,
        topology: &Arc<TopologyStore>,
        learned: &Arc<Learned>,
        io: &ArbiterHandle,
        orders: &PendingStarts,
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
            orders: orders.clone(),
            slots: Mutex::new(slots),
            released: Notify::new(),
        });
        (pool, spec)
    }

    /// A place for one channel, on the connection with the fewest: on a new one if all have `spread` and one more is
    /// allowed, else on the first that is given back within `acquire_timeout`.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<ConnectionSlot, PoolError> {
        let limits = &self.broker.pool;
        let deadline = Instant::now() + limits.acquire_timeout;
        loop {
            let released = self.released.notified();
            if let Some(lease) = self.take(limits.spread.min(limits.channels)) {
                return Ok(lease);
            }
            if let Some(child) = self.extra() {
                // Not awaited: a caller that goes away in between would leave a place without a connection.
                self.orders.place(self.supervisor.clone(), child);
                continue;
            }
            if let Some(lease) = self.take(limits.channels) {
                return Ok(lease);
            }
            if crate::base::clock::timeout_at(deadline, released).await.is_err() {
                return Err(self.exhausted());
            }
        }
    }

    /// A place for one channel on a new connection that nothing else is put on, however many there are: for a consumer
    /// whose messages end connections.
    pub(crate) fn lease_alone(self: &Arc<Self>) -> ConnectionSlot {
        let (lease, child) = {
            let mut slots = self.slots();
            let (mut slot, child) = slots.make(self.role, &self.broker, &self.topology, &self.learned, &self.io, true);
            slot.alone = true;
            slot.set_channels(1);
            let lease = ConnectionSlot { place: slot.place.clone(), slot: slot.id.clone(), pool: Arc::downgrade(self) };
            slots.open.push(slot);
            (lease, child)
        };
        self.orders.place(self.supervisor.clone(), child);
        lease
    }

    /// On the connection with the fewest, if that is fewer than `limit`.
    fn take(self: &Arc<Self>, limit: usize) -> Option<ConnectionSlot> {
        let limit = limit.max(1).min(self.most_places());
        let mut slots = self.slots();
        let slot = slots
            .open
            .iter_mut()
            .filter(|slot| slot.channels < limit && !slot.alone)
            .min_by_key(|slot| slot.channels)?;
        slot.set_channels(slot.channels + 1);
        Some(ConnectionSlot { place: slot.place.clone(), slot: slot.id.clone(), pool: Arc::downgrade(self) })
    }

    fn extra(&self) -> Option<SupervisorSpec> {
        let mut slots = self.slots();
        if slots.open.iter().filter(|slot| !slot.alone).count()
            >= self.broker.pool.max_connections.max(self.broker.pool.connections)
        {
            return None;
        }
        let (slot, child) = slots.make(self.role, &self.broker, &self.topology, &self.learned, &self.io, true);
        tracing::info!(connection = %slot.id, "each connection has its share of channels: opening another");
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

    /// Closes the extra connections that have had no channel for the idle time.
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
            tracing::info!(connection = %id, ?idle, "closing an extra connection without channels");
            // Gone already is just as well.
            let _ = self.supervisor.stop_child(&id).await;
        }
    }

    fn exhausted(&self) -> PoolError {
        let (connections, waited) = (self.slots().open.len(), self.broker.pool.acquire_timeout);
        PoolError::Exhausted { role: self.role, connections, channels: self.most_places(), waited }
    }

    /// Most channels on one connection: what the pool, the URIs and the broker, once it is known, all allow.
    fn most_places(&self) -> usize {
        let Broker { endpoints, pool, .. } = &*self.broker;
        let asked = endpoints.iter().filter_map(|endpoint| endpoint.channel_max).map(connection::most_places).min();
        [asked, self.learned.most_places()].into_iter().flatten().fold(pool.channels.max(1), usize::min)
    }

    /// The connections open now, always open ones first.
    pub(crate) fn connections(&self) -> Vec<Arc<ConnectionShared>> {
        self.slots().open.iter().map(|slot| Arc::clone(&slot.place.shared)).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn set_channels(&mut self, channels: usize) {
        self.channels = channels;
        self.place.shared.places.store(channels, Ordering::SeqCst);
    }
}

impl Slots {
    /// A connection and its supervisor: the socket first, then its channels; a lost socket takes the channels down, a
    /// closed channel leaves the socket alone (rest-for-one).
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
        let place = PooledConnection { shared, connection, channels: channels.handle() };
        let spec = SupervisorSpec::new(id.as_str())
            .strategy(Strategy::RestForOne)
            .intensity(Intensity::unlimited())
            .child(socket)
            .child(channels);
        (Slot { id, extra, alone: false, channels: 0, idle_since: Instant::now(), place }, spec)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(&self.slot);
        }
    }
}
