//! The handler queue: deliveries that wait for a handler, in one queue or sorted by key.

pub(crate) mod by_key;
pub(crate) mod handler_queue;
pub(crate) mod key_queues;
pub(crate) mod read_key;
pub(crate) mod waiting;
