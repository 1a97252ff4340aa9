//! How a connection stands: whether it is up, since when, with which endpoint, and whether the broker blocks it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lapin::ConnectionStatus;
use tokio::sync::watch;

use crate::link::{endpoint::Endpoint, sanitizer::Peer};

/// The standing of one connection, which outlives its sockets.
pub(crate) struct Standing {
    facts: Mutex<Facts>,
    /// The broker's reason while it blocks publishing on this connection (`connection.blocked`); `None` while it does
    /// not.
    blocked: watch::Sender<Option<String>>,
}

struct Facts {
    status: Option<ConnectionStatus>,
    /// When the socket came up, or was last found to be down.
    since: Instant,
    /// Of the present socket, or of the last one. Without credentials.
    endpoint: Option<Arc<str>>,
    blocked_since: Option<Instant>,
    /// What the broker of the present socket, or of the last one, says of itself.
    peer: Option<Peer>,
}

/// The standing at one moment.
pub(crate) struct Stands {
    pub(crate) is_up: bool,
    pub(crate) since: Instant,
    pub(crate) endpoint: Option<Arc<str>>,
    /// The broker's reason, and since when.
    pub(crate) blocked: Option<(String, Instant)>,
    pub(crate) peer: Option<Peer>,
}

impl Standing {
    pub(crate) fn new() -> Self {
        let facts = Facts { status: None, since: Instant::now(), endpoint: None, blocked_since: None, peer: None };
        Self { facts: Mutex::new(facts), blocked: watch::Sender::new(None) }
    }

    /// A socket is up. `status` is the client's own, which may say sooner than anybody that the socket is lost.
    pub(crate) fn up(&self, status: ConnectionStatus, endpoint: &Endpoint, peer: &Peer) {
        let mut facts = self.facts();
        facts.peer = Some(peer.clone());
        (facts.status, facts.since, facts.endpoint) = (Some(status), Instant::now(), Some(endpoint.place().into()));
    }

    /// There is no socket. Only the first call since it was up counts.
    pub(crate) fn down(&self) {
        self.set_blocked(None);
        let mut facts = self.facts();
        if facts.status.take().is_some() {
            facts.since = Instant::now();
        }
    }

    /// What the broker says of itself; `None` before the first socket is up.
    pub(crate) fn peer(&self) -> Option<Peer> {
        self.facts().peer.clone()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.facts().status.as_ref().is_some_and(ConnectionStatus::connected)
    }

    /// The broker blocks publishing, for this reason, or no longer.
    pub(crate) fn set_blocked(&self, reason: Option<String>) {
        self.facts().blocked_since = reason.as_ref().map(|_| Instant::now());
        self.blocked.send_replace(reason);
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// The broker's reason, now and after each change.
    pub(crate) fn blocks(&self) -> watch::Receiver<Option<String>> {
        self.blocked.subscribe()
    }

    pub(crate) fn now(&self) -> Stands {
        let reason = self.blocked.borrow().clone();
        let facts = self.facts();
        Stands {
            is_up: facts.status.as_ref().is_some_and(ConnectionStatus::connected),
            since: facts.since,
            endpoint: facts.endpoint.clone(),
            blocked: reason.zip(facts.blocked_since),
            peer: facts.peer.clone(),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
