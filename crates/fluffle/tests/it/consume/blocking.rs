//! Handlers that block their thread do not stop other handlers, other consumers or connections.

use std::time::Duration;

use fluffle::prelude::*;

use crate::support::*;

#[actix::test]
async fn a_handler_that_blocks_its_thread_costs_no_heartbeat_and_no_other_consumer_its_progress() {
    let vhost = vhost();
    // Heartbeats every second: a connection that misses them for two is dropped, so five blocked seconds would show.
    let app = App::new(broker(vhost.url()).heartbeat(Duration::from_secs(1)))
        .topology(Topology::new().queue(Queue::classic("slow")).queue(Queue::classic("fast")));
    let to_slow = app.publisher::<String>(Route::queue("slow"));
    let to_fast = app.publisher::<String>(Route::queue("fast"));
    let (slow, mut slow_record) = handlers(|_| Act::Block(Duration::from_secs(5)));
    let (fast, mut fast_record) = handlers(|_| Act::Ok);
    let app = app.consume(Consume::queue("slow"), slow).consume(Consume::queue("fast"), fast);
    let service = started(app).await;
    to_slow.publish("block".to_owned()).await.unwrap();
    next(&mut slow_record).await;
    let blocked = std::time::Instant::now();
    let mut handled = 0;
    while service.consumers()[0].1.handled == 0 {
        to_fast.publish("go".to_owned()).await.unwrap();
        next(&mut fast_record).await;
        handled += 1;
    }
    assert!(blocked.elapsed() >= Duration::from_secs(4), "the handler did block");
    assert!(handled > 100, "the other consumer handled only {handled}");
    for connection in service.connections() {
        assert_eq!(connection.connects, 1, "{connection:?}");
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn blocking_handlers_with_threads_of_their_own_run_side_by_side() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Block(Duration::from_secs(2)));
    let service = started(app.consume(Consume::queue("q").instances(6).concurrency(1).blocking(), factory)).await;
    let start = std::time::Instant::now();
    for i in 0..6 {
        out.publish(i.to_string()).await.unwrap();
    }
    let mut instances = Vec::new();
    for _ in 0..6 {
        instances.push(next(&mut record).await.instance);
    }
    instances.sort_unstable();
    assert_eq!(instances, [0, 1, 2, 3, 4, 5], "each instance gets one message, because each is blocked by one");
    until("all are handled", || service.consumers()[0].1.handled == 6).await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "the messages were handled one after the other, which takes 12 s"
    );
    service.shutdown().await.unwrap();
}
