//! The wire format: messages to bytes and back.
//!
//! Pure and synchronous. This crate knows Protobuf, JSON, gzip and the names of headers. It knows no socket, no actor
//! and no AMQP client. `docs/WIRE.md` describes the format for other languages, with test vectors.
//!
//! ```
//! use fluffle_wire::{Gzip, Wire};
//! use protos::usgs::Quake;
//!
//! let wire = Wire::<Quake>::protobuf().gzip(Gzip::auto());
//! let quake = Quake { id: "ci37868143".into(), magnitude: Some(2.0), ..Quake::default() };
//!
//! let sent = wire.encode(&quake)?;
//! assert_eq!(&*sent.content_type, "application/vnd.google.protobuf; proto=usgs.v1.Quake");
//! assert_eq!(&*sent.type_name, "usgs.v1.Quake");
//! assert_eq!(sent.content_encoding, None); // too small for gzip to pay
//!
//! let received = wire.decode(&sent.incoming())?;
//! assert_eq!(received, quake);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Wire`] is a codec with a gzip policy and limits. Each publisher and consumer of a type holds one.
//! - [`Codec`] is a format. [`Protobuf`] and, with the feature `json`, `Json` and `SerdeJson` are in this crate; others
//!   can be added outside.
//! - [`Wrapper`] is a format of others that wraps a message. With the feature `json`, `wrappers` has those of
//!   CloudEvents, Dapr, MassTransit, Spring AMQP and Celery.
//! - [`BatchBuilder`] and [`Batch`] put many messages into one body and take them out again.
//! - [`headers`] names the headers and has types for their values.
//! - [`Limits`] bound everything that comes from outside. Past a limit, the result is a typed error, never an
//!   allocation.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod codec;
mod content_type;
#[cfg(feature = "json")]
mod descriptors;
mod encoded;
mod error;
mod frames;
mod gzip;
pub mod headers;
mod hint;
mod incoming;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "json")]
mod json_text;
mod label;
mod limits;
#[cfg(feature = "json")]
mod linked_json;
#[cfg(not(feature = "json"))]
mod no_descriptors;
mod parts;
mod protobuf;
mod reading;
#[cfg(feature = "json")]
mod serde_codec;
mod text;
mod wire;
mod wrapper;
#[cfg(feature = "json")]
pub mod wrappers;

pub use batch::{Batch, BatchBuilder, Items, RawItems};
pub use codec::Codec;
pub use content_type::ContentType;
#[cfg(feature = "json")]
pub use descriptors::{Descriptors, inventory};
pub use encoded::Encoded;
pub use error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use gzip::{Gzip, InvalidLevel, Level};
pub use incoming::{Headers, Incoming};
#[cfg(feature = "json")]
pub use json::Json;
pub use label::Label;
pub use limits::Limits;
pub use protobuf::Protobuf;
pub use reading::Read;
#[cfg(feature = "json")]
pub use serde_codec::SerdeJson;
pub use wire::Wire;
pub use wrapper::{Opened, Wrapper};
