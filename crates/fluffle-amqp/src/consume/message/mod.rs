//! The message as it was received: unchanged, with its identity and what can be trusted of its history.

pub(crate) mod accessors;
pub(crate) mod deliveries;
pub(crate) mod delivery_info;
pub(crate) mod identity;
pub(crate) mod item;
pub(crate) mod progress;
pub(crate) mod received;
pub(crate) mod settled;
