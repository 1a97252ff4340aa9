//! What becomes of deliveries in flight when their service shuts down.

use std::time::Duration;

use fluffle::prelude::*;

use crate::support::*;

#[actix::test]
async fn what_is_in_flight_at_shutdown_finishes_and_is_acked() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Block(Duration::from_millis(500)));
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("a".to_owned()).await.unwrap();
    next(&mut record).await;
    soon("the drain", service.shutdown()).await.unwrap();
    assert_eq!(Raw::connect(vhost.url()).await.ready("q").await, 0);
    assert_eq!(service.consumers()[0].1.handled, 1);
}

#[actix::test]
async fn what_does_not_finish_within_the_drain_deadline_is_the_brokers_again() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Hang);
    let app = app.drain_within(Duration::from_millis(500)).consume(Consume::queue("q"), factory);
    let service = started(app).await;
    out.publish("a".to_owned()).await.unwrap();
    out.publish("b".to_owned()).await.unwrap();
    next(&mut record).await;
    next(&mut record).await;
    soon("the drain", service.shutdown()).await.unwrap();
    until("both are back", || vhost.depth("q").ready == 2).await;
}

#[actix::test]
async fn no_consumer_takes_anything_new_while_another_drains() {
    let vhost = vhost();
    let names = ["one", "two", "three"];
    let topology = names.iter().fold(Topology::new(), |topology, name| topology.queue(Queue::classic(*name)));
    let mut app = App::new(broker(vhost.url())).topology(topology);
    let mut records = Vec::new();
    for name in names {
        let (factory, record) = handlers(|_| Act::Block(Duration::from_secs(1)));
        app = app.consume(Consume::queue(name).prefetch(1), factory);
        records.push(record);
    }
    let outs = names.map(|name| app.publisher::<String>(Route::queue(name)));
    let service = started(app).await;
    for out in &outs {
        for i in 0..5 {
            out.publish(i.to_string()).await.unwrap();
        }
    }
    for record in &mut records {
        next(record).await;
        // Discard what this handler began while the test waited for the others.
        while record.try_recv().is_ok() {}
    }
    for record in &mut records {
        next(record).await;
    }
    soon("the drain", service.shutdown()).await.unwrap();
    let begun_since: usize =
        records.iter_mut().map(|record| std::iter::from_fn(|| record.try_recv().ok()).count()).sum();
    assert_eq!(begun_since, 0, "a consumer began another message after the drain had started");
}
