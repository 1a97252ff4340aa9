//! Spans of messages, for OpenTelemetry: [`Traces`] makes them with [`tracing`], and the layer of
//! [tracing-opentelemetry](https://docs.rs/tracing-opentelemetry) exports them.
//!
//! No type of OpenTelemetry is in a signature here, so the application chooses the exporter, the sampler and the
//! version that fits to its layer.
//!
//! | span | kind | from | to | parent |
//! |---|---|---|---|---|
//! | `publish orders:order.placed` | producer | the call | the broker's confirm | the span of the caller, or of the handler |
//! | `create orders:order.placed` | producer | the call | the message is in a batch | the same |
//! | `publish orders:order.placed` of a batch | client | the batch is sent | its confirm | that of its messages, if they share one; links to all |
//! | `process billing` | consumer | the handler is called | its answer | the span that created the message, and a link to it |
//! | `process billing` of a whole batch | consumer | the handler is called | its answer | none; links to all creators |
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
