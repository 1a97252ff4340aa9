//! Spans of messages, for OpenTelemetry: [`Traces`] makes them with [`tracing`], and the layer of
//! [tracing-opentelemetry](https://docs.rs/tracing-opentelemetry) exports them.
//!
//! No type of OpenTelemetry is in a signature here, so the application chooses the exporter, the sampler and the
//! version that fits to its layer.
//!
//! | span | kind | lasts from … to | parent | links |
//! |---|---|---|---|---|
//! | `publish orders:placed` | producer | the call … the broker's confirm | the caller's span | |
//! | `create orders:placed` | producer | the call … the message is in a batch | the caller's span | |
//! | `publish orders:placed` of a batch | client | sent … its confirm | the callers' span, if it is one | its items |
//! | `process billing` | consumer | the handler's call … its answer | the creator of the message | the creator |
//! | `process billing` of a whole batch | consumer | the same | none | all creators |
//! | `ack billing`, `nack billing` | client | the answer … the ack | the `process` span | |
//!
//! A retry's `process` span has the span that created the message as its parent, as the first one had, and links the
//! attempt before.

mod attributes;
mod context;
mod destination;
pub mod names;
mod process;
mod publish;
mod settings;

pub use settings::Traces;
