//! Request and reply over RabbitMQ's direct reply-to.

pub(crate) mod actor;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod options;
pub(crate) mod requester;
pub(crate) mod span;
