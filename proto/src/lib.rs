//! The messages of Fluffle's examples, benchmarks and tests, compiled from the `.proto` files of this folder.
//!
//! Its `build.rs` is the recipe for an application's own messages.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::expect_used, clippy::unwrap_used)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

/// Earthquakes as the United States Geological Survey reports them, and the alerts made from them.
pub use generated::usgs::v1 as usgs;

/// Messages with every kind of field, for the tests of the wire format.
pub use generated::fluffle::wiretest::v1 as wiretest;
