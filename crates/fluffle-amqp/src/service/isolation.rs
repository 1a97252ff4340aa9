//! Moves consumers to connections of their own if their connection keeps dying in lapin's parser.
//!
//! The sanitizer removes everything from arriving frames that is known to end the parser. If something else ends it,
//! the connection dies, the broker delivers the same messages again on the next connection, and that one dies as well,
//! for every consumer on it. After the second death each consumer of the connection gets a connection of its own and
//! takes one message at a time. Then only the consumer with the harmful message loses its connection; the others go on.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::{
    base::drain::Step,
    consume,
    link::{channel, connection_shared::ConnectionShared},
    service::{
        Inner, Service,
        consumer::{Placed, Removed},
    },
};

/// After this many deaths in the parser, the consumers of a connection are moved.
const DEATHS: u32 = 2;

/// The prefetch of a consumer that was moved. With 1, the message that ends the connection is the only one delivered.
const PREFETCH: u16 = 1;

impl Service {
    /// Starts a task that keeps the consumer's slot on its connection. If the connection dies too often in the parser,
    /// the task moves the consumer, at most once. If the consumer is to be removed, the task takes it down and frees
    /// the slot.
    pub(super) fn keep_place(&self, mut placed: Placed, mut removal: oneshot::Receiver<Removed>) {
        let service = Arc::downgrade(&self.inner);
        self.io().spawn(async move {
            let removed = tokio::select! {
                removed = &mut removal => removed,
                () = died_in_parser(&placed.slot.place.shared) => match isolate(&service, placed).await {
                    Some(moved) => {
                        placed = moved;
                        removal.await
                    }
                    None => return,
                }
            };
            // `Err` means that the sender is gone, because the service has ended.
            if let Ok(removed) = removed {
                placed.take_down().await;
                drop(removed);
            }
        });
    }
}

/// Waits until `connection` has died [`DEATHS`] times in the parser.
async fn died_in_parser(connection: &ConnectionShared) {
    let mut deaths = connection.deaths_in_parser.subscribe();
    // Cannot fail: `connection` owns the sender.
    let _ = deaths.wait_for(|deaths| *deaths >= DEATHS).await;
}

/// Moves a consumer to a connection of its own; `None` if the service has ended.
async fn isolate(service: &Weak<Inner>, placed: Placed) -> Option<Placed> {
    let Placed { name, settings, channel, slot, started, now } = placed;
    let connection = &slot.place.shared.name;
    tracing::error!(
        queue = %settings.queue, consumer = %name, %connection, deaths = DEATHS,
        "the connection died repeatedly in lapin's parser, because of a message of this queue or of another queue: the \
         consumer moves to a connection of its own and takes one message at a time; if that connection dies too, \
         inspect the first message of this queue and remove it"
    );
    started.wait().await;
    // An error means that the channel is gone already, because the service is shutting down.
    slot.place.channels.stop_child(&name).await.ok()?;
    let service = Service { inner: service.upgrade()? };
    let alone = service.inner.consume.lease_alone();
    let settings = Arc::new(settings.on(&alone.place, PREFETCH));
    let shared = channel.on(Arc::clone(&alone.place.shared), PREFETCH, settings.traffic());
    let channel = channel::spec(&shared, &alone.place.connection).on(service.io());
    let consumer = consume::session::actor::spec(&settings, &shared, &channel.addr()).on(service.io());
    now.set(&settings, &alone.place.shared);
    let started = service.add_channel(&shared, &alone, Step::ConsumerChannels, channel, consumer);
    Some(Placed { name, settings, channel: shared, slot: alone, started, now })
}
