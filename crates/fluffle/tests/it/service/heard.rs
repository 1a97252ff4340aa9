//! An observer that writes every event down, for the tests of events.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use fluffle::{
    amqp::{
        ChannelEvent, ChannelLabels, ConnectionEvent, ConnectionLabels, ConsumerLabels, ConsumerState, DeliveryEvent,
        Listener, Observer, PublishEvent, PublisherLabels, ReplayEvent, ReplayLabels, RequestEvent, RequesterLabels,
    },
    prelude::*,
    supervise::{Event, What},
};

use crate::support::*;

/// Events by the name of the thing that they are of.
pub(super) type Log<E> = Arc<Mutex<HashMap<String, Vec<E>>>>;

/// Writes everything down.
#[derive(Clone, Default)]
pub(super) struct Heard {
    pub(super) deliveries: Log<DeliveryEvent>,
    /// The changes of a consumer's state, apart from what happens to deliveries.
    pub(super) states: Log<(ConsumerState, ConsumerState)>,
    pub(super) messages: Log<PublishEvent>,
    pub(super) channels: Log<ChannelEvent>,
    pub(super) connections: Log<ConnectionEvent>,
    pub(super) nodes: Log<String>,
    pub(super) requests: Log<RequestEvent>,
    pub(super) replays: Log<ReplayEvent>,
}

fn listener<E: Clone + Send + 'static>(log: &Log<E>, name: &str) -> Listener<E> {
    let (log, name) = (Arc::clone(log), name.to_owned());
    Arc::new(move |event: &E| log.lock().unwrap().entry(name.clone()).or_default().push(event.clone()))
}

pub(super) fn of<E: Clone>(log: &Log<E>, name: &str) -> Vec<E> {
    log.lock().unwrap().get(name).cloned().unwrap_or_default()
}

impl Observer for Heard {
    fn consumer(&self, of: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        assert_eq!(of.queue, "q");
        let (deliveries, states) = (listener(&self.deliveries, of.name), listener(&self.states, of.name));
        Some(Arc::new(move |event: &DeliveryEvent| match event {
            DeliveryEvent::State { from, to, .. } => states(&(*from, *to)),
            other => deliveries(other),
        }))
    }

    fn publisher(&self, of: &PublisherLabels<'_>) -> Option<Listener<PublishEvent>> {
        Some(listener(&self.messages, of.name))
    }

    fn channel(&self, of: &ChannelLabels<'_>) -> Option<Listener<ChannelEvent>> {
        Some(listener(&self.channels, &format!("{} on {}", of.name, of.connection)))
    }

    fn connection(&self, of: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
        Some(listener(&self.connections, of.name))
    }

    fn requester(&self, of: &RequesterLabels<'_>) -> Option<Listener<RequestEvent>> {
        Some(listener(&self.requests, of.name))
    }

    fn replay(&self, of: &ReplayLabels<'_>) -> Option<Listener<ReplayEvent>> {
        Some(listener(&self.replays, of.queue))
    }

    fn nodes(&self) -> Option<Listener<Event>> {
        let log = Arc::clone(&self.nodes);
        Some(Arc::new(move |event: &Event| {
            if matches!(event.what, What::Restarting) {
                log.lock().unwrap().entry(event.path.to_string()).or_default().push(event.what.to_string());
            }
        }))
    }
}

impl Heard {
    /// The app, observed by this.
    pub(super) fn by(&self, app: App) -> App {
        app.observe(Arc::new(self.clone()))
    }

    /// The events of the consumer of `q`, once `count` deliveries are settled.
    pub(super) async fn settled(&self, count: usize) -> Vec<DeliveryEvent> {
        let is_settled = |event: &&DeliveryEvent| matches!(event, DeliveryEvent::Settled { .. });
        until("they are settled", || of(&self.deliveries, "q").iter().filter(is_settled).count() >= count).await;
        of(&self.deliveries, "q")
    }
}
