//! What holds back: circuit breakers and kill switches, rate limits, byte budgets.

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod rate;
pub(crate) mod switch;
