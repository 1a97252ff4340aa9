//! Why a fault was refused.

use std::time::Duration;

use thiserror::Error;

use super::Event;

/// Why a rule or a fault by hand was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The fault cannot happen at that event.
    #[error("{fault} cannot happen at {event:?}: choose one of {possible:?}, or leave `at` out for the first of them")]
    WrongEvent {
        /// The fault.
        fault: &'static str,
        /// The event.
        event: Event,
        /// The events at which it can happen.
        possible: &'static [Event],
    },
    /// The rule filters by something that is not known at its event.
    #[error("no {filter} is known at {event:?}: leave the filter out, or choose with `at` an event that knows it")]
    WrongFilter {
        /// The filter.
        filter: &'static str,
        /// The event.
        event: Event,
    },
    /// Bytes are counted from the beginning of a connection, and only for network faults.
    #[error("{fault} at {event:?} cannot wait for bytes: use `after_bytes` with network faults, at Accepted or Opened")]
    WrongBytes {
        /// The fault.
        fault: &'static str,
        /// The event.
        event: Event,
    },
    /// The fault needs the broker, but a proxy only moves bytes.
    #[error("{fault} needs the broker's help, and a proxy has none: inject it into a fluffle broker")]
    NeedsBroker {
        /// The fault, or the condition of the rule or target.
        fault: &'static str,
    },
    /// The fault is an answer to something that must happen first.
    #[error("{fault} cannot be had by hand, for it answers what a client does: inject a rule")]
    NeedsRule {
        /// The fault.
        fault: &'static str,
    },
    /// The fault happens to the whole broker.
    #[error("{fault} happens to the broker as a whole: strike Target::all()")]
    NeedsAll {
        /// The fault.
        fault: &'static str,
    },
    /// A number is outside the allowed range.
    #[error("{what} is {value}: it must be {allowed}")]
    OutOfRange {
        /// The name of the value.
        what: &'static str,
        /// The value.
        value: f64,
        /// The allowed range.
        allowed: &'static str,
    },
    /// There are too many rules.
    #[error("there are {most} rules already: heal some first")]
    TooManyRules {
        /// The limit.
        most: usize,
    },
    /// The fault did not happen in time.
    #[error("the fault happened {fired} times within {within:?}, not {wanted}: see what events its rule waits for")]
    NotFired {
        /// How often it was expected to happen.
        wanted: u64,
        /// How often it happened.
        fired: u64,
        /// How long the call waited.
        within: Duration,
    },
    /// The broker, or the proxy, has ended.
    #[error("the thread that carries out faults has ended: start a new broker or proxy")]
    Gone,
}
