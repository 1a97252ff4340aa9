//! Publishing: from a message to the broker's confirm.

pub(crate) mod actor;
pub(crate) mod backlog;
pub(crate) mod batcher;
pub(crate) mod batching;
pub(crate) mod confirm;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod forwarder;
pub(crate) mod held;
pub(crate) mod journal;
pub(crate) mod message;
pub(crate) mod name;
pub(crate) mod options;
pub(crate) mod outcome;
pub(crate) mod overdue;
pub(crate) mod passing;
pub(crate) mod properties;
pub(crate) mod publish_events;
pub(crate) mod publisher;
pub(crate) mod receipt;
pub(crate) mod route;
pub(crate) mod route_settings;
pub(crate) mod send_queue;
pub(crate) mod stats;
mod tally;
pub(crate) mod tracing;
pub(crate) mod travel;
pub(crate) mod unconfirmed;

#[cfg(test)]
pub(crate) mod tests;
