//! What holds back: circuit breakers and kill switches.

pub(crate) mod breaker;
pub(crate) mod switch;
