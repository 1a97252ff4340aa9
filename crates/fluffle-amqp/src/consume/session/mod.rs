//! A session: one consumer on one channel. Subscribes, watches time limits, drains.

pub(crate) mod actor;
pub(crate) mod draining;
pub(crate) mod end;
pub(crate) mod gate;
mod giving_back;
pub(crate) mod guard;
pub(crate) mod orphans;
pub(crate) mod pause;
pub(crate) mod quarantine;
mod reading;
#[allow(clippy::module_inception, reason = "the folder is about this one noun")]
pub(crate) mod session;
pub(crate) mod settings;
mod stream;
pub(crate) mod subscription;
pub(crate) mod watchdog;
