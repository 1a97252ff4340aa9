//! A byte-level client, for messages that client libraries cannot send or read: see [`RawClient`].

mod client;
mod fields;

pub use client::{Close, RawClient, RawFrame, RawMessage, RawPublish};
pub use fields::{Fields, array, field, flags, integer, long_string, nested_arrays, nested_tables, table};
