//! Counts what happens to deliveries.

pub(crate) mod stats;
