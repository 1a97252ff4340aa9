//! Consumers of a connection that keeps dying in lapin's parser are moved to connections of their own.
//!
//! The sanitizer takes out of what arrives whatever is known to end the parser. Should something else end it, the
//! broker delivers the same messages again on the next connection, which dies of them again, for every consumer on it.
//! After the second death each of its consumers gets a connection of its own and takes one message at a time, so that
//! the others go on.

use std::sync::{Arc, Weak};

use crate::{
    base::drain::Step,
    consume::{self, session::settings::SharedSettings},
    link::{
        channel::{self, ChannelShared},
        connection::ConnectionShared,
        pool::ConnectionSlot,
    },
    service::{Inner, Service},
};

/// Deaths in the parser after which the consumers of a connection are moved.
const DEATHS: u32 = 2;

/// The prefetch of a consumer on a connection of its own: what ends that is one message.
const PREFETCH: u16 = 1;

/// A consumer, and where it is.
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) settings: Arc<SharedSettings>,
    pub(super) channel: Arc<ChannelShared>,
    pub(super) lease: ConnectionSlot,
}

impl Service {
    /// Keeps a consumer's place on its connection, until that has died too often in the parser; then moves the
    /// consumer, once.
    pub(super) fn keep_or_move(&self, placed: Placed) {
        let service = Arc::downgrade(&self.inner);
        self.io().spawn(async move {
            died_in_parser(&placed.lease.place.shared).await;
            if let Some(moved) = isolate(&service, placed).await {
                // Its place is its own until the service ends, and this task with it.
                std::future::pending::<()>().await;
                drop(moved);
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
async fn isolate(service: &Weak<Inner>, placed: Placed) -> Option<ConnectionSlot> {
    let Placed { name, settings, channel, lease } = placed;
    let connection = &lease.place.shared.name;
    tracing::error!(
        queue = %settings.queue, consumer = %name, %connection, deaths = DEATHS,
        "the connection died in its parser again and again, with this queue's messages or another's: the consumer moves to a \
         connection of its own and takes one message at a time; if that connection dies, too, look at the first message of \
         this queue, and take it out"
    );
    // Over already is just as well: the service is shutting down.
    lease.place.channels.stop_child(&name).await.ok()?;
    let service = Service { inner: service.upgrade()? };
    let alone = service.inner.consume.lease_alone();
    let settings = Arc::new(settings.on(&alone.place, PREFETCH));
    let shared = channel.on(Arc::clone(&alone.place.shared), PREFETCH);
    let channel = channel::spec(&shared, &alone.place.connection).on(service.io());
    let consumer = consume::session::actor::spec(&settings, &shared, &channel.addr()).on(service.io());
    service.parts(|parts| {
        if let Some((_, before)) = parts.consumers.iter_mut().find(|(consumer, _)| *consumer == name) {
            *before = settings;
        }
    });
    service.add_channel(&name, &alone, Step::ConsumerChannels, channel, consumer);
    Some(alone)
}
