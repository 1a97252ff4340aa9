//! Each kind of span: its name, its attributes, its outcome, and when there is none.

use std::time::Duration;

use fluffle::{
    amqp::{PublishErrorKind, RequestOptions, trace},
    broker::Value,
    prelude::*,
    testing::TestBroker,
    wire::headers::{TRACEPARENT, TraceContext},
};
use fluffle_telemetry::traces::Traces;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    collector::{Span, collector},
    service::{app, assert_child, named, only, started},
};

/// A handler of `Delivery<String, String>` that does what the text says, and publishes the text if it has a publisher.
#[derive(Clone)]
struct Does {
    out: Option<Publisher<String>>,
}

impl Actor for Does {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, String>> for Does {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, text: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
        let out = self.out.clone();
        tracing::info!("handles {}", *text);
        assert_ne!(*text, "panics", "scripted");
        Box::pin(async move {
            if *text == "rejected" {
                return Err(Failure::reject("never"));
            }
            if let Some(out) = out {
                out.publish(text.clone()).await?;
            }
            Ok(text.to_uppercase())
        })
    }
}

struct Archives;

impl Actor for Archives {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<String>> for Archives {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        let mut failures = ItemFailures::none();
        for (index, text) in batch.iter().enumerate() {
            if text.is_ok_and(|text| text == "bad") {
                failures.add(index, Failure::reject("bad"));
            }
        }
        Ok(failures)
    }
}

fn queues(names: &[&str]) -> Topology {
    names.iter().fold(Topology::new(), |all, name| all.queue(Queue::quorum(*name).dead_letter()))
}

fn does(out: &Publisher<String>) -> impl Fn() -> Does + Send + Sync + use<> {
    let out = out.clone();
    move || Does { out: Some(out.clone()) }
}

/// The spans whose names end with one of `names`, as soon as there are `count`.
fn spans(count: usize, names: &[&str]) -> Vec<Span> {
    let names: Vec<String> = names.iter().map(|name| format!(" {name}")).collect();
    collector().spans(count, |span| names.iter().any(|name| span.name.ends_with(name)))
}

/// A span of another program.
fn foreign(sampled: bool) -> TraceContext {
    TraceContext::new(fastrand_id(), [9; 8], sampled).unwrap()
}

/// An id that no other test has.
fn fastrand_id() -> [u8; 16] {
    let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    (nanoseconds << 8 | 1).to_be_bytes()
}

fn header(broker: &TestBroker, queue: &str, name: &str) -> Option<String> {
    let queued = broker.read::<String>(queue).unwrap();
    assert_eq!(queued.len(), 1, "messages in {queue}");
    match queued[0].raw.headers.get(name)? {
        Value::Text(text) => Some(text.clone()),
        other => panic!("{name} is {other:?}"),
    }
}

