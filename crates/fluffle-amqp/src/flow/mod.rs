//! Limits on the flow of messages: circuit breakers, kill switches, rate limits and byte budgets.

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod flow_written;
pub(crate) mod rate;
pub(crate) mod switch;
