//! What a handle and its actor share before there is a service: messages are taken at once, and leave when it runs.

use std::sync::Arc;

use crate::{
    payload::Payload,
    publish::{
        outbox::Outbox,
        publisher::Publisher,
        route::{Confirms, Key, Route},
    },
    request::{actor::Exchange, requester::Requester},
};

/// A publisher to be added, its message type forgotten.
pub struct PublisherPart {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) confirms: bool,
}

impl PublisherPart {
    /// A publisher's handle and what a service needs to bring it to life; the handle takes messages already. In the tree it
    /// goes by its exchange, or by its queue when it publishes straight to one.
    pub fn new<T>(route: Route<T>) -> (Publisher<T>, Self) {
        let name = match &route.key {
            Key::Fixed(queue) if route.exchange.is_empty() => queue.to_string(),
            Key::By(_) if route.exchange.is_empty() => "queues".to_owned(),
            _ => route.exchange.clone(),
        };
        let confirms = route.confirms != Confirms::Off;
        let outbox = Outbox::new(name, route.mailbox, route.window());
        (Publisher::new(route, Arc::clone(&outbox)), Self { outbox, confirms })
    }

    /// The publisher of a consumer's retry copies, dead letters and answers.
    pub(crate) fn copies(consumer: &str) -> (Arc<Outbox>, Self) {
        let outbox = Outbox::new(format!("{consumer}/copies"), 256, 256);
        (Arc::clone(&outbox), Self { outbox, confirms: true })
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
