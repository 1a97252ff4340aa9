//! A consumer lives: whatever ends it ends in a running consumer again, or in a permanent error that says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use fluffle::{amqp::ConsumerState, prelude::*};
use support::*;

fn app(url: &str) -> (App, Publisher<String>) {
    let app = App::new(broker(url)).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    (app, out)
}

#[actix::test]
async fn a_deleted_queue_is_declared_again_and_consumed_again() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    out.publish("a".to_owned()).await.unwrap();
    next(&mut record).await;
    Raw::connect(vhost.url()).await.delete("q").await;
    let node = "app/consume/consume-0/channels/q/consumer";
    until("the consumer was started again", || service.snapshot().find(node).is_some_and(|node| node.restarts > 0))
        .await;
    soon("ready again", service.ready()).await.unwrap();
    out.publish("b".to_owned()).await.unwrap();
    assert_eq!(next(&mut record).await.text, "b");
    assert_eq!(service.connections()[1].connects, 1, "the connection was not touched");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_consumer_is_consuming_only_while_it_is_subscribed() {
    let vhost = vhost();
    let (app, _out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::<String>::queue("q"), factory)).await;
    let state = || service.consumers()[0].1.state;
    assert_eq!(state(), ConsumerState::Consuming);
    let raw = Raw::connect(vhost.url()).await;
    // Somebody else has the queue to himself, so the consumer cannot have it back.
    raw.delete("q").await;
    let exclusive = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    raw.channel().queue_declare("q".into(), exclusive, Default::default()).await.unwrap();
    until("it is not subscribed", || state() == ConsumerState::Unsubscribed).await;
    raw.delete("q").await;
    until("it consumes again", || state() == ConsumerState::Consuming).await;
    service.shutdown().await.unwrap();
    assert_eq!(state(), ConsumerState::Unsubscribed);
}

#[actix::test]
async fn a_queue_that_is_gone_and_not_ours_ends_the_service_with_a_line_that_says_so() {
    let vhost = vhost();
    let raw = Raw::connect(vhost.url()).await;
    raw.channel().queue_declare("theirs".into(), Default::default(), Default::default()).await.unwrap();
    let app = App::new(broker(vhost.url()));
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::<String>::queue("theirs"), factory)).await;
    raw.delete("theirs").await;
    let end = soon("the end", service.wait()).await.unwrap_err();
    assert!(end.reason().is_permanent());
    let line = end.to_string();
    assert!(line.contains("queue `theirs`") && line.contains("404") || line.contains("no queue 'theirs'"), "{line}");
    assert!(line.contains("declare it"), "{line}");
    let _ = service.shutdown().await;
}

/// What a stream is given while nobody is subscribed would be skipped.
#[actix::test]
async fn a_stream_of_the_topology_is_not_consumed_from_and_the_error_says_why() {
    let vhost = vhost();
    let (factory, _record) = handlers(|_| Act::Ok);
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::stream("audit")));
    let started = app.consume(Consume::<String>::queue("audit"), factory).start().await;
    let error = started.map(|_| ()).unwrap_err().to_string();
    for word in ["audit", "stream", "offsets", "quorum queue"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[actix::test]
async fn a_cut_connection_ends_in_a_consuming_consumer_and_the_same_handlers() {
    let vhost = vhost();
    let (app, out) = app(vhost.url());
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    for round in 0..3 {
        vhost.close_connections("a test cuts the connection");
        soon("published across the cut", out.publish(round.to_string())).await.unwrap();
        let seen = next(&mut record).await;
        assert_eq!(seen.instance, 0, "handlers outlive connections");
    }
    assert_eq!(service.snapshot().find("app/handlers/q/0").unwrap().restarts, 0);
    service.shutdown().await.unwrap();
}

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
    assert_eq!(instances, [0, 1, 2, 3, 4, 5], "each blocked one, so each got one");
    until("all are handled", || service.consumers()[0].1.handled == 6).await;
    assert!(start.elapsed() < Duration::from_secs(10), "one after the other they would take 12 s");
    service.shutdown().await.unwrap();
}

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
async fn an_exclusive_queue_comes_back_with_its_connection() {
    let vhost = vhost();
    let queue = Queue::temporary("news").bind("news", "");
    let name = queue.name().to_owned();
    let app = App::new(broker(vhost.url())).topology(Topology::new().exchange(Exchange::fanout("news")).queue(queue));
    let out = app.publisher::<String>(Route::exchange("news").mandatory(false));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue(name), factory)).await;
    out.publish("a".to_owned()).await.unwrap();
    assert_eq!(next(&mut record).await.text, "a");
    vhost.close_connections("a test cuts the connection");
    until("both connections are back", || service.connections().iter().all(|one| one.connects == 2)).await;
    soon("ready again", service.ready()).await.unwrap();
    out.publish("b".to_owned()).await.unwrap();
    assert_eq!(next(&mut record).await.text, "b");
    service.shutdown().await.unwrap();
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
        // What was handled while the others were looked at.
        while record.try_recv().is_ok() {}
    }
    for record in &mut records {
        next(record).await;
    }
    soon("the drain", service.shutdown()).await.unwrap();
    let begun_since: usize =
        records.iter_mut().map(|record| std::iter::from_fn(|| record.try_recv().ok()).count()).sum();
    assert_eq!(begun_since, 0, "one was in each hand, and no other was taken");
}
