//! Messages of other senders. With any bytes in its properties, a message is handled or becomes a dead letter, and
//! other consumers and publishers are not affected. See `docs/SEMANTICS.md`, "What others put on your queue".

mod cases;
mod forged;
mod frames;
mod headers;
mod parser;
mod refused;

use std::net::SocketAddr;

use conformance::raw::{RawClient, RawPublish};
use fluffle::{amqp::ConsumerStats, prelude::*};

use crate::support::{
    Act, DeadLetter, Place, Raw, Record, Seen, broker, handlers, next, retry, soon, started, until, vhost,
};

/// The body of every message here: a `StringValue` of `good`.
const GOOD: &[u8] = b"\x0a\x04good";

/// A service that consumes on one connection from `q`, which gets the foreign messages, and from `innocent`, which gets
/// valid ones; and a client that can publish any bytes.
struct Bench {
    place: Place,
    service: Service,
    record: Record,
    innocent: Record,
    out: Publisher<String>,
    raw: Raw,
    foreign: RawClient,
}

impl Bench {
    /// A bench whose handlers do what `script` says. `uri` is appended to the broker's URL.
    async fn start(
        uri: &str,
        queue: Queue,
        consume: impl FnOnce(Consume<String>) -> Consume<String>,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let place = vhost();
        let app = App::new(broker(&format!("{}{uri}", place.url()))).topology(
            Topology::new()
                .exchange(Exchange::topic("t"))
                .queue(queue.bind("t", "#"))
                .queue(Queue::quorum("innocent").dead_letter()),
        );
        let out = app.publisher(Route::queue("innocent"));
        let (factory, record) = handlers(script);
        let (innocents, innocent) = handlers(|_| Act::Ok);
        let app = app.consume(consume(Consume::queue("q").retry(retry(3))), factory);
        let service = started(app.consume(Consume::queue("innocent").retry(retry(3)), innocents)).await;
        let raw = Raw::connect(place.url()).await;
        let address = SocketAddr::from(([127, 0, 0, 1], place.port()));
        let mut foreign = RawClient::open(address, place.name(), 0);
        foreign.select_confirms();
        Self { place, service, record, innocent, out, raw, foreign }
    }

    /// A bench with a quorum queue, whose handlers do what `script` says.
    async fn with(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::start("", Queue::quorum("q").dead_letter(), |consume| consume, script).await
    }

    /// Puts a message with these property flags and properties into `q`.
    fn put(&mut self, flags: u16, properties: &[u8]) {
        self.put_by(b"", b"q", flags, properties);
    }

    fn put_by(&mut self, exchange: &[u8], key: &[u8], flags: u16, properties: &[u8]) {
        self.foreign.publish(RawPublish { exchange, key, mandatory: false, flags, properties, body: GOOD });
        self.foreign.confirmed();
    }

    /// The next dead letter of `q`.
    async fn dead(&self) -> DeadLetter {
        self.raw.take("q.dead").await
    }

    fn stats(&self) -> ConsumerStats {
        self.service.consumers().into_iter().find(|(name, _)| name == "q").unwrap().1
    }

    /// Checks that the others were not affected: a message to `innocent` goes through on the same connections, and no
    /// connection was lost.
    async fn nobody_noticed(&mut self) {
        soon("published", self.out.publish("innocent".to_owned())).await.unwrap();
        let seen = next(&mut self.innocent).await;
        assert_eq!((&*seen.text, seen.redelivered), ("innocent", false));
        for connection in self.service.connections() {
            assert_eq!((connection.connected, connection.connects), (true, 1), "{}", connection.name);
        }
        assert_eq!(self.raw.ready("innocent.dead").await, 0);
    }
}
