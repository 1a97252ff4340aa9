//! Recovery of consumers: after each kind of end a consumer consumes again, or the service ends with a permanent error
//! that says why.

use fluffle::{amqp::ConsumerState, prelude::*};

use crate::support::*;

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
    // Another connection declares the queue as exclusive, so the consumer cannot consume from it.
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

/// Without a reader a stream is refused, because messages that arrive while no consumer is subscribed would be skipped.
#[actix::test]
async fn a_stream_of_the_topology_is_not_consumed_from_and_the_error_says_why() {
    let vhost = vhost();
    let (factory, _record) = handlers(|_| Act::Ok);
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::stream("audit")));
    let started = app.consume(Consume::<String>::queue("audit"), factory).start().await;
    let error = started.map(|_| ()).unwrap_err().to_string();
    for word in ["audit", "stream", "offset", "StreamReader::new"] {
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