#[actix::test]
async fn a_publish_ends_with_its_outcome() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new().server("rabbit.example", 5672)).topology(queues(&["outcome"]));
    let (good, bad) = (app.publisher(Route::queue("outcome")), app.publisher(Route::queue("outcome-gone")));
    let service = started(app).await;
    good.publish("yes".to_owned()).await.unwrap();
    let error = bad.publish("no".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Returned(_)), "{error}");
    let spans = spans(2, &["outcome", "outcome-gone"]);
    let (good, bad) = (only(&spans, "publish outcome"), only(&spans, "publish outcome-gone"));
    assert_eq!((good.get("fluffle.outcome"), &good.error), (Some("confirmed"), &None));
    assert_eq!((bad.get("fluffle.outcome"), bad.get("error.type")), (Some("returned"), Some("returned")));
    assert_eq!(bad.error.as_deref(), Some(""));
    assert_eq!((good.kind, good.get("messaging.operation.type")), (SpanKind::Producer, Some("send")));
    assert_eq!((good.get("server.address"), good.get("server.port")), (Some("rabbit.example"), Some("5672")));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_routing_key_that_varies_is_not_in_the_name() {
    let broker = TestBroker::start().unwrap();
    let topology = Topology::new().exchange(Exchange::topic("keys")).queue(Queue::quorum("keyed").bind("keys", "#"));
    let app = app(&broker.url(), Traces::new()).topology(topology);
    let fixed = app.publisher(Route::exchange("keys").key("fixed"));
    let varying = app.publisher(Route::exchange("keys").name("varying").key_by(String::clone));
    let route = Route::exchange("keys").name("template").key_by(String::clone).key_template("order.{id}");
    let template = app.publisher(route);
    let service = started(app).await;
    fixed.publish("1".to_owned()).await.unwrap();
    fixed.publish_with("2".to_owned(), MessageOptions::new().key("own")).await.unwrap();
    varying.publish("3".to_owned()).await.unwrap();
    template.publish("4".to_owned()).await.unwrap();
    let spans = collector().spans(4, |span| span.name.starts_with("publish keys"));
    let key = |span: &Span| span.get("messaging.rabbitmq.destination.routing_key").unwrap().to_owned();
    let mut names: Vec<_> = spans.iter().map(|span| (key(span), span.name.as_str())).collect();
    names.sort();
    let expected = [
        ("3", "publish keys"),
        ("4", "publish keys:order.{id}"),
        ("fixed", "publish keys:fixed"),
        ("own", "publish keys"),
    ];
    assert_eq!(names, expected.map(|(key, name)| (key.to_owned(), name)));
    let templated = only(&spans, "publish keys:order.{id}");
    assert_eq!(templated.get("messaging.destination.template"), Some("keys:order.{id}"));
    assert_eq!(templated.get("messaging.destination.name"), Some("keys:4"));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_is_not_sampled_has_no_span_and_is_passed_on_as_it_is() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new().sample(0.0)).topology(queues(&["unsampled", "unsampled-out"]));
    let (to, out) = (app.publisher(Route::queue("unsampled")), app.publisher::<String>(Route::queue("unsampled-out")));
    let service = started(app.consume(Consume::queue("unsampled"), does(&out))).await;
    let sent = foreign(false);
    to.publish_with("text".to_owned(), MessageOptions::new().trace(&sent)).await.unwrap();
    broker.settled(&service).await.unwrap();
    assert_eq!(header(&broker, "unsampled-out", TRACEPARENT), Some(sent.traceparent()));
    // With a trace that is sampled, the same service makes spans: so those of the message before would be here too.
    let sampled = foreign(true);
    to.publish_with("text".to_owned(), MessageOptions::new().trace(&sampled)).await.unwrap();
    let spans = spans(3, &["unsampled", "unsampled-out"]);
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert!(spans.iter().all(|span| span.trace == sampled.trace_id()));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn log_lines_of_what_is_not_sampled_have_their_message_if_that_is_asked_for() {
    let broker = TestBroker::start().unwrap();
    let traces = Traces::new().sample(0.0).in_each_log_line(true);
    let app = app(&broker.url(), traces).topology(queues(&["logged", "logged-out"]));
    let (to, out) = (app.publisher(Route::queue("logged")), app.publisher::<String>(Route::queue("logged-out")));
    let service = started(app.consume(Consume::queue("logged"), does(&out))).await;
    to.publish_with("quietly".to_owned(), MessageOptions::new().id("m7")).await.unwrap();
    broker.settled(&service).await.unwrap();
    let lines = collector().log.lines_with("handles quietly");
    assert!(lines[0].contains("m7") && lines[0].contains("trace_id="), "{lines:?}");
    let passed_on: TraceContext = header(&broker, "logged-out", TRACEPARENT).expect("a trace").parse().unwrap();
    assert!(!passed_on.sampled());
    let trace: String = passed_on.trace_id().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(lines[0].contains(&trace), "{trace} in {lines:?}");
    to.publish_with("aloud".to_owned(), MessageOptions::new().trace(&foreign(true))).await.unwrap();
    let spans = spans(3, &["logged", "logged-out"]);
    assert!(spans.iter().all(|span| span.get("messaging.message.id") != Some("m7")), "{spans:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handler_that_rejects_or_panics_ends_its_span_with_an_error() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["errors", "errors-out"]));
    let (to, out) = (app.publisher(Route::queue("errors")), app.publisher::<String>(Route::queue("errors-out")));
    let q = Consume::queue("errors").retry(Retry::none());
    let service = started(app.consume(q, does(&out))).await;
    for text in ["rejected", "panics"] {
        to.publish_with(text.to_owned(), MessageOptions::new().id(text).header("token", "s3cret")).await.unwrap();
    }
    broker.settled(&service).await.unwrap();
    let spans = spans(4, &["errors"]);
    let of = |id: &str| {
        let all = named(&spans, "process errors");
        all.into_iter().find(|span| span.get("messaging.message.id") == Some(id)).expect("a span").clone()
    };
    let (rejected, crashed) = (of("rejected"), of("panics"));
    assert_eq!((rejected.error.as_deref(), rejected.get("error.type")), (Some("never"), Some("rejected")));
    assert_eq!((crashed.error.as_deref(), crashed.get("error.type")), (Some(""), Some("crashed")));
    let told = spans.iter().flat_map(|span| span.attributes.iter()).find(|(_, value)| value.contains("s3cret"));
    assert_eq!(told, None, "values of headers are no attributes");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_whole_batch_links_all_its_creators_and_is_nobodys_child() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["whole"]));
    let batching = Batching::default().linger(Duration::from_secs(60));
    let out = app.publisher::<String>(Route::queue("whole").batch(batching));
    let service = started(app.consume_batches(Consume::queue("whole").retry(Retry::none()), || Archives)).await;
    for text in ["a", "bad", "c"] {
        drop(out.try_enqueue(text.to_owned()).unwrap());
    }
    out.flush().await;
    broker.settled(&service).await.unwrap();
    let spans = spans(5, &["whole"]);
    let (created, publish, process) =
        (named(&spans, "create whole"), only(&spans, "publish whole"), only(&spans, "process whole"));
    assert_eq!((created.len(), publish.kind, process.kind), (3, SpanKind::Client, SpanKind::Consumer));
    assert!(process.parent.is_empty(), "{process:?}");
    for one in created {
        assert!(process.linked("creation").contains(&&one.id[..]), "it links {:?}", one.get("messaging.message.id"));
        assert!(publish.linked("creation").contains(&&one.id[..]));
        assert!(one.parent.is_empty());
    }
    assert_eq!(process.get("messaging.batch.message_count"), Some("3"));
    assert_eq!(process.get("error.type"), Some("items_failed"));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn without_spans_of_creation_messages_of_a_batch_are_children_of_its_publish() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new().create(false)).topology(queues(&["plain"]));
    let batching = Batching::default().linger(Duration::from_secs(60));
    let out = app.publisher::<String>(Route::queue("plain").batch(batching));
    let service = started(app.consume(Consume::queue("plain"), || Does { out: None })).await;
    for text in ["a", "b"] {
        drop(out.try_enqueue(text.to_owned()).unwrap());
    }
    out.flush().await;
    broker.settled(&service).await.unwrap();
    let spans = spans(3, &["plain"]);
    let (publish, process) = (only(&spans, "publish plain"), named(&spans, "process plain"));
    assert_eq!((spans.len(), publish.kind, process.len()), (3, SpanKind::Producer, 2));
    for one in process {
        assert_child(one, publish);
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_message_that_has_gathered_alone_has_the_spans_of_a_batch_and_its_handling_is_a_child_of_its_creation() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["lone"]));
    // What has waited for its turn joins a batch, which nothing keeps open.
    let route = Route::queue("lone").batch(Batching::adaptive()).rate_limit(RateLimit::per_second(1_000, 10));
    let out = app.publisher::<String>(route);
    let service = started(app.consume(Consume::queue("lone"), || Does { out: None })).await;
    out.publish("a".to_owned()).await.unwrap();
    broker.settled(&service).await.unwrap();
    let spans = spans(3, &["lone"]);
    let (create, publish) = (only(&spans, "create lone"), only(&spans, "publish lone"));
    assert_eq!((publish.kind, publish.get("messaging.batch.message_count")), (SpanKind::Client, None));
    assert_eq!(publish.linked("creation"), [&create.id[..]]);
    assert_child(only(&spans, "process lone"), create);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn of_a_batch_only_the_messages_that_are_sampled_have_spans() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new().sample(0.0)).topology(queues(&["few"]));
    let batching = Batching::default().linger(Duration::from_secs(60));
    let out = app.publisher::<String>(Route::queue("few").batch(batching));
    let service = started(app.consume(Consume::queue("few"), || Does { out: None })).await;
    let sampled = foreign(true);
    for number in 0..5 {
        let enqueue = || out.try_enqueue(format!("text {number}"));
        drop(if number == 2 { trace::within(sampled.clone(), enqueue) } else { enqueue() }.unwrap());
    }
    out.flush().await;
    broker.settled(&service).await.unwrap();
    // The batch's own span is sampled, because it sends a message that is. The other messages are not for that.
    let spans = spans(3, &["few"]);
    let (create, publish) = (only(&spans, "create few"), only(&spans, "publish few"));
    assert_eq!(spans.len(), 3, "{spans:?}");
    assert_eq!(publish.linked("creation"), [&create.id[..]]);
    assert_child(only(&spans, "process few"), create);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_handling_is_a_trace_of_its_own_if_that_is_asked_for() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new().parent(false)).topology(queues(&["apart"]));
    let out = app.publisher(Route::queue("apart"));
    let service = started(app.consume(Consume::queue("apart"), || Does { out: None })).await;
    out.publish("text".to_owned()).await.unwrap();
    let spans = spans(2, &["apart"]);
    let (publish, process) = (only(&spans, "publish apart"), only(&spans, "process apart"));
    assert!(process.parent.is_empty() && process.trace != publish.trace);
    assert_eq!(process.linked("creation"), [&publish.id[..]]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_prepared_message_is_linked_by_the_span_that_sends_it_and_continues_the_one_that_made_it() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["prepared"]));
    let forwarder = app.forwarder("outbox");
    let service = started(app.consume(Consume::queue("prepared"), || Does { out: None })).await;
    let made = foreign(true);
    let route = Route::<String>::queue("prepared");
    let prepared = trace::within(made.clone(), || route.prepare(&"text".to_owned(), &MessageOptions::new())).unwrap();
    forwarder.publish(Prepared::from_bytes(prepared.to_bytes().unwrap()).unwrap()).await.unwrap();
    broker.settled(&service).await.unwrap();
    // A forwarder knows no route, so its spans have the exchange's name alone.
    let all = collector().spans(2, |span| span.trace == made.trace_id());
    let (publish, process) = (only(&all, "publish amq.default"), only(&all, "process prepared"));
    assert_eq!((publish.kind, &publish.parent[..]), (SpanKind::Client, &made.span_id()[..]));
    assert_eq!(publish.linked("creation"), [&made.span_id()[..]]);
    assert_eq!(publish.get("fluffle.outcome"), Some("confirmed"));
    assert_eq!((&process.parent[..], process.linked("creation")), (&made.span_id()[..], vec![&made.span_id()[..]]));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_request_has_a_span_and_so_has_its_handling() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["asked"]));
    let asks = app.requester::<String, String>(Route::queue("asked"));
    let service = started(app.consume(Consume::queue("asked"), || Does { out: None })).await;
    assert_eq!(asks.request("text".to_owned()).await.unwrap(), "TEXT");
    let made = foreign(true);
    asks.request_with("text".to_owned(), RequestOptions::new().trace(&made)).await.unwrap();
    let spans = spans(4, &["asked"]);
    let (own, others): (Vec<_>, Vec<_>) = spans.iter().cloned().partition(|span| span.trace != made.trace_id());
    let (publish, process) = (only(&own, "publish asked"), only(&own, "process asked"));
    assert_child(process, publish);
    assert_eq!((publish.kind, publish.get("fluffle.outcome")), (SpanKind::Producer, Some("confirmed")));
    assert_eq!(publish.get("messaging.message.conversation_id"), publish.get("messaging.message.id"));
    assert_eq!(only(&others, "process asked").parent, made.span_id());
    assert_eq!(only(&others, "publish asked").kind, SpanKind::Client);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_journaled_publish_ends_with_the_brokers_confirm() {
    let (broker, folder) = (TestBroker::start().unwrap(), tempfile::tempdir().unwrap());
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["journaled"]));
    let out = app.publisher(Route::queue("journaled").journal(journal));
    let service = started(app.consume(Consume::queue("journaled"), || Does { out: None })).await;
    out.publish("text".to_owned()).await.unwrap();
    let spans = spans(2, &["journaled"]);
    let (publish, process) = (only(&spans, "publish journaled"), only(&spans, "process journaled"));
    assert_child(process, publish);
    assert_eq!(publish.get("fluffle.outcome"), Some("confirmed"));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_ack_has_a_span_if_that_is_asked_for() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new().settle(true)).topology(queues(&["settled"]));
    let out = app.publisher(Route::queue("settled"));
    let q = Consume::queue("settled").retry(Retry::none());
    let service = started(app.consume(q, || Does { out: None })).await;
    for text in ["fine", "rejected"] {
        out.publish_with(text.to_owned(), MessageOptions::new().id(text)).await.unwrap();
    }
    let spans = spans(6, &["settled"]);
    let (processes, acks) = (named(&spans, "process settled"), named(&spans, "ack settled"));
    for (id, outcome) in [("fine", "acked"), ("rejected", "dead_lettered")] {
        let process = processes.iter().find(|span| span.get("messaging.message.id") == Some(id)).expect("a span");
        let ack = acks.iter().find(|ack| ack.parent == process.id).expect("an ack");
        assert_eq!((ack.kind, ack.get("fluffle.outcome")), (SpanKind::Client, Some(outcome)), "{id}");
        assert_eq!(ack.get("messaging.operation.type"), Some("settle"));
        assert!(ack.nanoseconds > 0);
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_is_not_sent_has_a_span_that_says_so() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["unsent"]));
    let route = || Route::queue("unsent").deadline(Duration::from_millis(100));
    let (withdrawn, failed) =
        (app.publisher(route().name("withdrawn")), app.publisher(route().name("failed").mailbox(1)));
    // Before the start, so that nothing is written to a connection that is about to end.
    broker.stop().unwrap();
    let service = app.drain_within(Duration::from_secs(1)).start().await.unwrap();
    let error = withdrawn.publish_with("no".to_owned(), MessageOptions::new().id("withdrawn")).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::NotSent(NotSent::Deadline)), "{error}");
    let kept = failed.enqueue_with("no".to_owned(), MessageOptions::new().id("failed")).await.unwrap();
    assert!(matches!(failed.try_enqueue("no room".to_owned()).unwrap_err().kind(), PublishErrorKind::Full));
    let _ = service.shutdown().await;
    kept.confirmed().await.unwrap_err();
    let spans = spans(3, &["unsent"]);
    let outcome = |id: &str| {
        let span = spans.iter().find(|span| span.get("messaging.message.id") == Some(id)).expect("a span");
        (span.get("fluffle.outcome").unwrap().to_owned(), span.error.is_some())
    };
    assert_eq!(outcome("withdrawn"), ("withdrawn".to_owned(), false));
    assert_eq!(outcome("failed"), ("failed".to_owned(), true));
    assert_eq!(spans.iter().filter(|span| span.get("fluffle.outcome") == Some("failed")).count(), 2, "no room");
}

