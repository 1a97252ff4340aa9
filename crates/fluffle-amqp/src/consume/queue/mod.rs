pub(crate) mod by_key;
pub(crate) mod handler_queue;
pub(crate) mod key_queues;
pub(crate) mod keys;
