//! Messages in the formats of others: CloudEvents, Dapr, MassTransit, Spring AMQP, Celery, and codecs of one's own.

#[path = "../../../../fluffle-wire/tests/others/mod.rs"]
mod others;

use std::collections::BTreeMap;

use bytes::Bytes;
use fluffle::{
    amqp::{DeliveryInfo, Handling, Middleware, Payload, trace},
    prelude::*,
    wire::{
        Codec, DecodeError, EncodeError, SerdeJson, Wire, headers,
        wrappers::{Celery, CloudEvents, Dapr, MassTransit, SpringAmqp},
    },
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use others::{Message, message};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::support::*;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderPlaced {
    order_id: String,
    cents: u64,
    note: String,
}

impl Payload for OrderPlaced {
    fn wire() -> Wire<Self> {
        Wire::serde_json("shop.OrderPlaced")
    }
}

fn order() -> OrderPlaced {
    OrderPlaced { order_id: "o-17".into(), cents: 4995, note: "Grüße an Zoë".into() }
}

/// Of the delivery: the value, the attempt and the id of the trace.
type Given = (String, u32, Option<String>);

/// Handles orders and texts, and tells of each. A note says what to do; `next` gets a text for each order.
#[derive(Clone)]
struct Clerk {
    seen: mpsc::UnboundedSender<Given>,
    next: Option<Publisher<String>>,
}

impl Actor for Clerk {
    type Context = Context<Self>;
}

impl Handler<Delivery<OrderPlaced>> for Clerk {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<OrderPlaced>, _: &mut Self::Context) -> Self::Result {
        let trace = order.trace().map(|trace| trace.trace_id_hex());
        assert_eq!(trace::current().map(|trace| trace.trace_id_hex()), trace, "the handler is in the message's trace");
        let given = (format!("{}: {}", order.order_id, order.note), order.attempt(), trace);
        let (sent, next) = (self.seen.send(given), self.next.clone());
        Box::pin(async move {
            sent?;
            if let Some(next) = next {
                next.publish(order.order_id.clone()).await?;
            }
            match (order.note.as_str(), order.attempt()) {
                ("fails once", 1) => Err(Failure::retry("not yet")),
                ("fails once", _) => Err(Failure::reject("never")),
                _ => Ok(()),
            }
        })
    }
}

impl Handler<Delivery<String>> for Clerk {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.seen.send((text.to_string(), text.attempt(), text.trace().map(|trace| trace.trace_id_hex())))?;
        Ok(())
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Accepts all formats, and knows orders by the names that others give them.
fn accepting<T: 'static>(consume: Consume<T>) -> Consume<T> {
    let consume = consume.accepts(CloudEvents).accepts(MassTransit).accepts(SpringAmqp);
    let consume = consume.accepts(Celery::new()).accepts(Dapr::new()).retry(retry(3));
    ["com.shop.order.placed", "Shop.Orders.OrderPlaced", "com.shop.OrderPlaced", "shop.tasks.place_order"]
        .iter()
        .fold(consume, |consume, name| consume.type_alias(*name, "shop.OrderPlaced"))
}

async fn of_orders(place: &Place, consume: Consume<OrderPlaced>) -> (Service, mpsc::UnboundedReceiver<Given>) {
    let (seen, given) = mpsc::unbounded_channel();
    let clerk = Clerk { seen, next: None };
    (started(app_with_q(place.url()).consume(consume, move || clerk.clone())).await, given)
}

fn properties(message: &Message) -> BasicProperties {
    let mut properties = BasicProperties::default().with_message_id(message.name.as_str().into());
    if let Some(label) = &message.content_type {
        properties = properties.with_content_type(label.as_str().into());
    }
    if let Some(label) = &message.content_encoding {
        properties = properties.with_content_encoding(label.as_str().into());
    }
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        let value = match value {
            serde_json::Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            other => AMQPValue::LongLongInt(other.as_i64().unwrap()),
        };
        headers.insert(name.as_str().into(), value);
    }
    properties.with_headers(headers)
}

async fn put(raw: &Raw, message: &Message) {
    raw.put("q", &message.bytes, properties(message)).await;
}

