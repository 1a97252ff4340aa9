//! Publishers and requesters that no service runs yet. Their handles accept messages at once. The messages are sent
//! when a service runs the part.

use std::{sync::Arc, time::Duration};

use crate::{
    base::payload::Payload,
    publish::{
        batcher::Batcher,
        forwarder::Forwarder,
        journal::Ledger,
        publisher::{Publisher, PublisherChannel},
        route::{CONFIRM_TIMEOUT, Confirms, Route},
        send_queue::{OpenBatches, SendQueue, SendSettings},
    },
    request::{actor::RequestTable, requester::Requester},
    service::error::ServiceError,
};

/// The time limit for the confirm of a forwarded message.
const FORWARD_WITHIN: Duration = Duration::from_secs(30);

/// A publisher that is to be added to a service, without its message type.
pub struct PublisherPart {
    /// One send queue for each lane.
    pub(crate) send_queues: Vec<Arc<SendQueue>>,
    pub(crate) confirms: bool,
    /// The error if the publisher's settings exclude one another or its journal is in use; else `None`.
    pub(crate) refused: Option<ServiceError>,
}

/// If the part is dropped before a service has adopted its queues, they refuse new messages and return those that wait
/// to their callers, because nothing can send them any more.
impl Drop for PublisherPart {
    fn drop(&mut self) {
        self.send_queues.iter().for_each(|send_queue| send_queue.close_unborn());
    }
}

impl PublisherPart {
    /// Makes a publisher's handle, and the part that a service needs to run the publisher. The handle accepts messages
    /// at once. If the route sets no name, the publisher's name in the tree is that of its exchange, or of its queue if
    /// it publishes directly to a queue.
    pub fn new<T: 'static>(mut route: Route<T>) -> (Publisher<T>, Self) {
        if route.journal.is_some() && route.confirms == Confirms::Off {
            // A journal needs confirms: a message must stay on the disk until the broker has confirmed it. Without
            // confirms the publisher only knows that the message was written to the socket.
            route.confirms = Confirms::Window(1024);
        }
        let name = route.name_in_tree();
        let confirms = route.confirms != Confirms::Off;
        let (ledger, refused) = match route.journal.clone() {
            Some(_) if route.lanes > 1 => {
                let why =
                    "a journal keeps one order for all its messages, and lanes do not; remove `journal` or `lanes`";
                (None, Some(ServiceError::Contradiction { of: name.clone(), why: why.into() }))
            }
            Some(journal) => match Ledger::new(journal, route.max_bytes) {
                None => (None, Some(ServiceError::JournalInUse(name.clone()))),
                ledger => (ledger, None),
            },
            None => (None, None),
        };
        let others = (1..route.lanes).map(|_| lane(&route, name.clone(), None)).collect::<Vec<_>>();
        let first = lane(&route, name, ledger);
        let send_queues = std::iter::once(&first).chain(&others).map(|lane| Arc::clone(&lane.send_queue)).collect();
        (Publisher::new(route, first, others), Self { send_queues, confirms, refused })
    }

    /// Makes a forwarder's handle, and the part that a service needs to run the forwarder. `name` is its name in
    /// the tree.
    pub fn forwarder(name: impl Into<String>) -> (Forwarder, Self) {
        let send_queue = SendQueue::new(name.into(), 1024, 1024, CONFIRM_TIMEOUT);
        (Forwarder::new(Arc::clone(&send_queue), FORWARD_WITHIN), Self::plain(send_queue))
    }

    /// Makes the publisher of a consumer's retry copies, dead letters and answers.
    pub(crate) fn copies(consumer: &str, confirm_timeout: Duration) -> (Arc<SendQueue>, Self) {
        let send_queue = SendQueue::new(format!("{consumer}/copies"), 256, 256, confirm_timeout);
        (Arc::clone(&send_queue), Self::plain(send_queue))
    }

    fn plain(send_queue: Arc<SendQueue>) -> Self {
        Self { send_queues: vec![send_queue], confirms: true, refused: None }
    }
}

fn lane<T: 'static>(route: &Route<T>, name: String, journal: Option<Ledger>) -> PublisherChannel<T> {
    let batcher = route.batching.map(|batching| Arc::new(Batcher::new(route, batching)));
    let send_queue = SendQueue::with(SendSettings {
        name,
        mailbox: route.mailbox,
        window: route.window(),
        confirm_limit: route.confirm_timeout,
        bytes: route.max_bytes,
        journal,
        batches: batcher.clone().map(|batcher| batcher as Arc<dyn OpenBatches>),
        republish: route.republish,
    });
    PublisherChannel { send_queue, batcher }
}

/// A requester that is to be added to a service, without its message types.
pub struct RequesterPart {
    /// One table; empty after a service has adopted it.
    pub(crate) request_tables: Vec<Arc<RequestTable>>,
}

/// If the part is dropped before a service has adopted its request table, the waiting requests fail, because nothing
/// can send them any more.
impl Drop for RequesterPart {
    fn drop(&mut self) {
        self.request_tables.iter().for_each(|table| table.close_unborn());
    }
}

impl RequesterPart {
    /// Makes a requester's handle, and the part that a service needs to run the requester.
    pub fn new<Q, R: Payload>(route: Route<Q>) -> (Requester<Q, R>, Self) {
        let (requester, table) = Requester::new(route);
        (requester, Self { request_tables: vec![table] })
    }
}
