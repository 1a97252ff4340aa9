//! How a consumer is told to read a format that it does not read.

use crate::incoming::present;
use crate::{DecodeErrorKind, Incoming, Label};

/// The setting by which a consumer reads this message, or what its sender must change, if the labels tell. `kind` is
/// why it was not read. `accepted` tells whether the consumer accepts the wrapper of this name already; then nothing
/// is left to say about it. `has_json` tells whether this program has the feature `json`.
pub(crate) fn how_to_accept(
    incoming: &Incoming<'_>,
    kind: DecodeErrorKind,
    accepted: impl Fn(&str) -> bool,
    has_json: bool,
) -> Option<String> {
    use DecodeErrorKind::{ContentType, Malformed, TypeName};
    if !matches!(kind, ContentType | Malformed | TypeName) {
        return None;
    }
    let media_type = Label::from(incoming).media_type().map(str::to_ascii_lowercase);
    let media_type = media_type.as_deref().unwrap_or_default();
    let of_label = || if kind == ContentType { of_media_type(media_type) } else { None };
    let (what, how) = of_headers(incoming).or_else(|| of_wrapper_type(media_type)).or_else(of_label)?;
    let missing =
        if has_json { "" } else { "; this program is built without the feature `json` of fluffle, which that needs" };
    let accept = |name| format!("read it with Consume::accepts({name}{}){missing}", constructor(name));
    Some(match how {
        Wrapper(name) if accepted(name) => return None,
        Wrapper(name) => format!("{what}: {}", accept(name)),
        Resent(change, name) => format!("{what}: {change}, and {}", accept(name)),
        Json(_) if !has_json => {
            "this program is built without the feature `json` of fluffle, which reads it".to_owned()
        }
        Json(how) | Otherwise(how) => format!("{what}: {how}"),
    })
}

/// How a message can be read.
enum How {
    Wrapper(&'static str),
    /// In this wrapper, after this change at its sender.
    Resent(&'static str, &'static str),
    /// As proto3 JSON.
    Json(&'static str),
    Otherwise(&'static str),
}

use How::{Json, Otherwise, Resent, Wrapper};

/// The call that makes a wrapper which has settings.
fn constructor(name: &str) -> &'static str {
    if matches!(name, "Celery" | "Dapr") { "::new()" } else { "" }
}

type Hint = (&'static str, How);

fn of_headers(incoming: &Incoming<'_>) -> Option<Hint> {
    let has = |name| present(incoming.header(name)).is_some();
    if has("__TypeId__") {
        return Some(("Spring AMQP sent it, says its header __TypeId__", Wrapper("SpringAmqp")));
    }
    if has("task") && has("id") {
        return Some(("it is a Celery task, says its header task", Wrapper("Celery")));
    }
    if CLOUD_EVENTS.iter().any(|name| has(name)) {
        return Some(("it is a CloudEvent, say its headers", Wrapper("CloudEvents")));
    }
    None
}

/// Media types that only one sender uses.
fn of_wrapper_type(media_type: &str) -> Option<Hint> {
    Some(match media_type {
        "application/cloudevents+json" => ("it is a CloudEvent", Wrapper("CloudEvents")),
        "application/vnd.masstransit+json" => ("MassTransit sent it", Wrapper("MassTransit")),
        "application/x-java-serialized-object" => {
            ("it is a Java object", Resent("let the sender use Jackson2JsonMessageConverter", "SpringAmqp"))
        }
        "application/x-python-serialize" => {
            ("it is a pickled Python object", Resent("let the sender set task_serializer = 'json'", "Celery"))
        }
        _ => return None,
    })
}

/// Media types that are no format of the consumer.
fn of_media_type(media_type: &str) -> Option<Hint> {
    Some(match media_type {
        "text/plain" => ("if Dapr sent it", Wrapper("Dapr")),
        "application/json" => (
            "a Protobuf type is read from JSON if its descriptor is linked, by a consumer that is not strict",
            Json("compile the type with fluffle_build, or link its descriptor with fluffle::wire::descriptors!"),
        ),
        "application/msgpack" | "application/x-msgpack" | "avro/binary" | "application/avro" | "application/cbor" => {
            ("the format needs a codec of your own", Otherwise("implement Codec, and add Consume::reads"))
        }
        _ => return None,
    })
}

/// The header with the version of CloudEvents, as its senders write it.
const CLOUD_EVENTS: [&str; 4] = ["cloudEvents:specversion", "cloudEvents_specversion", "ce-specversion", "specversion"];

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn without_the_feature_json_every_hint_that_needs_it_names_it() {
        let body = Bytes::new();
        for (content_type, needs_json) in [
            ("application/json", true),
            ("text/plain", true),
            ("application/cloudevents+json", true),
            ("application/vnd.masstransit+json", true),
            ("application/x-java-serialized-object", true),
            ("application/x-python-serialize", true),
            ("application/msgpack", false),
        ] {
            let incoming = Incoming { content_type: Some(content_type), ..Incoming::unlabelled(&body) };
            let hint = |has_json| how_to_accept(&incoming, DecodeErrorKind::ContentType, |_| false, has_json).unwrap();
            assert_eq!(hint(false).contains("feature `json`"), needs_json, "{}", hint(false));
            assert!(!hint(true).contains("feature"), "{}", hint(true));
        }
    }
}
