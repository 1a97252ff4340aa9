//! What becomes of a published message: confirmed, returned, refused, published again, or handed back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::{prelude::*, supervise::What};
use futures_util::future::join_all;

use crate::support::*;

fn app(url: &str) -> App {
    App::new(broker(url)).topology(
        Topology::new()
            .exchange(Exchange::direct("x"))
            .queue(Queue::quorum("q").bind("x", "q"))
            .queue(Queue::classic("short").max_length(1).overflow(Overflow::RejectPublish)),
    )
}

#[actix::test]
async fn a_message_no_queue_takes_comes_back_and_the_others_are_confirmed() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::exchange("x").key_by(|text: &String| text.clone()));
    let service = started(app).await;
    // Every other message is unroutable, and all are in flight at once. Each must get its own outcome.
    let texts: Vec<String> =
        (0..200).map(|i| if i % 3 == 0 { format!("nowhere{i}") } else { "q".to_owned() }).collect();
    let results = join_all(texts.iter().map(|text| out.publish(text.clone()))).await;
    for (text, result) in texts.iter().zip(results) {
        match result {
            Ok(_) => assert_eq!(text, "q", "an unroutable message was reported as confirmed"),
            Err(error) => {
                assert!(
                    matches!(error.kind(), PublishErrorKind::Returned(returned) if returned.code == 312),
                    "{error}"
                );
                assert_eq!(&error.message, text, "the wrong message came back");
                assert!(error.to_string().contains(&format!("routing key `{text}`")), "{error}");
            }
        }
    }
    let stats = out.stats();
    assert_eq!((stats.confirmed, stats.returned), (133, 67));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_missing_exchange_fails_its_own_messages_and_no_other_publisher() {
    let vhost = vhost();
    let app = app(vhost.url());
    let lost = app.publisher::<String>(Route::exchange("nobody-made-this"));
    let fine = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    fine.publish("before".to_owned()).await.unwrap();
    let error = soon("the refusal", lost.publish("a".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Refused { code: 404, .. }), "{error}");
    assert!(!error.is_transient());
    assert_eq!(error.message, "a");
    assert!(error.to_string().contains("nobody-made-this"), "{error}");
    fine.publish("after".to_owned()).await.unwrap();
    let tree = service.snapshot();
    let node = tree.find("app/publish/publish-0/channels/q/channel").unwrap();
    assert_eq!(node.restarts, 0, "{tree}");
    let raw = Raw::connect(vhost.url()).await;
    let fanout = lapin::ExchangeKind::Fanout;
    let made =
        raw.channel().exchange_declare("nobody-made-this".into(), fanout, Default::default(), Default::default());
    made.await.unwrap();
    raw.channel()
        .queue_bind("q".into(), "nobody-made-this".into(), "".into(), Default::default(), Default::default())
        .await
        .unwrap();
    lost.publish("b".to_owned()).await.expect("the publisher works as soon as there is an exchange");
    service.shutdown().await.unwrap();
}

/// The highest attempt number of the backoffs of this node so far. Waits grow with this number.
fn losses_in_a_row(service: &Service, path: &'static str) -> impl Fn() -> u32 + use<> {
    let most = Arc::new(AtomicU32::new(0));
    let (mut events, counted) = (service.events(), Arc::clone(&most));
    actix_rt::spawn(async move {
        while let Some(event) = events.next().await {
            let event = event.expect("no event was missed");
            if let What::Backoff { attempt, .. } = event.what
                && *event.path == *path
            {
                counted.fetch_max(attempt, Ordering::SeqCst);
            }
        }
    });
    move || most.load(Ordering::SeqCst)
}