/// The next dead letter, which is this message as it was sent, with headers about its death added.
async fn dead(raw: &Raw, message: &Message) -> DeadLetter {
    let dead = raw.take("q.dead").await;
    assert_eq!(dead.body, message.bytes, "{}", message.name);
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(text(dead.properties.content_type()), message.content_type);
    assert_eq!(text(dead.properties.content_encoding()), message.content_encoding);
    for (name, value) in &message.headers {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(dead.header(name), Some(value), "{}: {name}", message.name);
    }
    dead
}

#[actix::test]
async fn an_order_is_handled_from_each_format_and_its_trace_is_that_of_the_wrapper() {
    let place = vhost();
    let (service, mut record) = of_orders(&place, accepting(Consume::queue("q"))).await;
    let raw = Raw::connect(place.url()).await;
    let names = [
        ("cloudevents-structured-json", true),
        ("cloudevents-binary-json", true),
        ("knative", true),
        ("dapr", true),
        ("masstransit", true),
        ("spring", false),
        ("celery-keywords", false),
    ];
    for (name, traced) in names {
        put(&raw, &message(name)).await;
        let (value, attempt, trace) = soon("an order", record.recv()).await.unwrap();
        assert_eq!((value.as_str(), attempt), ("o-17: Grüße an Zoë", 1), "{name}");
        assert_eq!(trace.as_deref(), traced.then_some(TRACE), "{name}");
    }
    until("all are acked", || stats(&service).handled == names.len() as u64).await;
    nothing_left(&place, service).await;
}

/// Tells the trace of each message. A span of an attempt has its parent from there.
struct Traces(mpsc::UnboundedSender<Option<String>>);

impl Middleware for Traces {
    fn before(&self, delivery: &DeliveryInfo<'_>) -> Result<Box<dyn Handling>, Failure> {
        self.0.send(delivery.trace().map(|trace| trace.trace_id_hex()))?;
        Ok(Box::new(()))
    }
}

