//! What a handle and its actor share before there is a service: messages are taken at once, and leave when it runs.

use std::{sync::Arc, time::Duration};

use crate::{
    payload::Payload,
    publish::{
        batcher::Batcher,
        forwarder::Forwarder,
        journal::Ledger,
        outbox::{OpenBatches, Outbox, Terms},
        publisher::Publisher,
        route::{CONFIRM_TIMEOUT, Confirms, Key, Route},
    },
    request::{actor::Exchange, requester::Requester},
};

/// How long a forwarded message may take to be confirmed.
const FORWARD_WITHIN: Duration = Duration::from_secs(30);

/// A publisher to be added, its message type forgotten.
pub struct PublisherPart {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) confirms: bool,
    /// Its journal is another publisher's.
    pub(crate) in_use: bool,
}

impl PublisherPart {
    /// A publisher's handle and what a service needs to bring it to life; the handle takes messages already. In the tree it
    /// goes by its exchange, or by its queue when it publishes straight to one.
    pub fn new<T: 'static>(mut route: Route<T>) -> (Publisher<T>, Self) {
        if route.journal.is_some() && route.confirms == Confirms::Off {
            // What is only written to a socket may not leave the disk.
            route.confirms = Confirms::Window(1024);
        }
        let name = match &route.key {
            Key::Fixed(queue) if route.exchange.is_empty() => queue.to_string(),
            Key::By(_) if route.exchange.is_empty() => "queues".to_owned(),
            _ => route.exchange.to_string(),
        };
        let confirms = route.confirms != Confirms::Off;
        let journal = route.journal.clone();
        let (ledger, in_use) = match journal.map(Ledger::new) {
            Some(None) => (None, true),
            Some(ledger) => (ledger, false),
            None => (None, false),
        };
        let batcher = route.batching.map(|batching| Arc::new(Batcher::new(&route, batching)));
        let outbox = Outbox::with(Terms {
            name,
            mailbox: route.mailbox,
            window: route.window(),
            confirm_limit: route.confirm_timeout,
            bytes: route.max_bytes,
            journal: ledger,
            batches: batcher.clone().map(|batcher| batcher as Arc<dyn OpenBatches>),
        });
        (Publisher::new(route, Arc::clone(&outbox), batcher), Self { outbox, confirms, in_use })
    }

    /// A forwarder's handle, and what a service needs to bring it to life; in the tree it goes by `name`.
    pub fn forwarder(name: impl Into<String>) -> (Forwarder, Self) {
        let outbox = Outbox::new(name.into(), 1024, 1024, CONFIRM_TIMEOUT);
        (Forwarder::new(Arc::clone(&outbox), FORWARD_WITHIN), Self { outbox, confirms: true, in_use: false })
    }

    /// The publisher of a consumer's retry copies, dead letters and answers.
    pub(crate) fn copies(consumer: &str, confirm_timeout: Duration) -> (Arc<Outbox>, Self) {
        let outbox = Outbox::new(format!("{consumer}/copies"), 256, 256, confirm_timeout);
        (Arc::clone(&outbox), Self { outbox, confirms: true, in_use: false })
    }
}

/// A requester to be added, its message types forgotten.
pub struct RequesterPart(pub(crate) Arc<Exchange>);

impl RequesterPart {
    /// A requester's handle and what a service needs to bring it to life.
    pub fn new<Q, R: Payload>(route: Route<Q>) -> (Requester<Q, R>, Self) {
        let (requester, exchange) = Requester::new(route);
        (requester, Self(exchange))
    }
}