/// A refused message closes the channel twice. Confirms in between keep the waits for the next channel short.
#[actix::test]
async fn refusals_between_confirmed_messages_hold_up_nobody() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.forwarder("relay");
    let service = started(app).await;
    let prepare = |number: usize| {
        let route = match number % 2 {
            0 => Route::<String>::exchange("x").key("q"),
            _ => Route::exchange(format!("nobody-made-{number}")),
        };
        route.prepare(&number.to_string(), &MessageOptions::new()).unwrap()
    };
    let in_a_row = losses_in_a_row(&service, "app/publish/publish-0/channels/relay/channel");
    let begun = Instant::now();
    for number in 0..20 {
        let outcome = soon("its end", out.publish(prepare(number))).await;
        assert_eq!(outcome.is_ok(), number % 2 == 0, "{number}: {outcome:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "published one by one: {:?}", begun.elapsed());
    assert_eq!(in_a_row(), 2, "each refused message closes the channel twice");

    let begun = Instant::now();
    let outcomes = join_all((0..20).map(|number| out.publish(prepare(number))));
    let outcomes = soon("all ends", outcomes).await;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.is_ok(), number % 2 == 0, "{number}: {outcome:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "published all at once: {:?}", begun.elapsed());
    assert!(in_a_row() <= 3, "the channel was lost too often in a row: {}", in_a_row());
    service.shutdown().await.unwrap();
}

/// A broker closes the whole connection if a header frame is larger than negotiated.
#[actix::test]
async fn headers_that_do_not_fit_the_negotiated_frame_fail_their_own_message_and_nothing_else() {
    let vhost = vhost();
    let app = app(&format!("{}?frame_max=4096", vhost.url()));
    let out = app.publisher::<String>(Route::queue("q"));
    let options = |bytes: usize| MessageOptions::new().header("filler", "x".repeat(bytes));
    // Accepted before the connection is open, so before the largest frame is negotiated.
    let early = out.enqueue_with("early".to_owned(), options(5000)).await.unwrap();
    let beside = out.enqueue("beside".to_owned()).await.unwrap();
    let service = started(app).await;
    let error = soon("its end", early.confirmed()).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::HeadersTooLarge { most: 4076, .. }), "{error}");
    beside.confirmed().await.unwrap();

    let error = out.publish_with("too much".to_owned(), options(5000)).await.unwrap_err();
    let PublishErrorKind::HeadersTooLarge { bytes, most } = *error.kind() else { panic!("{error}") };
    assert!(!error.is_transient());
    for word in ["4076", "frame_max", "headers"] {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    out.publish_with("as much as there is room for".to_owned(), options(5000 - (bytes - most))).await.unwrap();
    let one_more = out.publish_with("one more".to_owned(), options(5001 - (bytes - most))).await.unwrap_err();
    assert!(matches!(one_more.kind(), PublishErrorKind::HeadersTooLarge { bytes: 4077, most: 4076 }), "{one_more}");

    assert!(service.connections().iter().all(|one| one.connects == 1), "a connection was lost");
    until("nothing is outstanding", || out.stats().outstanding == 0).await;
    assert_eq!((out.stats().confirmed, out.stats().failed), (2, 1));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_exchange_of_ours_that_was_deleted_is_declared_again_and_nothing_fails() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::exchange("x").key("q"));
    let service = started(app).await;
    out.publish("a".to_owned()).await.unwrap();
    Raw::connect(vhost.url()).await.channel().exchange_delete("x".into(), Default::default()).await.unwrap();
    soon("published again", out.publish("b".to_owned())).await.expect("declared again, published under the same id");
    service.shutdown().await.unwrap();
    assert_eq!(Raw::connect(vhost.url()).await.ready("q").await, 2);
}

#[actix::test]
async fn a_nacked_message_comes_back() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("short"));
    let service = started(app).await;
    out.publish("fits".to_owned()).await.unwrap();
    let error = out.publish("too many".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Nacked), "{error}");
    assert_eq!(error.message, "too many");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_cut_connection_loses_no_message_and_keeps_their_ids() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").confirms(Confirms::Window(64)));
    let service = started(app).await;
    let mut receipts = Vec::new();
    for i in 0..3000 {
        if i % 1000 == 500 {
            vhost.close_connections("a test cuts the connection");
        }
        receipts.push(out.enqueue(i.to_string()).await.unwrap());
    }
    let ids: Vec<String> = soon("all confirmed", join_all(receipts.into_iter().map(|receipt| receipt.confirmed())))
        .await
        .into_iter()
        .map(|confirmed| confirmed.unwrap().id.to_string())
        .collect();
    assert!(service.connections()[0].connects >= 2, "the connection was cut and is back");
    let tally = Tally::default();
    let raw = Raw::connect(vhost.url()).await;
    for _ in 0..raw.ready("q").await {
        tally.add(raw.take("q").await.properties.message_id().as_ref().unwrap().as_str());
    }
    assert_eq!(tally.distinct(), 3000, "every message is in the queue");
    assert!(ids.iter().all(|id| tally.has(id)), "a message is not there under the id that its publisher was told");
    assert_eq!(tally.total() - tally.distinct(), tally.total() - 3000, "only messages in flight may be there twice");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn without_a_broker_a_publish_waits_its_deadline_and_gives_the_message_back() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let app = App::new(broker(&format!("amqp://127.0.0.1:{port}")));
    let route = Route::queue("q").deadline(Duration::from_millis(300)).mailbox(1);
    let out = app.publisher::<String>(route);
    let service = app.start().await.unwrap();
    let error = soon("the deadline", out.publish("a".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::NotSent(NotSent::Deadline)), "{error}");
    assert_eq!(error.message, "a");
    let _waiting = out.enqueue("b".to_owned()).await;
    let error = soon("no room", out.publish("c".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Overloaded), "{error}");
    assert!(matches!(out.try_enqueue("d".to_owned()).unwrap_err().kind(), PublishErrorKind::Full));
    service.shutdown().await.unwrap();
    let late = out.publish("e".to_owned()).await.unwrap_err();
    assert!(matches!(late.kind(), PublishErrorKind::NotSent(NotSent::Ended)), "{late}");
}

