//! Consumers: take deliveries from a queue, decode them, hand them to handler actors, and settle them.

pub(crate) mod attempt;
pub(crate) mod decide;
pub(crate) mod events;
pub(crate) mod handler;
pub(crate) mod intake;
pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod session;
pub(crate) mod settle;
pub(crate) mod spec;
