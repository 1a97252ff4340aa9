//! What happened to deliveries, counted.

pub(crate) mod stats;
