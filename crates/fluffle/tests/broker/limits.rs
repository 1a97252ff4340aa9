//! Brokers with lower limits than usual.

use std::time::{Duration, Instant};

use fluffle::{amqp::Confirmed, prelude::*};
use fluffle_harness::RabbitMq;
use futures_util::future::join_all;

use crate::support::*;

#[actix::test]
async fn a_broker_that_allows_few_channels_gets_more_connections_or_ends_the_service_with_what_to_do() {
    let node = RabbitMq::builder().config("channel_max = 3").start().unwrap();
    let app = |count: usize, query: &str| {
        let app = App::new(broker(&format!("{}{query}", node.url())));
        let app = app.topology(Topology::new().queue(Queue::classic("q")));
        let out: Vec<_> = (0..count).map(|_| app.publisher::<String>(Route::queue("q"))).collect();
        (app, out)
    };

    // The limit is known before the additional publishers are opened.
    let (one, mut out) = app(1, "");
    let service = started(one).await;
    for _ in 0..4 {
        out.push(service.publisher(Route::queue("q")).await.unwrap());
    }
    for out in &out {
        soon("a confirm", out.publish("a".to_owned())).await.unwrap();
    }
    let names: Vec<_> = service.connections().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["publish-0", "publish-1", "publish-2", "consume-0"]);
    service.shutdown().await.unwrap();

    // The publishers are opened before the limit is known, and cannot move to another connection.
    let (three, _out) = app(3, "");
    let service = three.start().await.unwrap();
    let end = soon("its end", service.wait()).await.unwrap_err().to_string();
    for word in ["publish-0", "3 channels", "channel_max", "rabbitmq.conf", "?channel_max=3"] {
        assert!(end.contains(word), "{word}: {end}");
    }
    service.shutdown().await.unwrap_err();

    // The advice in the error helps.
    let (three, out) = app(3, "?channel_max=3");
    let service = started(three).await;
    for out in &out {
        soon("a confirm", out.publish("a".to_owned())).await.unwrap();
    }
    service.shutdown().await.unwrap();
}

/// The broker does not tell because of which message it closed the channel.
#[actix::test]
async fn messages_too_large_for_the_broker_hold_up_nobody() {
    let node = RabbitMq::builder().config("max_message_size = 1000").start().unwrap();
    let app = App::new(broker(&node.url())).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    let text = |number: usize| if number.is_multiple_of(2) { "fits".to_owned() } else { "x".repeat(2000) };
    let check = |number: usize, outcome: Result<Confirmed, PublishError<String>>| match outcome {
        Ok(_) => assert!(number.is_multiple_of(2), "{number}"),
        Err(error) => {
            assert!(!number.is_multiple_of(2), "{number}: {error}");
            assert!(matches!(error.kind(), PublishErrorKind::Refused { code: 406, .. }), "{error}");
        }
    };

    let begun = Instant::now();
    for number in 0..20 {
        check(number, soon("its end", out.publish(text(number))).await);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "published one by one: {:?}", begun.elapsed());

    let begun = Instant::now();
    let outcomes = soon("all ends", join_all((0..20).map(|number| out.publish(text(number))))).await;
    outcomes.into_iter().enumerate().for_each(|(number, outcome)| check(number, outcome));
    assert!(begun.elapsed() < Duration::from_secs(10), "at once: {:?}", begun.elapsed());
    service.shutdown().await.unwrap();
}

/// The broker inside has no streams.
#[actix::test]
async fn a_stream_that_others_declared_ends_the_service_with_a_line_that_says_why_and_other_queues_are_consumed_from() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    let raw = Raw::connect(vhost.url()).await;
    for (queue, kind) in [("log", "stream"), ("old", "classic"), ("new", "quorum")] {
        let mut arguments = lapin::types::FieldTable::default();
        arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString(kind.into()));
        let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
        raw.channel().queue_declare(queue.into(), options, arguments).await.unwrap();
    }
    for queue in ["old", "new"] {
        let (factory, mut record) = handlers(|_| Act::Ok);
        let service = started(App::new(broker(vhost.url())).consume(Consume::<String>::queue(queue), factory)).await;
        let out = service.publisher::<String>(Route::queue(queue)).await.unwrap();
        out.publish("a".to_owned()).await.unwrap();
        assert_eq!(next(&mut record).await.text, "a", "{queue}");
        service.shutdown().await.unwrap();
    }
    let (factory, _record) = handlers(|_| Act::Ok);
    let service =
        App::new(broker(vhost.url())).consume(Consume::<String>::queue("log"), factory).start().await.unwrap();
    let end = soon("its end", service.wait()).await.unwrap_err();
    assert!(end.reason().is_permanent());
    for word in ["queue `log`", "stream", "offset", "StreamReader::new"] {
        assert!(end.to_string().contains(word), "{word}: {end}");
    }
    service.shutdown().await.unwrap_err();
}
