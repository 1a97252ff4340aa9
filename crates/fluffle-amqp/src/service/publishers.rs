//! Adds publishers to the supervision tree.

use std::{
    pin::pin,
    sync::{Arc, Weak},
};

use fluffle_supervise::SupervisorSpec;

use crate::{
    base::drain::Step,
    link::{
        channel::{self, ChannelShared, Mode},
        pool::{ConnectionSlot, Role},
    },
    publish::{self, publisher::Publisher, route::Route, send_queue::SendQueue},
    service::{Service, claims::Name, error::ServiceError, take_down, unstarted::PublisherPart},
};

/// A publisher that has its place on a connection.
struct Publishing {
    send_queue: Arc<SendQueue>,
    shared: Arc<ChannelShared>,
    name: Name,
    slot: ConnectionSlot,
    confirms: bool,
}

impl Service {
    /// Adds a publisher.
    ///
    /// # Errors
    /// If no channel becomes free in time, and as [`add_publisher`](Self::add_publisher).
    pub async fn publisher<T: 'static>(&self, route: Route<T>) -> Result<Publisher<T>, ServiceError> {
        let (publisher, part) = PublisherPart::new(route);
        self.add_publisher(part).await?;
        Ok(publisher)
    }

    /// Adds the publisher that `part` describes.
    ///
    /// # Errors
    /// If no channel becomes free in time, another publisher uses the journal, two settings exclude one another, or the
    /// service has ended.
    pub async fn add_publisher(&self, mut part: PublisherPart) -> Result<(), ServiceError> {
        if let Some(refused) = part.refused.take() {
            return Err(refused);
        }
        // Acquire the slots of all lanes first, so that either all lanes are added or none.
        let mut slots = Vec::with_capacity(part.send_queues.len());
        for _ in &part.send_queues {
            slots.push(self.inner.publish.lease().await?);
        }
        let send_queues = self.adopt(&mut part.send_queues, |parts| &mut parts.send_queues)?;
        for (send_queue, slot) in send_queues.into_iter().zip(slots) {
            let name = self.inner.names.take(Role::Publish, send_queue.name.wished());
            send_queue.name.give(name.to_string());
            send_queue.tracer.set(self.inner.observers.publish_tracer(&name));
            send_queue.listen(self.inner.observers.publisher(&name));
            let mode = if part.confirms { Mode::Confirm } else { Mode::Plain };
            let traffic: Weak<SendQueue> = Arc::downgrade(&send_queue);
            let shared = ChannelShared::new(name.to_string(), Arc::clone(&slot.place.shared), mode, Some(traffic));
            let publishing = Publishing { send_queue, shared, name, slot, confirms: part.confirms };
            if part.opens_when_used {
                self.open_when_used(publishing);
            } else {
                let spec = self.publishing_spec(&publishing);
                let started = self.inner.orders.place(publishing.slot.place.channels.clone(), spec);
                let Publishing { send_queue, name, slot, .. } = publishing;
                self.end_after(async move { send_queue.abandoned().await }, name, slot, started);
            }
        }
        Ok(())
    }

    /// The specification of a publisher's channel and of its actor.
    fn publishing_spec(&self, publishing: &Publishing) -> SupervisorSpec {
        let Publishing { send_queue, shared, slot, confirms, .. } = publishing;
        let channel = channel::spec(shared, &slot.place.connection).on(self.io());
        let actor = publish::actor::spec(send_queue, shared, &channel.addr(), *confirms, &self.inner.clock);
        self.channel_spec(shared, Step::PublisherChannels, channel, actor.on(self.io()))
    }

    /// Starts a task that requests the start of a publisher when the first message waits for it. Until then the
    /// publisher has its place on a connection and no channel, so that no failure finds the pool exhausted.
    fn open_when_used(&self, publishing: Publishing) {
        let service = Arc::downgrade(&self.inner);
        self.io().spawn(async move {
            let send_queue = Arc::clone(&publishing.send_queue);
            let mut abandoned = pin!(send_queue.abandoned());
            tokio::select! {
                biased;
                () = send_queue.used() => {}
                () = &mut abandoned => return,
            }
            let Some(inner) = service.upgrade() else { return };
            let (supervisor, orders) = (publishing.slot.place.channels.clone(), inner.orders.clone());
            publishing.shared.counts_as_open();
            let started = orders.place_uncounted(supervisor, Service { inner }.publishing_spec(&publishing));
            abandoned.await;
            take_down(&publishing.name, &publishing.slot, started).await;
        });
    }
}
