//! One consumer of the supervision tree, from the moment it is added until it is removed or the service ends.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    base::clock,
    consume::session::settings::SharedSettings,
    link::{
        channel::ChannelShared, connection_shared::ConnectionShared, pending_starts::Started, pool::ConnectionSlot,
    },
    publish::send_queue::SendQueue,
    service::{
        claims::{Name, TypeClaim},
        handler_place::HandlerPlace,
    },
};

/// How often [`at_rest`] checks whether paused consumers are at rest. Nothing polls when no one waits for a pause.
const LOOK: Duration = Duration::from_millis(10);

/// A consumer of a queue, or one of its lanes.
pub(crate) struct Consumer {
    pub(super) name: Arc<Name>,
    pub(super) now: Arc<Now>,
    /// Tells the task that keeps the consumer's slot to take the consumer down. `None` once this sender was used.
    pub(super) remove: Mutex<Option<oneshot::Sender<Removed>>>,
    pub(super) _copies: CopiesPublisher,
    pub(super) place: Arc<HandlerPlace>,
    /// Shared by all lanes of one consumer.
    pub(super) _claim: Arc<TypeClaim>,
}

/// Dropped when the consumer and its channel have been taken out of the tree. Nothing is ever sent.
pub(super) type Removed = oneshot::Sender<()>;

/// The consumer's current settings and connection. Both change when the consumer moves to a connection of its own (see
/// `isolation.rs`).
pub(crate) struct Now(Mutex<(Arc<SharedSettings>, Arc<ConnectionShared>)>);

impl Now {
    pub(super) fn new(settings: &Arc<SharedSettings>, connection: &Arc<ConnectionShared>) -> Arc<Self> {
        Arc::new(Self(Mutex::new((Arc::clone(settings), Arc::clone(connection)))))
    }

    pub(super) fn set(&self, settings: &Arc<SharedSettings>, connection: &Arc<ConnectionShared>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Arc::clone(settings), Arc::clone(connection));
    }

    fn get(&self) -> (Arc<SharedSettings>, Arc<ConnectionShared>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A consumer's place in the tree: its channel, and the slot on a connection that the channel uses.
pub(super) struct Placed {
    pub(super) name: Arc<Name>,
    pub(super) settings: Arc<SharedSettings>,
    pub(super) channel: Arc<ChannelShared>,
    pub(super) slot: ConnectionSlot,
    pub(super) started: Started,
    pub(super) now: Arc<Now>,
}

impl Placed {
    /// Takes the consumer and its channel out of the tree. If the connection is lost, its supervisor stops the channel
    /// only once the connection is back. The channel may be open for a moment then, but it delivers nothing, because
    /// the consumer is paused.
    pub(super) async fn take_down(self) {
        self.started.wait().await;
        // An error means that the child is gone already, because the service is shutting down.
        let _ = self.slot.place.channels.stop_child(&self.name).await;
    }
}

/// The publisher of a consumer's retry copies, dead letters and answers. After this value is dropped, the publisher
/// closes once every message that it has accepted is confirmed.
pub(super) struct CopiesPublisher(pub(super) Arc<SendQueue>);

impl Drop for CopiesPublisher {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Consumer {
    pub(super) fn settings(&self) -> Arc<SharedSettings> {
        self.now.get().0
    }

    pub(super) fn connection(&self) -> Arc<ConnectionShared> {
        self.now.get().1
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection().connected()
    }

    /// For a paused consumer: `None` if it is at rest, else the number of messages that it still has in hand.
    fn in_hand(&self) -> Option<usize> {
        let settings = self.settings();
        let engaged = settings.engaged.load(SeqCst);
        if !engaged && !settings.rules.acks_on_arrival() {
            // The channel was lost, so the broker requeues the deliveries that no handler has begun. While the broker
            // is away there is no session that clears the queue, so clear it here.
            settings.handler_queue.clear();
        }
        let unanswered = settings.handler_queue.unanswered();
        match engaged {
            true => Some(unanswered.max(settings.held.load(SeqCst))),
            false => Some(unanswered).filter(|unanswered| *unanswered > 0),
        }
    }
}

/// Waits until all `consumers` are at rest, at most for `limit`. If that time is over, returns `Err` with the number of
/// messages that they still have in hand.
pub(super) async fn at_rest(consumers: &[Arc<Consumer>], limit: Duration) -> Result<(), usize> {
    let deadline = Instant::now() + limit;
    loop {
        let in_hand: Vec<usize> = consumers.iter().filter_map(|consumer| consumer.in_hand()).collect();
        if in_hand.is_empty() {
            return Ok(());
        }
        let look = clock::sleep_until(Instant::now() + LOOK);
        if clock::timeout_at(deadline, look).await.is_err() {
            return Err(in_hand.into_iter().sum());
        }
    }
}
