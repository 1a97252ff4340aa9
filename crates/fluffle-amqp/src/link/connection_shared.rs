//! The state of a connection that its channels watch.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::watch;

use crate::{
    base::{
        events::{ChannelEvent, ConnectionEvent},
        frame::FrameMax,
        observer::Listeners,
    },
    link::{
        broker::Broker, declarations::Declarations, endpoint_order::Turn, learned::Learned, losses::Losses,
        open_channels::OpenChannels, outage::Outage, standing::Standing, too_many_channels::TooManyChannels,
        topology_store::TopologyStore,
    },
};

/// The state that outlives the incarnations of one connection actor, and that its channels watch.
pub(crate) struct ConnectionShared {
    pub(crate) name: String,
    pub(crate) broker: Arc<Broker>,
    pub(crate) topology: Arc<TopologyStore>,
    pub(crate) standing: Standing,
    pub(crate) outage: Outage,
    /// The last error that lapin reported on the socket. lapin does not say on which channel it occurred.
    pub(crate) pulse: watch::Sender<Option<lapin::Error>>,
    pub(super) learned: Arc<Learned>,
    pub(super) events: Listeners<ConnectionEvent>,
    pub(super) turn: Turn,
    /// The largest frame of the present socket, or of the last one.
    pub(super) frame_max: Mutex<FrameMax>,
    /// The number of slots in use on this connection; the pool updates it.
    pub(crate) slots_in_use: AtomicUsize,
    pub(super) connects: AtomicU64,
    pub(super) losses: Losses,
    pub(super) declarations: Declarations,
    pub(super) open_channels: OpenChannels,
    /// How many times lapin's parser could not read the incoming bytes.
    pub(crate) deaths_in_parser: watch::Sender<u32>,
}

impl ConnectionShared {
    /// The state of a connection that has not been established yet. The connections of one service share `learned`.
    pub(crate) fn new(
        name: String,
        broker: Arc<Broker>,
        topology: Arc<TopologyStore>,
        learned: Arc<Learned>,
    ) -> Arc<Self> {
        let events = learned.observers.connection(&name);
        let outage = Outage::new(&name, &learned.away);
        Arc::new(Self {
            events,
            outage,
            turn: learned.endpoints.turn(),
            name,
            broker,
            topology,
            learned,
            standing: Standing::new(),
            pulse: watch::Sender::new(None),
            frame_max: Mutex::default(),
            slots_in_use: AtomicUsize::new(0),
            connects: AtomicU64::new(0),
            losses: Losses::default(),
            declarations: Declarations::default(),
            open_channels: OpenChannels::default(),
            deaths_in_parser: watch::Sender::new(0),
        })
    }

    /// The listeners to a channel on this connection that `name` uses.
    pub(crate) fn channel_events(&self, name: &str) -> Listeners<ChannelEvent> {
        self.learned.observers.channel(name, &self.name)
    }

    /// Whether the socket is up now.
    pub(crate) fn connected(&self) -> bool {
        self.standing.is_up()
    }

    /// How many times this connection has been established.
    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// How many times this connection was lost recently, within the life of this process. Each loss makes the broker
    /// redeliver every message that was unacked on the connection, and this is not the message's fault.
    pub(crate) fn losses(&self) -> u32 {
        self.losses.count()
    }

    /// Takes over the losses of `other`, the connection on which the same queue was consumed before.
    pub(crate) fn losses_before(&self, other: &Self) {
        self.losses.take_over(&other.losses);
    }

    /// Counts one loss of this connection.
    pub(crate) fn lost(&self) {
        self.losses.add();
    }

    /// The largest frame of the present socket, as negotiated with the broker. Before the first connect it is the size
    /// that a connection asks for by default.
    pub(crate) fn frame_max(&self) -> FrameMax {
        *self.frame_max.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why queues of the topology cannot be reached.
    pub(crate) fn unreached(&self) -> Vec<String> {
        self.learned.unreached.reasons()
    }

    /// The error if more slots are in use than the broker allows. That can happen because slots are given out before
    /// the broker's limit is known.
    pub(super) fn too_many_channels(&self) -> Option<TooManyChannels> {
        let (most, channels) = (self.learned.most_slots()?, self.slots_in_use.load(Ordering::SeqCst));
        let connection = self.name.clone();
        (channels > most).then_some(TooManyChannels { connection, channels, channel_max: most + 1 })
    }
}
