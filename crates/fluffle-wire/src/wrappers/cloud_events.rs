use crate::headers::{HeaderValue, TRACEPARENT, TRACESTATE, TraceContext};
use crate::incoming::present;
use crate::wrappers::event::{self, Event};
use crate::{DecodeError, Incoming, Label, Opened, Wrapper};

/// [CloudEvents](https://cloudevents.io) 1.0, in both of its modes:
///
/// - **Structured JSON**: `content_type` is `application/cloudevents+json`, and the body is the event. Its `data` is
///   the message if `datacontenttype` is JSON or absent; if it is another type, `data` is the message as text. Or
///   `data_base64` is the message in base64. An event without either has an empty body.
/// - **Binary**: the attributes are headers, the body is the message, and `content_type` is that of the message. There
///   is no specification for AMQP 0-9-1, so the names are those in use: `cloudEvents:type` and `cloudEvents_type` (the
///   specification for AMQP 1.0 and the SDKs), `ce-type` (the names of HTTP) and `type` (Knative). The message is
///   recognized by the header of the `specversion`, under one of these four names.
///
/// The attributes `specversion` (1.0), `id`, `source` and `type` must be there. The type of the message is the event's
/// `type`, which others name in their own way (`com.shop.order.placed`): say which type is meant with `type_alias`. The
/// attribute `dataschema` is not read, because what stands there is up to the sender. The trace is that of the
/// extensions `traceparent` and `tracestate`.
///
/// Not read, with an error that says so: batches of events (`application/cloudevents-batch+json`) and other formats of
/// events (`application/cloudevents+avro`, …).
///
/// To read events in JSON, the consumer's message type must be read from JSON. See the [module](crate::wrappers) for
/// an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloudEvents;

const NAME: &str = "CloudEvents";

/// What stands before the names of attributes in headers.
const PREFIXES: [&str; 4] = ["cloudEvents:", "cloudEvents_", "ce-", ""];

impl Wrapper for CloudEvents {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError> {
        let media_type = Label::from(incoming).media_type().map(str::to_ascii_lowercase).unwrap_or_default();
        let fault = |why: &str| Err(DecodeError::wrapper(NAME, why));
        match media_type.as_str() {
            "application/cloudevents+json" => {
                let Event { kind, content_type, data, trace } =
                    event::read(incoming).map_err(|why| DecodeError::wrapper(NAME, why))?;
                Ok(Some(Opened { content_type, trace, ..Opened::new(data) }.named(kind)))
            }
            _ if media_type.starts_with("application/cloudevents-batch") => {
                fault("it is a batch of events; let its sender publish each event by itself")
            }
            _ if media_type.starts_with("application/cloudevents") => fault(
                "only events in JSON are read (application/cloudevents+json); let its sender use that format, or the \
                 binary mode",
            ),
            _ => match PREFIXES.iter().find(|prefix| header(incoming, prefix, "specversion").is_some()) {
                Some(prefix) => binary(incoming, prefix).map(Some).map_err(|why| DecodeError::wrapper(NAME, why)),
                None => Ok(None),
            },
        }
    }
}

fn binary(incoming: &Incoming<'_>, prefix: &str) -> Result<Opened, String> {
    let required = |name| header(incoming, prefix, name).ok_or_else(|| format!("it has no header `{prefix}{name}`"));
    event::check_version(required("specversion")?)?;
    required("id")?;
    required("source")?;
    let kind = required("type")?;
    let trace = TraceContext::read(|name| match name {
        TRACEPARENT => header(incoming, prefix, TRACEPARENT).map(HeaderValue::Str),
        _ => header(incoming, prefix, TRACESTATE).map(HeaderValue::Str),
    });
    let content_type = present(incoming.content_type).map(str::to_owned);
    Ok(Opened { content_type, trace, ..Opened::new(incoming.body.clone()) }.named(kind))
}

/// The text of an attribute, if it is there and not empty.
fn header<'a>(incoming: &Incoming<'a>, prefix: &str, name: &str) -> Option<&'a str> {
    present(incoming.header(&format!("{prefix}{name}")))
}
