//! A queue that carries several types: each message goes to the handler of its type.

use std::sync::Arc;

use fluffle::{
    amqp::{Payload, Raw as Bare},
    prelude::*,
    wire::{Encoded, Wire, headers},
};
use lapin::BasicProperties;
use prost::bytes::Bytes;
use tokio::sync::mpsc;

use crate::support::*;

type Both = OneOf<(String, u32)>;

/// What a handler was given: its type, its value, its id and its attempt.
type Given = (&'static str, String, Option<String>, u32);

/// Handles texts and numbers, and tells of each.
#[derive(Clone)]
struct Clerk(mpsc::UnboundedSender<Given>);

impl Actor for Clerk {
    type Context = Context<Self>;
}

impl Clerk {
    fn handle<T>(&self, kind: &'static str, value: String, delivery: &Delivery<T>) -> Result<(), Failure> {
        let given = (kind, value.clone(), delivery.message_id().map(str::to_owned), delivery.attempt());
        self.0.send(given)?;
        match value.as_str() {
            "rejected" | "13" => Err(Failure::reject("never")),
            "fails once" | "7" | "fails, then rejected" if delivery.attempt() == 1 => Err(Failure::retry("not yet")),
            "fails, then rejected" => Err(Failure::reject("never")),
            "panics" if delivery.attempt() == 1 => panic!("scripted panic"),
            _ => Ok(()),
        }
    }
}

impl Handler<Delivery<String>> for Clerk {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Clerk::handle(self, "text", text.clone(), &text)
    }
}

impl Handler<Delivery<u32>> for Clerk {
    type Result = Result<(), Failure>;

    fn handle(&mut self, number: Delivery<u32>, _: &mut Self::Context) -> Self::Result {
        Clerk::handle(self, "number", number.to_string(), &number)
    }
}

impl Handler<Delivery<Bare>> for Clerk {
    type Result = Result<(), Failure>;

    fn handle(&mut self, other: Delivery<Bare>, _: &mut Self::Context) -> Self::Result {
        let value = format!("{:?} {:?}", other.type_name, other.body);
        Clerk::handle(self, "other", value, &other)
    }
}

fn of_both() -> Consume<Both> {
    Consume::queue("q").retry(retry(3))
}

/// A service whose `q` has this consumer, and what its handlers are given.
async fn service(place: &Place, consume: Consume<Both>) -> (Service, mpsc::UnboundedReceiver<Given>) {
    let (seen, given) = mpsc::unbounded_channel();
    let clerk = Clerk(seen);
    (started(app_with_q(place.url()).consume_types(consume, move || clerk.clone())).await, given)
}

async fn put(raw: &Raw, encoded: &Encoded, id: &str) {
    raw.put("q", &encoded.body, labels(encoded, id)).await;
}

async fn text(raw: &Raw, id: &str, text: &str) {
    put(raw, &Wire::<String>::protobuf().encode(&text.to_owned()).unwrap(), id).await;
}

async fn number(raw: &Raw, id: &str, number: u32) {
    put(raw, &Wire::<u32>::protobuf().encode(&number).unwrap(), id).await;
}

async fn given(record: &mut mpsc::UnboundedReceiver<Given>, count: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for _ in 0..count {
        let (kind, value, ..) = soon("a message", record.recv()).await.unwrap();
        all.push((kind.to_owned(), value));
    }
    all
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(kind, value)| ((*kind).to_owned(), (*value).to_owned())).collect()
}

