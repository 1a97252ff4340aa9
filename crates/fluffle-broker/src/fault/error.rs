//! Why a fault cannot be had.

use std::time::Duration;

use thiserror::Error;

use super::Event;

/// Why a rule or a fault by hand was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The fault means nothing at that event.
    #[error("{fault} cannot happen at {event:?}: choose one of {possible:?}, or leave `at` out for the first of them")]
    WrongEvent {
        /// The fault.
        fault: &'static str,
        /// The event.
        event: Event,
        /// Where it can happen.
        possible: &'static [Event],
    },
    /// The rule asks for something that is not known when it is asked.
    #[error("no {filter} is known at {event:?}: leave the filter out, or choose with `at` an event that knows it")]
    WrongFilter {
        /// What the rule asks for.
        filter: &'static str,
        /// The event.
        event: Event,
    },
    /// Bytes are counted from a connection's beginning, for faults that happen to bytes.
    #[error(
        "{fault} at {event:?} cannot wait for bytes: `after_bytes` is for faults of the transport, from Accepted or Opened"
    )]
    WrongBytes {
        /// The fault.
        fault: &'static str,
        /// The event.
        event: Event,
    },
    /// A proxy moves bytes and knows nothing of AMQP.
    #[error("{fault} needs the broker's help, and a proxy has none: inject it into a fluffle broker")]
    NeedsBroker {
        /// The fault, or what the rule or target asks for.
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
    /// A number that makes no sense.
    #[error("{what} is {value}: it must be {allowed}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What would do.
        allowed: &'static str,
    },
    /// Too many rules.
    #[error("there are {most} rules already: heal some first")]
    TooManyRules {
        /// The limit.
        most: usize,
    },
    /// The fault did not happen in time.
    #[error("the fault happened {fired} times within {within:?}, not {wanted}: see what events its rule waits for")]
    NotFired {
        /// How often it was to happen.
        wanted: u64,
        /// How often it did.
        fired: u64,
        /// The time it had.
        within: Duration,
    },
    /// The broker, or the proxy, has ended.
    #[error("the thread that carries out faults has ended: start a new broker or proxy")]
    Gone,
}
