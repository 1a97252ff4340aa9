//! One consumer of the tree, from when it is added until it is removed or the service ends.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    base::clock,
    consume::session::settings::SharedSettings,
    link::{channel::ChannelShared, connection::ConnectionShared, pending_starts::Started, pool::ConnectionSlot},
    publish::send_queue::SendQueue,
    service::{
        claims::{Name, TypeClaim},
        threads::HandlerThreads,
    },
};

/// How often consumers that are to come to rest are looked at. Nobody looks while none is.
const LOOK: Duration = Duration::from_millis(10);

/// A consumer of a queue, or one of its lanes.
pub(crate) struct Consumer {
    pub(super) name: Arc<Name>,
    pub(super) now: Arc<Now>,
    /// Has the task that keeps its place take it down.
    pub(super) remove: Mutex<Option<oneshot::Sender<Removed>>>,
    pub(super) _copies: CopiesPublisher,
    pub(super) threads: HandlerThreads,
    /// Of all lanes of one consumer.
    pub(super) _claim: Arc<TypeClaim>,
}

/// Sent when a consumer has been taken out of its connection.
pub(super) type Removed = oneshot::Sender<()>;

/// What is another value once the consumer was moved to a connection of its own.
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

/// The place of a consumer in the tree.
pub(super) struct Placed {
    pub(super) name: Arc<Name>,
    pub(super) settings: Arc<SharedSettings>,
    pub(super) channel: Arc<ChannelShared>,
    pub(super) lease: ConnectionSlot,
    pub(super) started: Started,
    pub(super) now: Arc<Now>,
}

impl Placed {
    /// Takes the consumer and its channel out of the tree. The connection may be away: its supervisor takes the order
    /// when the connection is back, before it opens the channel for long, and the consumer is paused.
    pub(super) async fn take_down(self) {
        self.started.wait().await;
        // Gone already is just as well: the service is shutting down.
        let _ = self.lease.place.channels.stop_child(&self.name).await;
    }
}

/// The publisher of a consumer's copies and answers. Dropped, it is closed when what it has accepted is confirmed.
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

    /// Of a consumer that is paused: `None` when it is at rest, and how many messages it has in hand before that.
    fn in_hand(&self) -> Option<usize> {
        let settings = self.settings();
        let engaged = settings.engaged.load(SeqCst);
        if !engaged && !settings.rules.acks_on_arrival() {
            // Its channel was lost: what no handler has begun is the broker's again. No session is there to say so
            // while the broker is away.
            settings.handler_queue.clear();
        }
        let unanswered = settings.handler_queue.unanswered();
        match engaged {
            true => Some(unanswered.max(settings.held.load(SeqCst))),
            false => Some(unanswered).filter(|unanswered| *unanswered > 0),
        }
    }
}

/// Waits until all of these are at rest, no longer than `limit`; `Err` with how many messages they have in hand then.
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