#[actix::test]
async fn a_withdrawn_message_is_not_published_later() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q").deadline(Duration::from_millis(50)));
    let error = out.publish("given back".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::NotSent(NotSent::Deadline)), "{error}");
    let service = started(app).await;
    out.publish("later".to_owned()).await.ok();
    out.flush().await;
    service.shutdown().await.unwrap();
    let raw = Raw::connect(vhost.url()).await;
    for _ in 0..raw.ready("q").await {
        assert!(!raw.take("q").await.body.ends_with(b"given back"));
    }
}

#[actix::test]
async fn without_confirms_a_message_counts_when_it_is_written() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::exchange("x").key("nowhere").confirms(Confirms::Off));
    let service = started(app).await;
    out.publish("a".to_owned()).await.expect("written is all that was asked for");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_is_wrong_with_a_message_itself_is_said_before_anything_is_sent() {
    let vhost = vhost();
    let app = app(vhost.url());
    let limits = fluffle::wire::Limits { encoded: 10, ..Default::default() };
    let out = app.publisher::<String>(Route::queue("q").limits(limits));
    let error = out.publish("more than ten bytes".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Encode(_)), "{error}");
    let long = MessageOptions::new().key("k".repeat(256));
    let error = out.publish_with("a".to_owned(), long).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Property("routing key")), "{error}");
    // If so many headers were sent, the broker would close the connection each time.
    let large = MessageOptions::new().header("h", "x".repeat(40_000));
    let error = out.publish_with("a".to_owned(), large).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Property("headers")), "{error}");
    assert_eq!(out.stats().accepted, 0);
}

#[actix::test]
async fn flush_returns_when_everything_accepted_is_settled_and_the_books_are_empty() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::exchange("x").key_by(|text: &String| text.clone()));
    let service = started(app).await;
    for i in 0..500 {
        // Half of the messages are returned, and no caller waits for any. None may remain outstanding.
        drop(out.enqueue(if i % 2 == 0 { "q".to_owned() } else { "nowhere".to_owned() }).await.unwrap());
    }
    soon("flushed", out.flush()).await;
    let stats = out.stats();
    assert_eq!((stats.accepted, stats.confirmed, stats.returned), (500, 250, 250));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_unconfirmed_message_is_confirmed_before_the_service_ends() {
    let vhost = vhost();
    let app = app(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let service = started(app).await;
    let receipts = join_all((0..500).map(|i| out.enqueue(i.to_string()))).await;
    service.shutdown().await.unwrap();
    for receipt in receipts {
        receipt.unwrap().confirmed().await.expect("the drain waits for confirms");
    }
    assert_eq!(Raw::connect(vhost.url()).await.ready("q").await, 500);
}

#[actix::test]
async fn a_prepared_message_keeps_its_id_and_route_through_storage() {
    let vhost = vhost();
    let topology = Topology::new().queue(Queue::quorum("q")).queue(Queue::quorum("other"));
    let app = App::new(broker(vhost.url())).topology(topology);
    let forwarder = app.forwarder("relay");
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = started(app.consume(Consume::queue("q"), factory)).await;
    let prepare = |queue, text: &str| {
        let options = MessageOptions::new().id(format!("id of {text}"));
        Route::<String>::queue(queue).prepare(&text.to_owned(), &options).unwrap()
    };
    let stored = prepare("q", "stored").to_bytes().unwrap();
    let confirmed = forwarder.publish(Prepared::from_bytes(stored).unwrap()).await.unwrap();
    assert_eq!(confirmed.id, "id of stored");
    assert_eq!(next(&mut record).await.text, "stored");

    let error = forwarder.publish(prepare("nowhere", "astray")).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Returned(_)), "{error}");
    assert_eq!(error.message.routing_key(), "nowhere");
    assert_eq!(forwarder.stats().confirmed, 1);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn two_publishers_of_one_exchange_have_names_of_their_own_in_tree_and_stats() {
    let vhost = vhost();
    let app = app(vhost.url());
    let route = || Route::<String>::exchange("x").key("q");
    let all =
        [route(), route(), route().name("urgent"), route().name("x#2"), route()].map(|route| app.publisher(route));
    let service = started(app).await;
    all[1].publish("from the second".to_owned()).await.unwrap();
    all[4].publish("from the last".to_owned()).await.unwrap();
    all[4].publish("from the last".to_owned()).await.unwrap();
    let stats: Vec<_> = service.publishers().into_iter().map(|(name, stats)| (name, stats.confirmed)).collect();
    let expected =
        [("x", 0), ("x#2", 1), ("urgent", 0), ("x#2#2", 0), ("x#3", 2)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(stats, expected);
    let channels = service.snapshot().find("app/publish/publish-0/channels").unwrap().clone();
    let names: Vec<&str> = channels.children.iter().map(|child| &*child.id).collect();
    assert_eq!(names, expected.each_ref().map(|(name, _)| name.as_str()));
    service.shutdown().await.unwrap();
}
