//! Three services, a retry and a batch: one connected picture.

use std::time::Duration;

use fluffle::{prelude::*, testing::TestBroker};
use fluffle_harness::RabbitMq;
use fluffle_telemetry::traces::Traces;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    collector::collector,
    service::{app, assert_child, named, only},
};

/// Publishes in the handler to the next service.
#[derive(Clone)]
struct Forwards {
    out: Publisher<String>,
    to: String,
}

impl Actor for Forwards {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Forwards {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let this = self.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            tracing::info!("forwarded to {}", this.to);
            this.out.publish(text.clone()).await?;
            Ok(())
        })
    }
}

/// Fails once, then publishes three messages in a batch.
#[derive(Clone)]
struct Splits(Publisher<String>);

impl Actor for Splits {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Splits {
    type Result = ResponseActFuture<Self, Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let out = self.0.clone();
        let work = async move {
            if text.attempt() == 1 {
                return Err(Failure::retry("not yet"));
            }
            tokio::task::yield_now().await;
            let mut receipts = Vec::new();
            for part in 0..3 {
                receipts.push(out.enqueue(format!("{} {part}", *text)).await?);
            }
            for receipt in receipts {
                receipt.confirmed().await?;
            }
            Ok(())
        };
        Box::pin(work.into_actor(self))
    }
}

struct Ends;

impl Actor for Ends {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Ends {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

/// The services A, B and C, and a publisher to A.
async fn three_services(url: &str, names: [&str; 3]) -> (Vec<Service>, Publisher<String>) {
    let [name_a, name_b, name_c] = names;
    let topology = || names.into_iter().fold(Topology::new(), |all, name| all.queue(Queue::quorum(name).dead_letter()));
    let app = |url| app(url, Traces::new()).topology(topology());
    let retry = Retry::exponential(3, Duration::from_millis(50), 1.0).unwrap();
    let a = app(url);
    let (to_a, to_b) = (a.publisher(Route::queue(name_a)), a.publisher::<String>(Route::queue(name_b)));
    let a = a.consume(Consume::queue(name_a), {
        let to = name_b.to_owned();
        move || Forwards { out: to_b.clone(), to: to.clone() }
    });
    let b = app(url);
    let to_c = b.publisher(Route::queue(name_c).batch(Batching::default().linger(Duration::from_millis(50))));
    let b = b.consume(Consume::queue(name_b).retry(retry), move || Splits(to_c.clone()));
    let c = app(url);
    let c = c.consume(Consume::queue(name_c), || Ends);
    let mut services = Vec::new();
    for app in [c, b, a] {
        let service = app.start().await.unwrap();
        service.ready().await.unwrap();
        services.push(service);
    }
    (services, to_a)
}

async fn one_connected_picture(url: &str, names: [&str; 3]) {
    let [a, b, c] = names;
    let (services, to_a) = three_services(url, names).await;
    to_a.publish("hello".to_owned()).await.unwrap();
    let spans = collector().spans(12, |span| names.iter().any(|name| span.name.ends_with(&format!(" {name}"))));
    for service in services {
        service.shutdown().await.unwrap();
    }
    assert_eq!(spans.len(), 12, "{:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());

    let sent = only(&spans, &format!("publish {a}"));
    assert_eq!((sent.kind, sent.parent.len(), sent.links.len()), (SpanKind::Producer, 0, 0));
    assert_eq!(sent.get("fluffle.outcome"), Some("confirmed"));
    assert!(spans.iter().all(|span| span.trace == sent.trace), "one trace");

    let at_a = only(&spans, &format!("process {a}"));
    assert_child(at_a, sent);
    assert_eq!((at_a.kind, at_a.linked("creation")), (SpanKind::Consumer, vec![&sent.id[..]]));
    let to_b = only(&spans, &format!("publish {b}"));
    assert_child(to_b, at_a);

    let at_b = named(&spans, &format!("process {b}"));
    let attempt = |number: &str| {
        let of_number: Vec<_> = at_b.iter().filter(|span| span.get("fluffle.attempt") == Some(number)).collect();
        assert_eq!(of_number.len(), 1, "attempt {number}");
        *of_number[0]
    };
    let (first, second) = (attempt("1"), attempt("2"));
    for attempt in [first, second] {
        assert_child(attempt, to_b);
        assert_eq!(attempt.linked("creation"), [&to_b.id[..]]);
    }
    assert_eq!((first.error.as_deref(), first.get("error.type")), (Some("not yet"), Some("failed")));
    assert_eq!((second.error.as_deref(), second.get("fluffle.outcome")), (None, Some("handled")));
    assert!(first.linked("attempt_before").is_empty());
    assert_eq!(second.linked("attempt_before"), [&first.id[..]], "the retry links the attempt before");

    let (created, batch, at_c) = (
        named(&spans, &format!("create {c}")),
        only(&spans, &format!("publish {c}")),
        named(&spans, &format!("process {c}")),
    );
    assert_eq!((created.len(), at_c.len()), (3, 3));
    assert_child(batch, second);
    assert_eq!((batch.kind, batch.get("messaging.batch.message_count")), (SpanKind::Client, Some("3")));
    for one in &created {
        assert_child(one, second);
        assert_eq!(one.kind, SpanKind::Producer);
        assert!(
            batch.linked("creation").contains(&&one.id[..]),
            "the batch links {:?}",
            one.get("messaging.message.id")
        );
        let id = one.get("messaging.message.id").expect("an id");
        let handled = at_c.iter().find(|span| span.get("messaging.message.id") == Some(id)).expect("it was handled");
        assert_child(handled, one);
        assert_eq!(handled.linked("creation"), [&one.id[..]]);
    }
    for span in &spans {
        assert_eq!(span.get("messaging.system"), Some("rabbitmq"), "{}", span.name);
        let operation = span.name.split(' ').next();
        assert_eq!(span.get("messaging.operation.name"), operation, "{}", span.name);
    }

    let lines = collector().log.lines_with(&format!("forwarded to {b}"));
    let trace: String = sent.trace.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = sent.get("messaging.message.id").unwrap();
    assert_eq!(lines.len(), 1);
    for part in [&trace, id, &format!("fluffle.queue=\"{a}\""), "fluffle.attempt=1"] {
        assert!(lines[0].contains(part), "no {part} in {}", lines[0]);
    }
}

#[actix::test]
async fn three_services_a_retry_and_a_batch_are_one_connected_picture() {
    let broker = TestBroker::start().unwrap();
    collector();
    one_connected_picture(&broker.url(), ["a1", "b1", "c1"]).await;
}

#[actix::test]
async fn the_same_on_rabbitmq() {
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    collector();
    one_connected_picture(vhost.url(), ["a2", "b2", "c2"]).await;
}