/// Publishes because of the message in hand, and says so.
struct Causes {
    out: Publisher<String>,
}

impl Actor for Causes {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Causes {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let out = self.out.clone();
        Box::pin(async move {
            let inside = tracing::info_span!("work");
            let publishing = out.publish_with(text.clone(), MessageOptions::new().caused_by(&text));
            tracing::Instrument::instrument(publishing, inside).await?;
            // Another task is not in the span of the handling.
            let options = MessageOptions::new().caused_by(&text);
            actix::spawn(async move { out.publish_with("later".to_owned(), options).await }).await.unwrap()?;
            Ok(())
        })
    }
}

#[actix::test]
async fn what_is_published_because_of_a_message_is_below_the_span_in_which_that_happens() {
    let broker = TestBroker::start().unwrap();
    let app = app(&broker.url(), Traces::new()).topology(queues(&["cause", "effect"]));
    let (to, out) = (app.publisher(Route::queue("cause")), app.publisher::<String>(Route::queue("effect")));
    let service = started(app.consume(Consume::queue("cause"), move || Causes { out: out.clone() })).await;
    to.publish("text".to_owned()).await.unwrap();
    broker.settled(&service).await.unwrap();
    let spans = collector()
        .spans(5, |span| ["publish cause", "process cause", "publish effect", "work"].contains(&span.name.as_str()));
    let (sent, process, work) = (only(&spans, "publish cause"), only(&spans, "process cause"), only(&spans, "work"));
    assert_child(work, process);
    let mut parents: Vec<_> = named(&spans, "publish effect").iter().map(|span| span.parent.clone()).collect();
    let mut expected = vec![work.id.clone(), sent.id.clone()];
    parents.sort();
    expected.sort();
    assert_eq!(parents, expected, "the span that it is in, else the creator of the message");
    service.shutdown().await.unwrap();
}
