//! A message's whole way, on a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fluffle::prelude::*;
use fluffle_harness::RabbitMq;
use tokio::{sync::mpsc, time::timeout};

const SOON: Duration = Duration::from_secs(20);

struct Collect {
    seen: mpsc::UnboundedSender<(String, u32)>,
    fail_first: bool,
}

impl Actor for Collect {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Collect {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.seen.send((text.clone(), text.attempt())).unwrap();
        if self.fail_first && text.attempt() == 1 {
            return Err(Failure::retry("not the first time"));
        }
        Ok(())
    }
}

async fn next<T>(rx: &mut mpsc::UnboundedReceiver<T>) -> T {
    timeout(SOON, rx.recv()).await.expect("nothing arrived in time").expect("the handler is gone")
}

#[actix::test]
async fn a_published_message_reaches_its_handler_and_leaves_the_queue() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let app = App::new(Broker::new(vhost.url()).unwrap()).topology(
        Topology::new()
            .exchange(Exchange::topic("words"))
            .queue(Queue::quorum("words").bind("words", "#").dead_letter()),
    );
    let out = app.publisher::<String>(Route::exchange("words").key("a.b"));
    let service = app
        .consume(Consume::queue("words"), move || Collect { seen: seen.clone(), fail_first: false })
        .start()
        .await
        .unwrap();
    timeout(SOON, service.ready()).await.unwrap().unwrap();
    println!("{}", service.snapshot());
    out.publish("hello".to_owned()).await.unwrap();
    assert_eq!(next(&mut arrived).await, ("hello".to_owned(), 1));
    service.shutdown().await.unwrap();
    let depth = &vhost.queue_depths().unwrap()["words"];
    assert_eq!((depth.ready, depth.unacked), (0, 0));
}
