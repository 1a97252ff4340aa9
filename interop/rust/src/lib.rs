//! Reads and writes what docs/WIRE.md describes, and a peer for `cargo xtask interop`, without Fluffle.

pub mod peer;
pub mod reader;
pub mod writer;
