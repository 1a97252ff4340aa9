use crate::incoming::present;
use crate::wrappers::event::{self, Event};
use crate::{DecodeError, Incoming, Label, Opened, Wrapper};

/// [Dapr](https://dapr.io)'s messages of publish and subscribe: a CloudEvent in JSON, with `topic`, `pubsubname` and
/// the trace of the sender in the body (`traceparent`, `traceid`).
///
/// Dapr labels all of its messages `text/plain` on RabbitMQ, unless the sender sets the metadata `contentType`. So
/// **every message labelled `text/plain`** counts as Dapr's for a consumer that accepts this, and so does
/// `application/cloudevents+json`. A message with one of these labels and another content is refused.
///
/// The type of the message is the event's `type`. If the sender gave none, Dapr writes `com.dapr.event.sent`; then the
/// type is that of AMQP's `type` property (the metadata `type`), or else the consumer's own.
///
/// A sender that sets the metadata `rawPayload` sends the message without the wrapper, labelled `text/plain` too. To
/// read such a queue, say what the bodies are with [`raw_payload`](Dapr::raw_payload). A queue has raw payloads or
/// wrappers, because their labels do not tell them apart.
///
/// ```
/// use bytes::Bytes;
/// use fluffle_wire::{Incoming, Wire, wrappers::Dapr};
/// use protos::usgs::Alert;
///
/// let body = Bytes::from_static(br#"{"quakeId":"us2000cmy3"}"#);
/// let sent = Incoming { content_type: Some("text/plain"), ..Incoming::unlabelled(&body) };
/// let wire = Wire::<Alert>::json().accepts(Dapr::raw_payload("application/json"));
/// assert_eq!(wire.decode(&sent)?.quake_id, "us2000cmy3");
/// # Ok::<(), fluffle_wire::DecodeError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dapr {
    raw: Option<String>,
}

impl Dapr {
    /// Messages in Dapr's wrapper.
    pub fn new() -> Self {
        Self::default()
    }

    /// Messages that were sent with `rawPayload`: bodies labelled `text/plain` that are in truth of this content type.
    pub fn raw_payload(content_type: impl Into<String>) -> Self {
        Self { raw: Some(content_type.into()) }
    }
}

const NAME: &str = "Dapr";

/// The type that Dapr writes if its caller gives none.
const NO_TYPE: &str = "com.dapr.event.sent";

impl Wrapper for Dapr {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, incoming: &Incoming<'_>) -> Result<Option<Opened>, DecodeError> {
        let label = Label::from(incoming);
        let is = |media_type| label.content_type.is_some_and(|found| found.is(media_type));
        let of_properties = present(incoming.type_name).map(str::to_owned);
        match &self.raw {
            Some(content_type) if is("text/plain") => Ok(Some(Opened {
                content_type: Some(content_type.clone()),
                type_names: of_properties.into_iter().collect(),
                ..Opened::new(incoming.body.clone())
            })),
            None if is("text/plain") || is("application/cloudevents+json") => {
                let Event { kind, content_type, data, trace } = event::read(incoming).map_err(|why| {
                    let raw = "if it was sent with rawPayload, read it with Dapr::raw_payload";
                    DecodeError::wrapper(NAME, format!("{why}; {raw}"))
                })?;
                let kind = Some(kind).filter(|kind| kind != NO_TYPE).or(of_properties);
                let type_names = kind.into_iter().collect();
                Ok(Some(Opened { content_type, type_names, trace, ..Opened::new(data) }))
            }
            _ => Ok(None),
        }
    }
}
