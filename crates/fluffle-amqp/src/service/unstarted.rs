//! What a handle and its actor share before there is a service: messages are taken at once, and leave when it runs.

use std::{sync::Arc, time::Duration};

use crate::{
    base::payload::Payload,
    publish::{
        batcher::Batcher,
        forwarder::Forwarder,
        journal::Ledger,
        publisher::{Publisher, PublisherChannel},
        route::{CONFIRM_TIMEOUT, Confirms, Key, Route},
        send_queue::{OpenBatches, SendQueue, SendSettings},
    },
    request::{actor::RequestTable, requester::Requester},
    service::error::ServiceError,
};

/// How long a forwarded message may take to be confirmed.
const FORWARD_WITHIN: Duration = Duration::from_secs(30);

/// A publisher to be added, its message type forgotten.
pub struct PublisherPart {
    /// One a lane.
    pub(crate) send_queues: Vec<Arc<SendQueue>>,
    pub(crate) confirms: bool,
    /// Why it cannot be had as it is.
    pub(crate) refused: Option<ServiceError>,
}

/// One that is dropped without a service takes no more, and hands back what it has: nothing can bring it to life any
/// more.
impl Drop for PublisherPart {
    fn drop(&mut self) {
        self.send_queues.iter().for_each(|send_queue| send_queue.close_unborn());
    }
}

impl PublisherPart {
    /// A publisher's handle and what a service needs to bring it to life; the handle takes messages already. In the
    /// tree it goes by its exchange, or by its queue when it publishes straight to one.
    pub fn new<T: 'static>(mut route: Route<T>) -> (Publisher<T>, Self) {
        if route.journal.is_some() && route.confirms == Confirms::Off {
            // What is only written to a socket may not leave the disk.
            route.confirms = Confirms::Window(1024);
        }
        let name = route.name.clone().unwrap_or_else(|| match &route.key {
            Key::Fixed(queue) if route.exchange.is_empty() => queue.to_string(),
            Key::By(_) if route.exchange.is_empty() => "queues".to_owned(),
            _ => route.exchange.to_string(),
        });
        let confirms = route.confirms != Confirms::Off;
        let (ledger, refused) = match route.journal.clone() {
            Some(_) if route.lanes > 1 => {
                let why = "a journal is one order for all it holds, and `lanes` are several: leave one of them";
                (None, Some(ServiceError::Contradiction { of: name.clone(), why }))
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

    /// A forwarder's handle, and what a service needs to bring it to life; in the tree it goes by `name`.
    pub fn forwarder(name: impl Into<String>) -> (Forwarder, Self) {
        let send_queue = SendQueue::new(name.into(), 1024, 1024, CONFIRM_TIMEOUT);
        (Forwarder::new(Arc::clone(&send_queue), FORWARD_WITHIN), Self::plain(send_queue))
    }

    /// The publisher of a consumer's retry copies, dead letters and answers.
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
    });
    PublisherChannel { send_queue, batcher }
}

/// A requester to be added, its message types forgotten.
pub struct RequesterPart {
    /// One, until a service has it.
    pub(crate) request_tables: Vec<Arc<RequestTable>>,
}

/// As [`PublisherPart`].
impl Drop for RequesterPart {
    fn drop(&mut self) {
        self.request_tables.iter().for_each(|table| table.close_unborn());
    }
}

impl RequesterPart {
    /// A requester's handle and what a service needs to bring it to life.
    pub fn new<Q, R: Payload>(route: Route<Q>) -> (Requester<Q, R>, Self) {
        let (requester, table) = Requester::new(route);
        (requester, Self { request_tables: vec![table] })
    }
}
