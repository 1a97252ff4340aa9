use serde_json::value::RawValue;

use crate::headers::{HeaderValue, TRACEPARENT, TRACESTATE, TraceContext};
use crate::wrappers::object::{self, Fault, Object};
use crate::{DecodeError, Incoming, Label, Opened, Wrapper};

/// The wrapper of [MassTransit](https://masstransit.io): `application/vnd.masstransit+json`, the default of its
/// RabbitMQ transport.
///
/// `messageType` lists the message's type and the interfaces and base types that it has, the most specific first. Each
/// is known under two names: as it stands (`urn:message:Shop.Orders:OrderPlaced`) and as .NET writes it
/// (`Shop.Orders.OrderPlaced`). The first name that the consumer knows, as a type or as an alias, is the type of the
/// message. A consumer with `Raw` among its types knows every name, so the first one counts.
///
/// The message is the JSON in `message`. MassTransit writes names of properties in `camelCase`, which is what proto3
/// JSON expects. The case of the wrapper's own names does not count. The trace is that of `MT-Activity-Id` or
/// `traceparent` in `headers`.
///
/// Not read, with an error that says so: bodies that are encrypted, BSON or XML. MassTransit's raw JSON
/// (`UseRawJsonSerializer`) has no wrapper; it is plain JSON.
///
/// ```
/// use bytes::Bytes;
/// use fluffle_wire::{Incoming, Wire, wrappers::MassTransit};
/// use protos::usgs::Alert;
///
/// let body = Bytes::from_static(
///     br#"{"messageType":["urn:message:Usgs:QuakeAlert"],"message":{"quakeId":"us2000cmy3"}}"#,
/// );
/// let sent = Incoming { content_type: Some("application/vnd.masstransit+json"), ..Incoming::unlabelled(&body) };
/// let wire = Wire::<Alert>::json().accepts(MassTransit).type_alias("Usgs.QuakeAlert", "usgs.v1.Alert");
/// assert_eq!(wire.decode(&sent)?.quake_id, "us2000cmy3");
/// # Ok::<(), fluffle_wire::DecodeError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MassTransit;

const NAME: &str = "MassTransit";

/// The most types that a message may have. Each class and interface is one.
const MOST_TYPES: usize = 64;

impl Wrapper for MassTransit {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError> {
        let media_type = Label::from(incoming).media_type().map(str::to_ascii_lowercase).unwrap_or_default();
        match media_type.strip_prefix("application/vnd.masstransit") {
            Some("+json") => open(incoming).map(Some).map_err(|why| DecodeError::wrapper(NAME, why)),
            Some(_) => Err(DecodeError::wrapper(
                NAME,
                "only its JSON is read (application/vnd.masstransit+json); remove UseBsonSerializer, \
                 UseXmlSerializer or UseEncryption from the sender",
            )),
            None => Ok(None),
        }
    }
}

fn open(incoming: &Incoming<'_>) -> Result<Opened, Fault> {
    let wrapper = Object::read(object::text(incoming)?, &["messageType", "message", "headers"], true)?;
    let types = wrapper.get("messageType").ok_or("it has no `messageType`")?;
    let message = wrapper.get("message").ok_or("it has no `message`")?;
    let trace = wrapper.get("headers").map(trace).transpose()?.flatten();
    let content_type = Some("application/json".to_owned());
    Ok(Opened {
        content_type,
        type_names: names(types)?,
        trace,
        ..Opened::new(object::slice(incoming.body, message.get()))
    })
}

fn names(types: &RawValue) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for (index, urn) in
        object::array(types, MOST_TYPES).map_err(|why| format!("its `messageType`: {why}"))?.iter().enumerate()
    {
        let Some(urn) = object::string(urn) else {
            return Err(format!("its `messageType` {index} is {}, expected text", object::kind(urn)));
        };
        if urn.len() > object::MOST {
            return Err(format!(
                "its `messageType` {index} has {} bytes, at most {} are read",
                urn.len(),
                object::MOST
            ));
        }
        let name = urn.strip_prefix("urn:message:").map(|name| name.replace(':', "."));
        names.push(urn.into_owned());
        names.extend(name);
    }
    if names.is_empty() {
        return Err("its `messageType` is empty".into());
    }
    Ok(names)
}

fn trace(headers: &RawValue) -> Result<Option<TraceContext>, Fault> {
    let names = &["MT-Activity-Id", TRACEPARENT, TRACESTATE];
    let headers = Object::read(headers.get().as_bytes(), names, true).map_err(|why| format!("its `headers`: {why}"))?;
    let text = |name: &str| headers.text(name).ok().flatten();
    let Some(parent) = text(TRACEPARENT).or_else(|| text("MT-Activity-Id")) else { return Ok(None) };
    let state = text(TRACESTATE);
    Ok(TraceContext::read(|name| match name {
        TRACEPARENT => Some(HeaderValue::Str(&parent)),
        _ => state.as_deref().map(HeaderValue::Str),
    }))
}
