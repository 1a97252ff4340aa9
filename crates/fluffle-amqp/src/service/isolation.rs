//! Consumers of a connection that keeps dying in lapin's parser are moved to connections of their own.
//!
//! The sanitizer takes out of what arrives whatever is known to end the parser. Should something else end it, the
//! broker delivers the same messages again on the next connection, which dies of them again, for every consumer on it.
//! After the second death each of its consumers gets a connection of its own and takes one message at a time, so that
//! the others go on.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::{
    base::drain::Step,
    consume,
    link::{channel, connection::ConnectionShared},
    service::{
        Inner, Service,
        consumer::{Placed, Removed},
    },
};

/// Deaths in the parser after which the consumers of a connection are moved.
const DEATHS: u32 = 2;

/// The prefetch of a consumer on a connection of its own: what ends that is one message.
const PREFETCH: u16 = 1;

impl Service {
    /// Keeps a consumer's place on its connection. If that has died too often in the parser, moves the consumer, once;
    /// if the consumer is to be removed, takes it down and gives the place back.
    pub(super) fn keep_place(&self, mut placed: Placed, mut removal: oneshot::Receiver<Removed>) {
        let service = Arc::downgrade(&self.inner);
        self.io().spawn(async move {
            let removed = tokio::select! {
                removed = &mut removal => removed,
                () = died_in_parser(&placed.lease.place.shared) => match isolate(&service, placed).await {
                    Some(moved) => {
                        placed = moved;
                        removal.await
                    }
                    None => return,
                }
            };
            // An error means that the service has ended.
            if let Ok(removed) = removed {
                placed.take_down().await;
                drop(removed);
            }
        });
    }
}

async fn died_in_parser(connection: &ConnectionShared) {
    let mut deaths = connection.deaths_in_parser.subscribe();
    // The sender lives in what is watched.
    let _ = deaths.wait_for(|deaths| *deaths >= DEATHS).await;
}

/// Moves a consumer to a connection of its own; `None` if the service has ended.
async fn isolate(service: &Weak<Inner>, placed: Placed) -> Option<Placed> {
    let Placed { name, settings, channel, lease, started, now } = placed;
    let connection = &lease.place.shared.name;
    tracing::error!(
        queue = %settings.queue, consumer = %name, %connection, deaths = DEATHS,
        "the connection died in its parser again and again, with this queue's messages or another's: the consumer \
         moves to a connection of its own and takes one message at a time; if that connection dies, too, look at the \
         first message of this queue, and take it out"
    );
    started.wait().await;
    // Over already is just as well: the service is shutting down.
    lease.place.channels.stop_child(&name).await.ok()?;
    let service = Service { inner: service.upgrade()? };
    let alone = service.inner.consume.lease_alone();
    let settings = Arc::new(settings.on(&alone.place, PREFETCH));
    let shared = channel.on(Arc::clone(&alone.place.shared), PREFETCH);
    let channel = channel::spec(&shared, &alone.place.connection).on(service.io());
    let consumer = consume::session::actor::spec(&settings, &shared, &channel.addr()).on(service.io());
    now.set(&settings, &alone.place.shared);
    let started = service.add_channel(&shared, &alone, Step::ConsumerChannels, channel, consumer);
    Some(Placed { name, settings, channel: shared, lease: alone, started, now })
}
