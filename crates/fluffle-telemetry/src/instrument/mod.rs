//! What holds the values of metrics: atomics that are written on the threads where things happen, and read elsewhere.

pub(crate) mod bounds;
pub(crate) mod counter;
pub(crate) mod gauge;
pub(crate) mod histogram;
mod sharded;
