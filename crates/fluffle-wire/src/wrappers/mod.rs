//! Formats of others that wrap a message. A consumer names each that it reads: `Consume::accepts(CloudEvents)`.
//!
//! | wrapper | recognized by | the type is |
//! |---|---|---|
//! | [`CloudEvents`] | `application/cloudevents+json`, or header `cloudEvents:specversion` | the event's `type` |
//! | [`Dapr`] | `text/plain` or `application/cloudevents+json` | the event's `type` |
//! | [`MassTransit`] | `application/vnd.masstransit+json` | the first known of `messageType` |
//! | [`SpringAmqp`] | header `__TypeId__` | that header |
//! | [`Celery`] | header `task` | the name of the task |
//!
//! Their names of types are seldom Protobuf names: say which type is meant with `Consume::type_alias`, or
//! [`Wire::type_alias`](crate::Wire::type_alias). What is within a wrapper is read by the codec that its content type
//! names, which is JSON most often.
//!
//! Each wrapper takes the message out of the received body without copying it, unless the message is base64 or text
//! with escapes. The JSON around the message may nest as deep as the size of the body allows, because it is skipped
//! without recursion. Names of types, content types and other attributes may have 1,024 bytes. A field that stands
//! twice is an error. The text is UTF-8, as for all JSON that this crate reads.
//!
//! ```
//! use bytes::Bytes;
//! use fluffle_wire::{Incoming, Wire, wrappers::CloudEvents};
//! use protos::usgs::Alert;
//!
//! let wire = Wire::<Alert>::json().accepts(CloudEvents).type_alias("gov.usgs.alert", "usgs.v1.Alert");
//! let body = Bytes::from_static(
//!     br#"{"specversion":"1.0","id":"1","source":"/usgs","type":"gov.usgs.alert","data":{"quakeId":"us2000cmy3"}}"#,
//! );
//! let content_type = Some("application/cloudevents+json; charset=utf-8");
//! let alert = wire.decode(&Incoming { content_type, ..Incoming::unlabelled(&body) })?;
//! assert_eq!(alert.quake_id, "us2000cmy3");
//! # Ok::<(), fluffle_wire::DecodeError>(())
//! ```

mod celery;
mod cloud_events;
mod dapr;
mod event;
mod mass_transit;
mod object;
mod spring_amqp;

pub use celery::Celery;
pub use cloud_events::CloudEvents;
pub use dapr::Dapr;
pub use mass_transit::MassTransit;
pub use spring_amqp::SpringAmqp;
