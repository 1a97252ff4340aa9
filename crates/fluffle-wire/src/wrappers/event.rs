//! A CloudEvent as JSON, which Dapr sends too.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::headers::{HeaderValue, TRACEPARENT, TRACESTATE, TraceContext};
use crate::wrappers::object::{self, Fault, Object};
use crate::{ContentType, Incoming};

/// What an event says about its message, and the message.
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) content_type: Option<String>,
    pub(crate) data: Bytes,
    pub(crate) trace: Option<TraceContext>,
}

const NAMES: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "datacontenttype",
    "data",
    "data_base64",
    TRACEPARENT,
    TRACESTATE,
    TRACE_ID,
];

/// Under this name Dapr sends `traceparent` once more. Older versions send it under this name alone.
const TRACE_ID: &str = "traceid";

/// The only version that there is, apart from drafts.
pub(crate) const VERSION: &str = "1.0";

pub(crate) fn read(incoming: &Incoming<'_>) -> Result<Event, Fault> {
    let event = Object::read(object::text(incoming)?, NAMES, false)?;
    check_version(&event.required("specversion")?)?;
    event.required("id")?;
    event.required("source")?;
    let kind = event.required("type")?.into_owned();
    let content_type = event.text("datacontenttype")?.map(|text| text.into_owned());
    let (data, content_type) = data(incoming.body, &event, content_type)?;
    Ok(Event { kind, content_type, data, trace: trace(&event) })
}

pub(crate) fn check_version(found: &str) -> Result<(), Fault> {
    if found == VERSION {
        return Ok(());
    }
    Err(format!("its `specversion` is {:?}, only {VERSION:?} is read", crate::text::shown(found)))
}

fn data(body: &Bytes, event: &Object<'_>, label: Option<String>) -> Result<(Bytes, Option<String>), Fault> {
    match (event.raw("data"), event.get("data_base64")) {
        (Some(_), Some(_)) => Err("it has both `data` and `data_base64`".into()),
        (None, None) => Ok((Bytes::new(), label)),
        (None, Some(encoded)) => {
            let kind = object::kind(encoded);
            let encoded =
                object::string(encoded).ok_or_else(|| format!("its `data_base64` is {kind}, expected text"))?;
            let bytes =
                BASE64.decode(encoded.as_bytes()).map_err(|e| format!("its `data_base64` is no base64: {e}"))?;
            Ok((bytes.into(), label))
        }
        // JSON, if nothing else is said.
        (Some(value), None) if label.as_deref().is_none_or(is_json) => {
            let label = label.unwrap_or_else(|| "application/json".to_owned());
            Ok((object::slice(body, value.get()), Some(label)))
        }
        (Some(value), None) => match object::string(value) {
            Some(std::borrow::Cow::Borrowed(text)) => Ok((object::slice(body, text), label)),
            Some(std::borrow::Cow::Owned(text)) => Ok((text.into_bytes().into(), label)),
            None => Err(format!(
                "its `data` is {}, expected text, because its `datacontenttype` is not JSON",
                object::kind(value)
            )),
        },
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = ContentType::parse(content_type).media_type().to_ascii_lowercase();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// The trace of an event. One that is damaged is none, as in headers.
fn trace(event: &Object<'_>) -> Option<TraceContext> {
    let text = |name: &str| event.text(name).ok().flatten();
    let parent = text(TRACEPARENT).filter(|text| !text.is_empty()).or_else(|| text(TRACE_ID))?;
    let state = text(TRACESTATE);
    TraceContext::read(|name| match name {
        TRACEPARENT => Some(HeaderValue::Str(&parent)),
        _ => state.as_deref().map(HeaderValue::Str),
    })
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
