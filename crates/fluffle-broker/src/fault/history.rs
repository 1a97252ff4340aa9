//! The faults that have happened.

use std::fmt;

use super::{Event, Fault};

/// One fault that happened: the line of a log from which a run can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FiredFault {
    /// Its place in the history, from 1; the oldest are forgotten first.
    pub number: u64,
    /// The rule or strike it comes from, as [`FaultHandle::id`](super::FaultHandle::id) has it.
    pub id: u64,
    /// What happened.
    pub fault: Fault,
    /// When; none for a fault by hand.
    pub event: Option<Event>,
    /// The `connection_name` of the client it happened to; empty where there is none.
    pub connection: String,
}

impl fmt::Display for FiredFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, id, fault, event, connection } = self;
        write!(f, "#{number} by {id}: {fault} ")?;
        match event {
            Some(event) => write!(f, "at {event:?}")?,
            None => f.write_str("by hand")?,
        }
        if !connection.is_empty() {
            write!(f, " on '{connection}'")?;
        }
        Ok(())
    }
}
