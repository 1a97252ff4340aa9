//! Intake: asynchronous steps between a delivery's arrival and its handler, which keep the order of the deliveries.

#[allow(clippy::module_inception, reason = "the folder is about this one noun")]
pub(crate) mod intake;
pub(crate) mod seen;
pub(crate) mod step;
