//! Between a delivery's arrival and its handler: asynchronous steps that keep its place in the order.

#[allow(clippy::module_inception, reason = "the folder is about this one noun")]
pub(crate) mod intake;
pub(crate) mod seen;
pub(crate) mod step;
