//! End to end with real PostgreSQL, SQLite and RabbitMQ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use fluffle::prelude::*;
use fluffle_harness::RabbitMq;
use support::*;
use tokio::sync::mpsc;

on_both!(committed_messages_reach_a_handler_through_rabbitmq_in_order_and_once);

struct Reader(mpsc::UnboundedSender<(String, String)>);

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Reader {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let id = text.message_id().unwrap_or_default().to_owned();
        Ok(self.0.send((text.clone(), id))?)
    }
}

async fn committed_messages_reach_a_handler_through_rabbitmq_in_order_and_once(database: Database) {
    let vhost = RabbitMq::shared().expect("a broker").fresh_vhost().expect("a vhost");
    let app = App::new(Broker::new(vhost.url()).unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let relay = relay(&database, &app);
    let (reader, mut read) = mpsc::unbounded_channel();
    let consume = Consume::queue("q").concurrency(1);
    let service = started(app.supervise(relay).consume(consume, move || Reader(reader.clone()))).await;
    let messages = prepared(0..500);
    for some in messages.chunks(50) {
        database.enqueue(some, true).await;
        database.enqueue(&prepared(["undone"]), false).await;
    }
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(soon("a message", read.recv()).await.unwrap(), (n.to_string(), message.id().to_owned()));
    }
    until("an empty table", async || database.rows().await == 0).await;
    soon("shutdown", service.shutdown()).await.unwrap();
    assert!(read.recv().await.is_none(), "and nothing more");
}