#[actix::test]
async fn each_message_goes_to_the_handler_of_its_type_in_the_order_of_the_queue() {
    let place = vhost();
    let (service, mut record) = service(&place, of_both()).await;
    let raw = Raw::connect(place.url()).await;
    for n in 0..50 {
        text(&raw, &format!("t{n}"), &format!("t{n}")).await;
        number(&raw, &format!("n{n}"), 100 + n).await;
    }
    for n in 0..50 {
        let expected = pairs(&[("text", &format!("t{n}")), ("number", &(100 + n).to_string())]);
        assert_eq!(given(&mut record, 2).await, expected);
    }
    until("all are acked", || stats(&service).handled == 100).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_message_of_each_type_is_retried_and_rejected_as_itself() {
    let place = vhost();
    let (service, mut record) = service(&place, of_both()).await;
    let raw = Raw::connect(place.url()).await;
    number(&raw, "n", 7).await;
    text(&raw, "t", "panics").await;
    number(&raw, "dead", 13).await;
    let mut all = given(&mut record, 5).await;
    all.sort();
    let expected = pairs(&[("number", "13"), ("number", "7"), ("number", "7"), ("text", "panics"), ("text", "panics")]);
    assert_eq!(all, expected);
    let dead = raw.take("q.dead").await;
    assert_eq!(dead.properties.kind().as_ref().unwrap().as_str(), "google.protobuf.UInt32Value");
    until("all are settled", || (stats(&service).handled, stats(&service).dead_lettered) == (2, 1)).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_message_of_no_type_or_another_type_is_a_dead_letter_that_names_the_types() {
    let place = vhost();
    let (service, _record) = service(&place, of_both()).await;
    let raw = Raw::connect(place.url()).await;
    put(&raw, &Wire::<bool>::protobuf().encode(&true).unwrap(), "b").await;
    raw.put("q", b"", BasicProperties::default()).await;
    for found in ["google.protobuf.BoolValue", "no type"] {
        let dead = raw.take("q.dead").await;
        assert_eq!(dead.header(headers::REASON).unwrap(), "undecodable");
        let error = dead.header(headers::ERROR).unwrap();
        for word in [found, "google.protobuf.StringValue", "google.protobuf.UInt32Value"] {
            assert!(error.contains(word), "{error}");
        }
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn other_types_are_skipped_and_counted_if_the_consumer_says_so_and_each_is_acked() {
    let place = vhost();
    let (service, mut record) = service(&place, of_both().skip_other_types()).await;
    let raw = Raw::connect(place.url()).await;
    let others: Vec<bool> = vec![true; 3];
    put(&raw, &Wire::<bool>::protobuf().encode(&true).unwrap(), "b").await;
    put(&raw, &Wire::<bool>::protobuf().encode_batch(&others).unwrap(), "batch").await;
    raw.put("q", b"", BasicProperties::default()).await;
    // A type that is right with a body that is wrong is not of another type.
    let broken = labels(&Wire::<String>::protobuf().encode(&"x".to_owned()).unwrap(), "broken");
    raw.put("q", b"\x0a\x7f", broken).await;
    text(&raw, "t", "after them").await;
    assert_eq!(given(&mut record, 1).await, pairs(&[("text", "after them")]));
    until("all are settled", || {
        let stats = stats(&service);
        (stats.skipped, stats.handled, stats.dead_lettered) == (3, 1, 1)
    })
    .await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn raw_as_one_of_the_types_is_given_all_others() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let clerk = Clerk(seen);
    let consume = Consume::<OneOf<(Bare, String)>>::queue("q").retry(retry(1));
    let service = started(app_with_q(place.url()).consume_types(consume, move || clerk.clone())).await;
    let raw = Raw::connect(place.url()).await;
    text(&raw, "t", "named").await;
    number(&raw, "n", 5).await;
    raw.put("q", b"bare", BasicProperties::default()).await;
    let named = format!("{:?} {:?}", Some("google.protobuf.UInt32Value"), Bytes::from_static(b"\x08\x05"));
    let bare = format!("{:?} {:?}", None::<String>, Bytes::from_static(b"bare"));
    let expected = pairs(&[("text", "named"), ("other", &named), ("other", &bare)]);
    assert_eq!(given(&mut record, 3).await, expected);
    until("all are acked", || stats(&service).handled == 3).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_type_is_known_by_its_aliases_and_an_alias_of_no_type_is_refused_at_the_start() {
    let place = vhost();
    let consume = of_both().type_alias("number", "google.protobuf.UInt32Value");
    let (service, mut record) = service(&place, consume).await;
    let raw = Raw::connect(place.url()).await;
    let body = Wire::<u32>::protobuf().encode(&5).unwrap().body;
    raw.put("q", &body, BasicProperties::default().with_type("number".into())).await;
    // Also when the content type says another one of its names.
    let both = BasicProperties::default()
        .with_type("number".into())
        .with_content_type("application/protobuf; proto=google.protobuf.UInt32Value".into());
    raw.put("q", &body, both).await;
    assert_eq!(given(&mut record, 2).await, pairs(&[("number", "5"), ("number", "5")]));
    nothing_left(&place, service).await;

    let (seen, _record) = mpsc::unbounded_channel();
    let (clerk, consume) = (Clerk(seen), of_both().type_alias("number", "example.Number"));
    let said = contradiction(app_with_q(place.url()).consume_types(consume, move || clerk.clone())).await;
    assert!(said.contains("`example.Number`") && said.contains("google.protobuf.UInt32Value"), "{said}");
}

#[actix::test]
async fn the_items_of_a_batch_go_to_the_handler_of_its_type_and_each_fails_by_itself() {
    let place = vhost();
    let (service, mut record) = service(&place, of_both()).await;
    let raw = Raw::connect(place.url()).await;
    put(&raw, &Wire::<u32>::protobuf().encode_batch(&[1, 7, 2, 13]).unwrap(), "n").await;
    put(&raw, &batch(&["a", "b"]), "t").await;
    let mut all = Vec::new();
    for _ in 0..7 {
        all.push(soon("an item", record.recv()).await.unwrap());
    }
    let again = all.iter().find(|(.., attempt)| *attempt == 2).expect("the item that failed once");
    assert_eq!((again.1.as_str(), again.2.as_deref()), ("7", Some("n/1")));
    let first: Vec<&str> = all.iter().filter(|given| given.3 == 1).map(|(_, value, ..)| value.as_str()).collect();
    assert_eq!(first, ["1", "7", "2", "13", "a", "b"]);
    let dead = raw.take("q.dead").await;
    let label = dead.properties.content_type().as_ref().unwrap().to_string();
    assert_eq!(label, "application/vnd.google.protobuf; proto=google.protobuf.UInt32Value");
    nothing_left(&place, service).await;
}

#[actix::test]
async fn messages_of_a_key_keep_their_order_whatever_their_types() {
    let place = vhost();
    let key = |event: &Both| match (event.get::<String>(), event.get::<u32>()) {
        (Some(text), _) => text.split('-').next().unwrap_or_default().to_owned(),
        (_, Some(number)) => (number % 10).to_string(),
        _ => String::new(),
    };
    let (service, mut record) = service(&place, of_both().instances(4).ordered_by(key)).await;
    let raw = Raw::connect(place.url()).await;
    for n in 0..20_u32 {
        number(&raw, &format!("n{n}"), 20 + n).await;
        text(&raw, &format!("t{n}"), &format!("{}-{n}", n % 10)).await;
    }
    let mut of_key: std::collections::HashMap<String, Vec<String>> = std::collections::HashMap::new();
    for (kind, value) in given(&mut record, 40).await {
        let key = match kind.as_str() {
            "text" => value.split('-').next().unwrap().to_owned(),
            _ => (value.parse::<u32>().unwrap() % 10).to_string(),
        };
        of_key.entry(key).or_default().push(value);
    }
    for digit in 0..10 {
        let expected = [
            format!("{}", 20 + digit),
            format!("{digit}-{digit}"),
            format!("{}", 30 + digit),
            format!("{digit}-{}", digit + 10),
        ];
        assert_eq!(of_key[&digit.to_string()], expected);
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn a_message_published_twice_is_handled_once_whatever_its_type() {
    let place = vhost();
    let store = Arc::new(SeenIds::options().in_memory().unwrap());
    let (service, mut record) = service(&place, of_both().effectively_once(store)).await;
    let raw = Raw::connect(place.url()).await;
    for _ in 0..2 {
        text(&raw, "t", "text").await;
        number(&raw, "n", 5).await;
    }
    assert_eq!(given(&mut record, 2).await, pairs(&[("text", "text"), ("number", "5")]));
    until("both are known", || (stats(&service).handled, stats(&service).duplicates) == (2, 2)).await;
    nothing_left(&place, service).await;
}

/// Answers texts and numbers with their length.
struct Measure;

impl Actor for Measure {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, u64>> for Measure {
    type Result = Result<u64, Failure>;

    fn handle(&mut self, text: Delivery<String, u64>, _: &mut Self::Context) -> Self::Result {
        Ok(text.len() as u64)
    }
}

impl Handler<Delivery<u32, u64>> for Measure {
    type Result = ResponseFuture<Result<u64, Failure>>;

    fn handle(&mut self, number: Delivery<u32, u64>, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move { Ok(number.to_string().len() as u64) })
    }
}

#[actix::test]
async fn requests_of_each_type_are_answered() {
    let place = vhost();
    let app = app_with_q(place.url());
    let texts: Requester<String, u64> = app.requester(Route::queue("q"));
    let numbers: Requester<u32, u64> = app.requester(Route::queue("q"));
    let service = started(app.consume_types(Consume::<OneOf<(String, u32)>, u64>::queue("q"), || Measure)).await;
    assert_eq!(soon("an answer", texts.request("four".into())).await.unwrap(), 4);
    assert_eq!(soon("an answer", numbers.request(12345)).await.unwrap(), 5);
    nothing_left(&place, service).await;
}

/// Takes batches of both types at once.
struct Whole(mpsc::UnboundedSender<Vec<String>>);

impl Actor for Whole {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<Both>> for Whole {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<Both>, _: &mut Self::Context) -> Self::Result {
        let shown = |event: Both| match event.take::<String>() {
            Ok(text) => text,
            Err(other) => other.get::<u32>().map(ToString::to_string).unwrap_or_default(),
        };
        let all: Result<Vec<Both>, _> = batch.iter().collect();
        self.0.send(all.map_err(Failure::reject)?.into_iter().map(shown).collect())?;
        Ok(ItemFailures::none())
    }
}

#[actix::test]
async fn whole_batches_of_either_type_go_to_one_handler() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let service = started(app_with_q(place.url()).consume_batches(of_both(), move || Whole(seen.clone()))).await;
    let raw = Raw::connect(place.url()).await;
    put(&raw, &Wire::<u32>::protobuf().encode_batch(&[1, 2]).unwrap(), "n").await;
    put(&raw, &batch(&["a", "b"]), "t").await;
    text(&raw, "alone", "alone").await;
    for expected in [vec!["1", "2"], vec!["a", "b"], vec!["alone"]] {
        assert_eq!(soon("a batch", record.recv()).await.unwrap(), expected);
    }
    nothing_left(&place, service).await;
}

#[actix::test]
async fn fields_that_this_service_does_not_know_survive_a_retry_and_a_dead_letter() {
    let place = vhost();
    let (service, mut record) = service(&place, of_both()).await;
    let raw = Raw::connect(place.url()).await;
    for value in ["rejected", "fails, then rejected"] {
        let encoded = Wire::<String>::protobuf().encode(&value.to_owned()).unwrap();
        // Field 15, a varint, of a version of the type that this service does not have.
        let body = [&encoded.body[..], b"\x78\x2a"].concat();
        raw.put("q", &body, labels(&encoded, value)).await;
        assert_eq!(raw.take("q.dead").await.body, body, "{value}");
    }
    let mut all = given(&mut record, 3).await;
    all.sort();
    let twice = ("text", "fails, then rejected");
    assert_eq!(all, pairs(&[twice, twice, ("text", "rejected")]));
    nothing_left(&place, service).await;
}

/// Seven events of both types in a row, as a publisher of both sends them.
fn events() -> Vec<Both> {
    let texts = ["a", "fails once", "b"].map(|text| OneOf::new(text.to_owned()));
    let mut events: Vec<Both> = texts.into_iter().flat_map(|text| [text, OneOf::new(13_u32)]).collect();
    events.push(OneOf::new(5_u32));
    events
}

#[actix::test]
async fn a_publisher_of_both_types_keeps_their_order_and_labels_each() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let clerk = Clerk(seen);
    let app = app_with_q(place.url());
    let out = app.publisher::<Both>(Route::queue("q"));
    let service = started(app.consume_types(of_both().retry(retry(1)), move || clerk.clone())).await;
    for event in events() {
        soon("confirmed", out.publish(event)).await.unwrap();
    }
    let expected = [("text", "a"), ("number", "13"), ("text", "fails once"), ("number", "13"), ("text", "b")];
    assert_eq!(given(&mut record, 7).await, pairs(&[&expected[..], &[("number", "13"), ("number", "5")]].concat()));
    until("all are settled", || (stats(&service).handled, stats(&service).dead_lettered) == (3, 4)).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn an_envelope_of_several_types_is_one_message_and_each_item_goes_to_the_handler_of_its_type() {
    let place = vhost();
    let (seen, mut record) = mpsc::unbounded_channel();
    let clerk = Clerk(seen);
    let app = app_with_q(place.url());
    let out = app.publisher::<Both>(Route::queue("q").batch(Batching::default()));
    let service = started(app.consume_types(of_both(), move || clerk.clone())).await;
    let mut receipts = Vec::new();
    for event in events() {
        receipts.push(soon("accepted", out.enqueue(event)).await.unwrap());
    }
    for receipt in receipts {
        soon("confirmed", receipt.confirmed()).await.unwrap();
    }
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(soon("an item", record.recv()).await.unwrap());
    }
    assert_eq!(stats(&service).batches, 1);
    let first: Vec<(String, String)> =
        all.iter().filter(|given| given.3 == 1).map(|(kind, value, ..)| ((*kind).to_owned(), value.clone())).collect();
    let expected = [("text", "a"), ("number", "13"), ("text", "fails once"), ("number", "13"), ("text", "b")];
    assert_eq!(first, pairs(&[&expected[..], &[("number", "13"), ("number", "5")]].concat()));
    let raw = Raw::connect(place.url()).await;
    for _ in 0..3 {
        let dead = raw.take("q.dead").await;
        assert_eq!(dead.properties.kind().as_ref().unwrap().as_str(), "google.protobuf.UInt32Value");
        assert_eq!(dead.header(headers::ITEM_TYPES), None, "an item has the type of itself alone");
        assert_eq!(dead.body, b"\x08\x0d");
    }
    until("all are settled", || (stats(&service).handled, stats(&service).dead_lettered) == (4, 3)).await;
    nothing_left(&place, service).await;
}

#[actix::test]
async fn of_an_envelope_of_several_types_only_the_items_of_other_types_are_skipped_or_die() {
    for skip in [false, true] {
        let place = vhost();
        let consume = if skip { of_both().skip_other_types() } else { of_both() };
        let (service, mut record) = service(&place, consume).await;
        let wire = OneOf::<(String, bool, u32)>::wire();
        let events = [OneOf::new("a".to_owned()), OneOf::new(true), OneOf::new(5_u32), OneOf::new("b".to_owned())];
        let raw = Raw::connect(place.url()).await;
        let sent = wire.encode_batch(&events).unwrap();
        let types = sent.item_types.as_deref().unwrap();
        let mut table = lapin::types::FieldTable::default();
        table.insert(headers::ITEM_TYPES.into(), lapin::types::AMQPValue::LongString(types.into()));
        raw.put("q", &sent.body, labels(&sent, "e").with_headers(table)).await;
        assert_eq!(given(&mut record, 3).await, pairs(&[("text", "a"), ("number", "5"), ("text", "b")]));
        let wanted = if skip { (3, 0, 1) } else { (3, 1, 0) };
        until("all are settled", || {
            let stats = stats(&service);
            (stats.handled, stats.dead_lettered, stats.skipped) == wanted
        })
        .await;
        if !skip {
            let dead = raw.take("q.dead").await;
            assert_eq!(dead.properties.kind().as_ref().unwrap().as_str(), "google.protobuf.BoolValue");
            assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), "e/1");
        }
        nothing_left(&place, service).await;
    }
}

#[actix::test]
async fn the_rest_of_a_damaged_envelope_keeps_the_types_of_its_items() {
    let place = vhost();
    let (service, mut record) = service(&place, of_both()).await;
    let events: [Both; 3] = [OneOf::new("a".to_owned()), OneOf::new(5_u32), OneOf::new("b".to_owned())];
    let sent = Both::wire().encode_batch(&events).unwrap();
    let mut body = sent.body.to_vec();
    // The length of the second item points past the end.
    let second = 1 + usize::from(body[0]);
    body[second] = 100;
    let mut table = lapin::types::FieldTable::default();
    let types = sent.item_types.as_deref().unwrap();
    table.insert(headers::ITEM_TYPES.into(), lapin::types::AMQPValue::LongString(types.into()));
    let raw = Raw::connect(place.url()).await;
    raw.put("q", &body, labels(&sent, "e").with_headers(table)).await;
    assert_eq!(given(&mut record, 1).await, pairs(&[("text", "a")]));
    let dead = raw.take("q.dead").await;
    assert_eq!(dead.body, body[second..]);
    let expected = "1*google.protobuf.UInt32Value 1*google.protobuf.StringValue";
    assert_eq!(dead.header(headers::ITEM_TYPES).as_deref(), Some(expected));
    nothing_left(&place, service).await;
}
