//! (being written)
#[allow(dead_code, unused_imports)]
mod topology;
pub use topology::{
    ArgumentValue, Binding, Difference, Entity, Exchange, ExchangeKind, Match, Overflow, Queue,
    QueueKind, Topology, TopologyError, TopologyErrorKind,
};