#[actix::test]
async fn what_a_handler_publishes_and_its_span_continue_the_trace_that_came_in_the_body() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let (spans, mut parents) = mpsc::unbounded_channel();
    let topology = Topology::new().queue(Queue::quorum("q").dead_letter()).queue(Queue::quorum("next"));
    let app = App::new(broker(place.url())).topology(topology);
    let clerk = Clerk { seen, next: Some(app.publisher::<String>(Route::queue("next"))) };
    let consume = accepting(Consume::<OrderPlaced>::queue("q")).middleware(Traces(spans));
    let service = started(app.consume(consume, move || clerk.clone())).await;
    let raw = Raw::connect(place.url()).await;
    put(&raw, &message("dapr")).await;
    soon("an order", record.recv()).await.unwrap();
    assert_eq!(soon("a parent", parents.recv()).await.unwrap().as_deref(), Some(TRACE));
    let next = raw.take("next").await;
    let parent = next.header(headers::TRACEPARENT).expect("a trace");
    assert_eq!(parent.split('-').nth(1), Some(TRACE));
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_message_that_is_not_in_the_format_of_its_labels_is_a_dead_letter_that_says_why() {
    let place = vhost();
    let (service, _record) = of_orders(&place, accepting(Consume::queue("q"))).await;
    let raw = Raw::connect(place.url()).await;
    let event = message("cloudevents-structured-json");
    let task = message("celery-keywords");
    let cases = [
        (event.with("\"source\"", "\"sources\""), "it has no `source`"),
        (event.with("\"1.0\"", "\"0.2\""), "`specversion` is \"0.2\""),
        (event.with("4995", "\"4995\""), "the body is not a shop.OrderPlaced"),
        (event.with("com.shop.order.placed", "com.shop.order.lost"), "type_alias(\"com.shop.order.lost\""),
        (event.with("}", ""), "CloudEvents"),
        (event.clone().labelled("application/cloudevents-batch+json"), "publish each event by itself"),
        (message("cloudevents-binary-json").without_header("cloudEvents_id"), "no header `cloudEvents_id`"),
        (message("dapr-raw"), "Dapr::raw_payload"),
        (message("masstransit").with("\"messageType\"", "\"types\""), "it has no `messageType`"),
        (message("masstransit").labelled("application/vnd.masstransit+bson"), "UseBsonSerializer"),
        (message("spring-list"), "it is a collection"),
        (message("spring-serialized"), "Jackson2JsonMessageConverter"),
        (message("spring").labelled("application/json; charset=utf-16"), "utf-16"),
        (message("celery-pickle"), "task_serializer"),
        (message("celery-compressed"), "task_compression"),
        (message("celery-countdown"), "not to run before"),
        (message("celery-chain"), "`chain`"),
        (message("celery-arguments"), "Celery::argument"),
        (task.with_body("[[], {}"), "not JSON"),
    ];
    for (bad, why) in &cases {
        put(&raw, bad).await;
        let dead = dead(&raw, bad).await;
        assert_eq!(dead.header(headers::REASON).unwrap(), "undecodable", "{}", bad.name);
        let error = dead.header(headers::ERROR).unwrap();
        assert!(error.contains(why) && error.len() < 1_000, "{}: {error}", bad.name);
        assert!(!error.contains("Grüße"), "the error quotes the body: {error}");
    }
    until("all are settled", || {
        let stats = stats(&service);
        (stats.handled, stats.dead_lettered) == (0, cases.len() as u64)
    })
    .await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_format_that_the_consumer_does_not_name_is_a_dead_letter_that_says_how_to_accept_it() {
    let place = vhost();
    let (service, _record) = of_orders(&place, accepting(Consume::queue("q")).strict()).await;
    let raw = Raw::connect(place.url()).await;
    for (name, how) in [
        ("cloudevents-structured-json", "Consume::accepts(CloudEvents)"),
        ("dapr", "Consume::accepts(Dapr::new())"),
        ("masstransit", "Consume::accepts(MassTransit)"),
        ("celery-keywords", "Consume::accepts(Celery::new())"),
    ] {
        let message = message(name);
        put(&raw, &message).await;
        let error = dead(&raw, &message).await.header(headers::ERROR).unwrap();
        assert!(error.contains(how), "{name}: {error}");
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_retry_copy_and_a_dead_letter_are_the_message_as_it_came() {
    let place = vhost();
    let (service, mut record) = of_orders(&place, accepting(Consume::queue("q"))).await;
    let raw = Raw::connect(place.url()).await;
    for name in
        ["cloudevents-structured-json", "cloudevents-binary-json", "masstransit", "dapr", "spring", "celery-keywords"]
    {
        let sent = message(name);
        let note = if sent.bytes.windows(4).any(|part| part == b"\\u00") {
            r"Gr\u00fc\u00dfe an Zo\u00eb"
        } else {
            "Grüße an Zoë"
        };
        let note = if name == "masstransit" { r"Gr\u00FC\u00DFe an Zo\u00EB" } else { note };
        let sent = sent.with(note, "fails once");
        put(&raw, &sent).await;
        for attempt in 1..=2 {
            let (value, found, _) = soon("an attempt", record.recv()).await.unwrap();
            assert_eq!((value.as_str(), found), ("o-17: fails once", attempt), "{name}");
        }
        let dead = dead(&raw, &sent).await;
        assert_eq!(dead.header(headers::REASON).unwrap(), "rejected");
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn the_types_of_one_queue_may_come_in_different_formats() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let clerk = Clerk { seen, next: None };
    let consume = accepting(Consume::<OneOf<(OrderPlaced, String)>>::queue("q"));
    let consume = consume.type_alias("gov.usgs.alert", "google.protobuf.StringValue");
    let service = started(app_with_q(place.url()).consume_types(consume, move || clerk.clone())).await;
    let raw = Raw::connect(place.url()).await;
    let mixed = [
        ("masstransit", "o-17: Grüße an Zoë"),
        ("cloudevents-binary-protobuf", "o-17"),
        ("celery-keywords", "o-17: Grüße an Zoë"),
        ("dapr-binary", "o-17"),
        ("cloudevents-structured-protobuf", "o-17"),
        ("spring", "o-17: Grüße an Zoë"),
    ];
    for (name, expected) in mixed {
        put(&raw, &message(name)).await;
        assert_eq!(soon("a message", record.recv()).await.unwrap().0, expected, "{name}");
    }
    // Dapr's default type says nothing, and a queue of several types needs a type.
    let untyped = message("dapr");
    put(&raw, &untyped).await;
    let error = dead(&raw, &untyped).await.header(headers::ERROR).unwrap();
    assert!(error.contains("no type") && error.contains("within Dapr"), "{error}");
    nothing_left(&place, service).await;
}

/// A question, and its answer: plain text, and JSON beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said(String);

impl Payload for Said {
    fn wire() -> Wire<Self> {
        Wire::new(Plain).reads(SerdeJson::new("example.Said"))
    }
}

struct Plain;

impl Codec<Said> for Plain {
    fn media_type(&self) -> &str {
        "text/plain"
    }

    fn type_name(&self) -> String {
        "example.Said".into()
    }

    fn encode(&self, said: &Said, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        into.extend_from_slice(said.0.as_bytes());
        Ok(())
    }

    fn decode(&self, body: &Bytes) -> Result<Said, DecodeError> {
        let text = String::from_utf8(body.to_vec());
        text.map(Said).map_err(|error| DecodeError::malformed("example.Said", error))
    }
}

/// Says what it is told.
struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Delivery<Said, Said>> for Echo {
    type Result = Result<Said, Failure>;

    fn handle(&mut self, said: Delivery<Said, Said>, _: &mut Self::Context) -> Self::Result {
        Ok(said.clone())
    }
}

#[actix::test]
async fn an_answer_is_in_the_format_of_the_request_whatever_it_came_in() {
    let place = vhost();
    let consume = Consume::<Said, Said>::queue("q").accepts(CloudEvents);
    let service = started(app_with_q(place.url()).consume(consume, || Echo)).await;
    let raw = Raw::connect(place.url()).await;
    raw.channel().queue_declare("answers".into(), Default::default(), FieldTable::default()).await.unwrap();
    let event = |label: &str, data: &str| {
        let of = r#""specversion":"1.0","id":"1","source":"/t","type":"example.Said""#;
        format!(r#"{{{of},"datacontenttype":"{label}","data":{data}}}"#)
    };
    let (json, text) = ("application/json; proto=example.Said", "text/plain; proto=example.Said");
    for (content_type, body, answer, of) in [
        (None, "moin".to_owned(), "moin", text),
        (Some("text/plain"), "moin".to_owned(), "moin", text),
        (Some("application/json; charset=utf-8"), "\"moin\"".to_owned(), "\"moin\"", json),
        (Some("application/cloudevents+json"), event("application/json", "\"moin\""), "\"moin\"", json),
        (Some("application/cloudevents+json"), event("text/plain", "\"moin\""), "moin", text),
    ] {
        let asked = BasicProperties::default().with_reply_to("answers".into()).with_correlation_id("c".into());
        let asked = content_type.into_iter().fold(asked, |asked, label: &str| asked.with_content_type(label.into()));
        raw.put("q", body.as_bytes(), asked).await;
        let found = raw.take("answers").await;
        let label = found.properties.content_type().as_ref().unwrap().to_string();
        assert_eq!((String::from_utf8(found.body).unwrap().as_str(), label.as_str()), (answer, of), "{body}");
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_type_of_serde_is_published_and_consumed_like_any_other() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let clerk = Clerk { seen, next: None };
    let app = app_with_q(place.url());
    let out = app.publisher::<OrderPlaced>(Route::queue("q"));
    let service = started(app.consume(Consume::<OrderPlaced>::queue("q"), move || clerk.clone())).await;
    soon("published", out.publish(order())).await.unwrap();
    assert_eq!(soon("an order", record.recv()).await.unwrap().0, "o-17: Grüße an Zoë");
    // A batch of them, and the labels of others.
    let raw = Raw::connect(place.url()).await;
    let batch = OrderPlaced::wire().encode_batch(&[order(), order()]).unwrap();
    raw.put("q", &batch.body, labels(&batch, "batch")).await;
    let json = serde_json::to_vec(&order()).unwrap();
    for label in ["application/json", "application/json; charset=UTF-8", "Application/Json;charset=\"utf8\""] {
        raw.put("q", &json, BasicProperties::default().with_content_type(label.into())).await;
    }
    raw.put("q", &json, BasicProperties::default()).await;
    for _ in 0..6 {
        assert_eq!(soon("an order", record.recv()).await.unwrap().0, "o-17: Grüße an Zoë");
    }
    let wrong: BTreeMap<&str, &str> = [
        ("application/json; charset=latin1", "latin1"),
        ("application/protobuf", "application/protobuf"),
        ("application/octet-stream", "application/octet-stream"),
    ]
    .into();
    for (label, word) in wrong {
        raw.put("q", &json, BasicProperties::default().with_content_type(label.into())).await;
        let error = raw.take("q.dead").await.header(headers::ERROR).unwrap();
        assert!(error.contains(word), "{error}");
    }
    nothing_left(&place, service).await;
}
