//! The settings of a consumer, and the queues that it needs because of them.

pub(crate) mod consume;
pub(crate) mod consume_settings;
pub(crate) mod contradictions;
pub(crate) mod formats;
pub(crate) mod guarantee;
pub(crate) mod key;
pub(crate) mod middleware;
pub(crate) mod offset_store;
mod placing;
pub(crate) mod reading;
pub(crate) mod retry;
pub(crate) mod seen_store;
pub(crate) mod side_queues;
pub(crate) mod stream;
pub(crate) mod threads;
