//! Batches from end to end: a publisher that gathers, a queue, and handlers that are given items one by one or all at
//! once.

use std::collections::HashMap;

use fluffle::{amqp::Receipt, prelude::*};
use tokio::sync::mpsc;

use crate::support::*;

const MANY: usize = 6_000;
const IN_A_BATCH: usize = 50;

#[derive(Clone, Copy, Debug)]
enum Handed {
    OneByOne,
    AtOnce,
}

/// All combinations of how a handler is given items, and of with or without gzip.
const WAYS: [(Handed, bool); 4] =
    [(Handed::OneByOne, false), (Handed::OneByOne, true), (Handed::AtOnce, false), (Handed::AtOnce, true)];

/// A text that is long enough to make a batch worth compressing.
fn text(number: usize) -> String {
    format!("{number} is the number of an earthquake")
}

fn number(text: &str) -> usize {
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Hands on the id and the number of each message it is given.
#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<(String, usize)>);

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Collector {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send((text.message_id().unwrap().to_owned(), number(&text)))?;
        Ok(())
    }
}

impl Handler<DeliveryBatch<String>> for Collector {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        for (index, text) in batch.iter().enumerate() {
            self.0.send((batch.id(index).unwrap(), number(&text?)))?;
        }
        Ok(ItemFailures::none())
    }
}

/// A running publisher and consumer.
struct Line {
    out: Publisher<String>,
    record: mpsc::UnboundedReceiver<(String, usize)>,
    service: Service,
}

impl Line {
    async fn start(vhost: &Place, (handed, packed): (Handed, bool)) -> Self {
        let topology = Topology::new()
            .exchange(Exchange::fanout("x"))
            .queue(Queue::quorum("q").bind("x", "").dead_letter())
            .queue(Queue::quorum("copies").bind("x", ""));
        let app = App::new(broker(vhost.url())).topology(topology);
        let gzip = if packed { Gzip::auto() } else { Gzip::Off };
        let batching = Batching::default().max_items(IN_A_BATCH);
        let out = app.publisher::<String>(Route::exchange("x").batch(batching).gzip(gzip).mailbox(8));
        let (seen, record) = mpsc::unbounded_channel();
        let (collector, consume) = (Collector(seen), Consume::<String>::queue("q").prefetch(16).retry(retry(3)));
        let app = match handed {
            Handed::OneByOne => app.consume(consume, move || collector.clone()),
            Handed::AtOnce => app.consume_batches(consume, move || collector.clone()),
        };
        Self { out, record, service: started(app).await }
    }

    async fn enqueue(&self, numbers: std::ops::Range<usize>) -> Vec<Receipt<String>> {
        let mut receipts = Vec::new();
        for number in numbers {
            receipts.push(soon("room", self.out.enqueue(text(number))).await.unwrap());
        }
        receipts
    }

    async fn handled(&mut self) -> (String, usize) {
        soon("a message", self.record.recv()).await.unwrap()
    }

    /// Waits until everything is acked, shuts down, and checks that there is no dead letter.
    async fn end(self, vhost: &Place) {
        until("nothing is ready or unacked", || {
            let depth = vhost.depth("q");
            (depth.ready, depth.unacked) == (0, 0)
        })
        .await;
        self.service.shutdown().await.unwrap();
        let raw = Raw::connect(vhost.url()).await;
        assert_eq!((raw.ready("q").await, raw.ready("q.dead").await), (0, 0));
    }
}

async fn confirmed(receipts: Vec<Receipt<String>>) -> Vec<String> {
    let mut ids = Vec::new();
    for receipt in receipts {
        ids.push(soon("confirmed", receipt.confirmed()).await.unwrap().id.to_string());
    }
    ids
}

#[actix::test]
async fn what_is_published_in_batches_is_handled_once_in_order_under_the_ids_its_senders_know() {
    for way in WAYS {
        let vhost = vhost();
        let mut line = Line::start(&vhost, way).await;
        let ids = confirmed(line.enqueue(0..MANY).await).await;
        for (number, id) in ids.into_iter().enumerate() {
            assert_eq!(line.handled().await, (id, number), "{way:?}");
        }
        assert!(line.record.try_recv().is_err(), "{way:?}: nothing is handled twice");
        let envelope = Raw::connect(vhost.url()).await.take("copies").await.properties;
        let encoding = envelope.content_encoding().as_ref().map(|encoding| encoding.as_str());
        assert_eq!(encoding, way.1.then_some("gzip"), "{way:?}");
        line.end(&vhost).await;
    }
}

#[actix::test]
async fn connections_lost_on_the_way_lose_no_item_and_mix_up_none() {
    for way in WAYS {
        let vhost = vhost();
        let mut line = Line::start(&vhost, way).await;
        let mut receipts = Vec::new();
        for third in 0..3 {
            if third > 0 {
                // At this moment the publisher's newest messages are not confirmed, and earlier ones are being handled.
                vhost.close_connections("a test cuts all connections");
            }
            receipts.extend(line.enqueue(third * MANY / 3..(third + 1) * MANY / 3).await);
        }
        let ids = confirmed(receipts).await;
        let mut numbers = HashMap::new();
        while numbers.len() < MANY {
            let (id, number) = line.handled().await;
            let before = numbers.insert(id, number);
            assert!(before.is_none_or(|before| before == number), "{way:?}: two messages have the same id");
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(numbers.get(id), Some(&number), "{way:?}: {id}");
        }
        let connections = line.service.connections();
        assert!(connections.iter().all(|connection| connection.connects >= 2), "{way:?}: a connection was not cut");
        line.end(&vhost).await;
    }
}
