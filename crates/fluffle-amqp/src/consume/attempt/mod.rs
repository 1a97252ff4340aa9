//! One attempt at a delivery: its permits, its contents, its outcome, and the duty to answer for it.

#[allow(clippy::module_inception, reason = "the folder is about this one noun")]
pub(crate) mod attempt;
pub(crate) mod contents;
pub(crate) mod crash;
pub(crate) mod items;
pub(crate) mod job;
pub(crate) mod open;
pub(crate) mod outcome;
pub(crate) mod permits;
pub(crate) mod ticket;
