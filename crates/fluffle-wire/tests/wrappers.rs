//! Messages of others are taken out of their wrappers, and one that is not as it should be is refused with a reason.
#![allow(clippy::unwrap_used)]

mod others;

use fluffle_wire::DecodeErrorKind::{self, ContentType, Malformed, TypeName, Wrapper};
use fluffle_wire::wrappers::{Celery, CloudEvents, Dapr, MassTransit, SpringAmqp};
use fluffle_wire::{DecodeError, Read, Wire};
use others::{Message, message};
use protos::usgs::Alert;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderPlaced {
    order_id: String,
    cents: u64,
    note: String,
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Reads orders, as all others name them.
fn orders() -> Wire<OrderPlaced> {
    let names = ["com.shop.order.placed", "Shop.Orders.OrderPlaced", "com.shop.OrderPlaced", "shop.tasks.place_order"];
    let wire = Wire::serde_json("shop.OrderPlaced").accepts(CloudEvents).accepts(MassTransit);
    let wire = wire.accepts(SpringAmqp).accepts(Celery::new()).accepts(Dapr::new());
    names.iter().fold(wire, |wire, name| wire.type_alias(*name, "shop.OrderPlaced"))
}

fn alerts() -> Wire<Alert> {
    Wire::protobuf().accepts(CloudEvents).accepts(Dapr::new()).type_alias("gov.usgs.alert", "usgs.v1.Alert")
}

fn order(read: Result<Read<OrderPlaced>, DecodeError>) -> Read<OrderPlaced> {
    let read = read.unwrap();
    assert_eq!(read.message, OrderPlaced { order_id: "o-17".into(), cents: 4995, note: "Grüße an Zoë".into() });
    read
}

/// Why a message is refused. The reason names none of its content.
fn refused<M: std::fmt::Debug>(wire: &Wire<M>, message: &Message) -> (DecodeErrorKind, String) {
    let error = wire.decode(&message.incoming()).unwrap_err();
    let said = error.to_string();
    assert!(said.len() < 1_000 && !said.contains("Grüße"), "{said}");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    (error.kind(), format!("{said}: {cause}"))
}

#[track_caller]
fn refused_with<M: std::fmt::Debug>(wire: &Wire<M>, message: &Message, kind: DecodeErrorKind, words: &[&str]) {
    let (found, said) = refused(wire, message);
    assert_eq!(found, kind, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[test]
fn an_order_is_read_from_each_format() {
    for name in [
        "cloudevents-structured-json",
        "cloudevents-binary-json",
        "knative",
        "dapr",
        "masstransit",
        "spring",
        "celery-keywords",
    ] {
        let message = message(name);
        let read = order(orders().read(&message.incoming()));
        assert_eq!(read.content_type.as_deref(), Some("application/json"), "{name}");
        assert_eq!(read.bytes, message.bytes.len(), "{name}");
        let traced = !matches!(name, "spring" | "celery-keywords");
        let trace = read.trace.map(|trace| trace.traceparent());
        assert_eq!(trace.as_deref(), traced.then_some(TRACE), "{name}");
    }
}

#[test]
fn a_protobuf_message_is_read_from_each_format_that_carries_bytes() {
    for name in ["cloudevents-structured-protobuf", "cloudevents-binary-protobuf", "dapr-binary"] {
        assert_eq!(alerts().decode(&message(name).incoming()).unwrap().quake_id, "o-17", "{name}");
    }
}

#[test]
fn nothing_is_accepted_unless_the_consumer_names_it_and_the_error_says_how() {
    let plain = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced");
    for (name, how) in [
        ("cloudevents-structured-json", "Consume::accepts(CloudEvents)"),
        ("masstransit", "Consume::accepts(MassTransit)"),
        ("dapr", "Consume::accepts(Dapr::new())"),
        ("spring-serialized", "Jackson2JsonMessageConverter"),
        ("celery-pickle", "Consume::accepts(Celery::new())"),
    ] {
        refused_with(&plain, &message(name), ContentType, &[how]);
    }
    // Plain JSON by its content type. Its headers tell whose it is, once it turns out to be something else.
    refused_with(&plain, &message("celery-keywords"), Malformed, &["Consume::accepts(Celery::new())"]);
    refused_with(&Wire::<Alert>::protobuf(), &message("spring"), Malformed, &["Consume::accepts(SpringAmqp)"]);
    for name in ["cloudevents-binary-json", "knative"] {
        refused_with(&Wire::<Alert>::protobuf(), &message(name), Malformed, &["Consume::accepts(CloudEvents)"]);
        let strict = Wire::<Alert>::protobuf().strict();
        refused_with(&strict, &message(name), ContentType, &["Consume::accepts(CloudEvents)"]);
    }
    // A message that was accepted and is wrong is not told to be accepted.
    let (_, said) = refused(&orders(), &message("celery-keywords").with("4995", "true"));
    assert!(!said.contains("accepts("), "{said}");
    // A strict consumer has named none.
    refused_with(&orders().strict(), &message("masstransit"), ContentType, &["Consume::accepts(MassTransit)"]);
}

#[test]
fn a_type_that_the_consumer_does_not_know_is_named_with_the_setting_for_it() {
    for name in ["cloudevents-structured-json", "masstransit", "spring", "celery-keywords"] {
        let strange = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced").accepts(CloudEvents).accepts(MassTransit);
        let strange = strange.accepts(SpringAmqp).accepts(Celery::new());
        refused_with(&strange, &message(name), TypeName, &["within", "type_alias(", "shop.OrderPlaced"]);
    }
}

#[test]
fn a_cloud_event_has_its_attributes_once_and_one_body() {
    let event = message("cloudevents-structured-json");
    for (part, other, word) in [
        ("\"1.0\"", "\"0.3\"", "`specversion` is \"0.3\""),
        ("\"specversion\"", "\"specVersion\"", "no `specversion`"),
        ("\"id\": \"e-1\"", "\"id\": \"\"", "no `id`"),
        ("\"id\": \"e-1\"", "\"id\": 7", "`id` is a number"),
        ("\"id\": \"e-1\"", "\"id\": \"e-1\", \"id\": \"e-2\"", "`id` stands twice"),
        ("\"source\"", "\"sources\"", "no `source`"),
        ("\"type\": \"com.shop.order.placed\"", "\"type\": null", "no `type`"),
        ("\"data\":", "\"data_base64\": \"AA==\", \"data\":", "both `data` and `data_base64`"),
        ("\"data\":", "\"data_base64\":", "`data_base64` is an object"),
        ("application/json", "text/csv", "`data` is an object, expected text"),
        ("{\"id\"", "[{\"id\"", "expected a JSON object"),
        ("\"e-1\"", "\"\\ud800\"", "`id` is text with an escape that stands for no character"),
    ] {
        refused_with(&orders(), &event.with(part, other), Wrapper, &["CloudEvents", word]);
    }
    refused_with(&orders(), &event.with("e-1", &"x".repeat(2_000)), Wrapper, &["`id` has 2000 bytes"]);
    refused_with(
        &alerts(),
        &message("cloudevents-structured-protobuf").with("CgRvLTE3", "CgRvLT(3"),
        Wrapper,
        &["no base64"],
    );
    let batch = event.clone().labelled("application/cloudevents-batch+json");
    refused_with(&orders(), &batch, Wrapper, &["batch of events", "each event by itself"]);
    refused_with(&orders(), &event.clone().labelled("application/cloudevents+avro"), Wrapper, &["only events in JSON"]);
    let binary = message("cloudevents-binary-json");
    for name in ["id", "source", "type"] {
        let header = format!("cloudEvents_{name}");
        refused_with(&orders(), &binary.clone().without_header(&header), Wrapper, &[&header]);
    }
    refused_with(&orders(), &binary.with_header("cloudEvents_specversion", "2.0"), Wrapper, &["\"2.0\""]);
}

#[test]
fn a_cloud_event_may_be_written_in_other_ways() {
    let event = message("cloudevents-structured-json");
    // JSON if nothing else is said; escapes in names; fields that nobody asked for, however deep.
    order(orders().read(&event.with("\"datacontenttype\": \"application/json\", ", "").incoming()));
    order(orders().read(&event.with("\"type\"", "\"\\u0074ype\"").incoming()));
    let deep = format!("\"x\": {}{}, \"id\"", "[".repeat(10_000), "]".repeat(10_000));
    order(orders().read(&event.with("\"id\"", &deep).incoming()));
    order(orders().read(&event.clone().labelled("Application/CloudEvents+JSON; charset=UTF-8").incoming()));
    // A damaged trace is none.
    let untraced = order(orders().read(&event.with("00-4bf", "00-xyz").incoming()));
    assert!(untraced.trace.is_none());
    // Text, and a body that is not there.
    let text = event.with("application/json", "text/csv; charset=utf-8");
    let text =
        text.with(std::str::from_utf8(&text.bytes).unwrap().split("\"data\": ").nth(1).unwrap(), "\"a;\\\"b\\\"\"}");
    refused_with(&orders(), &text, ContentType, &["within CloudEvents", "text/csv"]);
    let nothing = message("cloudevents-structured-protobuf").with(", \"data_base64\": \"CgRvLTE3\"", "");
    assert_eq!(alerts().decode(&nothing.incoming()).unwrap(), Alert::default());
    // Each name of the headers.
    let binary = message("cloudevents-binary-json");
    for prefix in ["cloudEvents:", "ce-", ""] {
        let mut other = binary.clone();
        other.headers = binary.headers.iter().map(|(k, v)| (k.replace("cloudEvents_", prefix), v.clone())).collect();
        let read = order(orders().read(&other.incoming()));
        assert_eq!(read.trace.unwrap().traceparent(), TRACE, "{prefix}");
    }
}

#[test]
fn a_message_of_dapr_without_a_type_has_that_of_the_properties_or_else_of_the_consumer() {
    let dapr = message("dapr");
    let mut named = dapr.clone();
    named.type_name = Some("com.shop.OrderPlaced".into());
    order(orders().read(&named.incoming()));
    named.type_name = Some("another".into());
    refused_with(&orders(), &named, TypeName, &["\"another\""]);
    let told = dapr.with("com.dapr.event.sent", "com.shop.order.placed");
    order(orders().read(&told.incoming()));
    let old = dapr.with("\"traceparent\":", "\"traceparents\":");
    assert_eq!(order(orders().read(&old.incoming())).trace.unwrap().traceparent(), TRACE);
}

#[test]
fn a_raw_payload_of_dapr_is_read_only_if_the_consumer_says_what_it_is() {
    let raw = message("dapr-raw");
    refused_with(&orders(), &raw, Wrapper, &["no `specversion`", "Dapr::raw_payload"]);
    let wire = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced").accepts(Dapr::raw_payload("application/json"));
    order(wire.read(&raw.incoming()));
    order(wire.read(&raw.clone().labelled("application/json").incoming()));
    let mut named = raw.clone();
    named.type_name = Some("another".into());
    refused_with(&wire, &named, TypeName, &["\"another\""]);
}

#[test]
fn the_first_type_of_masstransit_that_the_consumer_knows_counts() {
    let wire = || Wire::<OrderPlaced>::serde_json("shop.OrderPlaced").accepts(MassTransit);
    let rush = message("masstransit");
    for alias in ["urn:message:Shop.Orders:OrderPlaced", "Shop.Orders.RushOrderPlaced", "Shop.Orders.IOrderEvent"] {
        order(wire().type_alias(alias, "shop.OrderPlaced").read(&rush.incoming()));
    }
    order(
        orders().read(&rush.with("\"message\"", "\"Message\"").with("\"messageType\"", "\"MessageType\"").incoming()),
    );
    for (part, other, word) in [
        ("\"messageType\"", "\"types\"", "no `messageType`"),
        ("\"message\":", "\"messages\":", "no `message`"),
        ("\"sentTime\": \"", "\"Message\": \"", "`message` stands twice"),
        ("\"urn:message:Shop.Orders:IOrderEvent\"", "7", "`messageType` 2 is a number"),
        ("\"headers\": {", "\"headers\": [{", ""),
    ] {
        refused_with(&orders(), &rush.with(part, other), Wrapper, &["MassTransit", word]);
    }
    let many = format!("\"messageType\": [{}", "\"urn:message:A:B\",".repeat(100));
    refused_with(&orders(), &rush.with("\"messageType\": [", &many), Wrapper, &["more than 64 elements"]);
    let long = rush.with("RushOrderPlaced", &"x".repeat(2_000));
    refused_with(&orders(), &long, Wrapper, &["at most 1024 are read"]);
    let bson = rush.labelled("application/vnd.masstransit+bson");
    refused_with(&orders(), &bson, Wrapper, &["only its JSON"]);
}

#[test]
fn of_spring_only_single_objects_in_utf_8_are_read() {
    refused_with(&orders(), &message("spring-list"), Wrapper, &["java.util.ArrayList", "each element by itself"]);
    refused_with(&orders(), &message("spring-serialized"), Wrapper, &["setMessageConverter"]);
    let mut latin = message("spring");
    latin.content_encoding = Some("ISO-8859-1".into());
    refused_with(&orders(), &latin, Wrapper, &["setDefaultCharset(\"UTF-8\")"]);
    refused_with(&orders(), &message("spring").labelled("application/json; charset=utf-16"), ContentType, &["utf-16"]);
    order(orders().read(&message("spring").labelled("text/x-json").incoming()));
    // Other bodies with the header are read as they are.
    let bytes = message("spring").labelled("application/protobuf").with_body("\x0a\x04o-17");
    let wire = Wire::<Alert>::protobuf().accepts(SpringAmqp);
    assert_eq!(wire.decode(&bytes.incoming()).unwrap().quake_id, "o-17");
    // And a consumer that accepts Spring's messages is not told to, if one of those bodies is wrong.
    let (kind, said) = refused(&wire, &bytes.with_body("\x0a\x7f"));
    assert!(kind == Malformed && !said.contains("accepts("), "{said}");
}

#[test]
fn of_celery_the_consumer_says_which_arguments_are_the_message() {
    let (keywords, argument, arguments) =
        (message("celery-keywords"), message("celery-argument"), message("celery-arguments"));
    refused_with(&orders(), &argument, Wrapper, &["Celery::argument"]);
    let by = |celery| {
        let wire = Wire::<OrderPlaced>::serde_json("shop.OrderPlaced").accepts(celery);
        wire.type_alias("shop.tasks.place_order", "shop.OrderPlaced")
    };
    order(by(Celery::argument()).read(&argument.incoming()));
    refused_with(&by(Celery::argument()), &arguments, Wrapper, &["exactly one positional argument"]);
    refused_with(&by(Celery::argument()), &keywords, Wrapper, &["Celery::new"]);
    let tuple = Wire::<(String, u64, String)>::serde_json("shop.tasks.place_order").accepts(Celery::arguments());
    assert_eq!(tuple.decode(&arguments.incoming()).unwrap(), ("o-17".into(), 4995, "Grüße an Zoë".into()));
    refused_with(&tuple, &keywords, Wrapper, &["Celery::new"]);
}

#[test]
fn a_task_of_celery_that_asks_for_more_than_its_handler_is_refused() {
    refused_with(&orders(), &message("celery-countdown"), Wrapper, &["not to run before 20"]);
    refused_with(&orders(), &message("celery-chain"), Wrapper, &["`chain`"]);
    let task = message("celery-keywords");
    for name in ["callbacks", "errbacks", "chord"] {
        let more = task.with(&format!("\"{name}\": null"), &format!("\"{name}\": [{{}}]"));
        refused_with(&orders(), &more, Wrapper, &[name]);
        order(orders().read(&task.with(&format!("\"{name}\": null"), &format!("\"{name}\": [ ]")).incoming()));
    }
    refused_with(&orders(), &message("celery-pickle"), Wrapper, &["task_serializer = 'json'"]);
    refused_with(&orders(), &message("celery-compressed"), Wrapper, &["task_compression"]);
    refused_with(&orders(), &task.clone().labelled("application/x-yaml"), Wrapper, &["YAML"]);
    refused_with(&orders(), &task.clone().labelled("text/csv"), Wrapper, &["text/csv"]);
    refused_with(&orders(), &task.clone().without_header("id"), Wrapper, &["no header `id`"]);
    for (body, word) in [
        ("[[], {}]", "2 elements"),
        ("[[], {}, {}, {}]", "more than 3 elements"),
        ("[{}, {}, {}]", "`args` is an object"),
        ("[[], [], {}]", "`kwargs` is an array"),
        ("[[], {}, 7]", "`embed`"),
        ("{}", "expected an array"),
        ("[[], {}, {}", "not JSON"),
        ("", "not JSON"),
    ] {
        refused_with(&orders(), &task.with_body(body), Wrapper, &["Celery", word]);
    }
    // Without arguments there is still a message: an empty object.
    refused_with(&orders(), &task.with_body("[[], {}, null]"), Malformed, &["missing field `orderId`"]);
}

#[test]
fn text_that_is_not_utf_8_is_refused_and_a_byte_order_mark_is_skipped() {
    let formats = ["cloudevents-structured-json", "dapr", "masstransit", "spring", "celery-keywords"];
    for name in formats {
        let sent = message(name);
        let marked = [b"\xEF\xBB\xBF", &sent.bytes[..]].concat();
        order(orders().read(&sent.with_body(marked).incoming()));
        let text = std::str::from_utf8(&sent.bytes).unwrap();
        let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let (_, said) = refused(&orders(), &sent.with_body(utf_16));
        assert!(said.contains("UTF-8"), "{said}");
        let latin = text.replace("o-17", "o-\u{1}7").into_bytes();
        let latin: Vec<u8> = latin.into_iter().map(|byte| if byte == 1 { 0xE9 } else { byte }).collect();
        refused(&orders(), &sent.with_body(latin));
        let label = format!("{}; charset=latin1", sent.content_type.as_deref().unwrap());
        refused_with(
            &orders(),
            &sent.clone().labelled(&label),
            if name == "spring" { ContentType } else { Wrapper },
            &["latin1"],
        );
    }
}

#[test]
fn a_message_is_a_part_of_the_received_body_and_not_a_copy() {
    use fluffle_wire::Wrapper as _;
    let wrappers: [(&str, Box<dyn fluffle_wire::Wrapper>); 6] = [
        ("cloudevents-structured-json", Box::new(CloudEvents)),
        ("cloudevents-binary-json", Box::new(CloudEvents)),
        ("dapr", Box::new(Dapr::new())),
        ("masstransit", Box::new(MassTransit)),
        ("spring", Box::new(SpringAmqp)),
        ("celery-keywords", Box::new(Celery::new())),
    ];
    for (name, wrapper) in wrappers {
        let sent = message(name);
        let opened = wrapper.open(&sent.incoming()).unwrap().unwrap();
        assert!(sent.bytes.as_ptr_range().contains(&opened.body.as_ptr()), "{name}");
    }
    assert!(CloudEvents.open(&message("spring").incoming()).unwrap().is_none());
}

#[test]
fn gzip_of_spring_is_known_by_both_of_its_labels() {
    use std::io::Write;
    let mut spring = message("spring");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&spring.bytes).unwrap();
    spring.bytes = gzip.finish().unwrap().into();
    for label in ["gzip", "gzip:UTF-8", "gzip, UTF-8", "GZIP,utf-8"] {
        spring.content_encoding = Some(label.into());
        order(orders().read(&spring.incoming()));
    }
    for label in ["gzip:UTF-16", "zip:UTF-8", "gzip, gzip"] {
        spring.content_encoding = Some(label.into());
        refused_with(&orders(), &spring, DecodeErrorKind::ContentEncoding, &["gzip"]);
    }
}
