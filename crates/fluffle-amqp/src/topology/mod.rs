//! Topology: the exchanges, queues and bindings that a service needs, as data.
//!
//! A topology is built in Rust or read from TOML, and validated without a broker. Nothing here knows lapin:
//! `link/declare.rs` declares a topology, after every connect.

mod argument;
mod binding;
mod cycle;
mod destination;
mod error;
mod exchange;
mod name;
mod partitions;
mod queue;
mod queue_kind;
mod queue_rules;
mod toml;
mod toml_values;
#[expect(clippy::module_inception, reason = "the module's one main type is in it")]
mod topology;
mod weights;

pub use argument::ArgumentValue;
pub(crate) use argument::Arguments;
pub use binding::{Binding, Match};
pub(crate) use destination::Destination;
pub use error::{Difference, Entity, TopologyError, TopologyErrorKind};
pub(crate) use exchange::CONSISTENT_HASH;
pub use exchange::{Exchange, ExchangeKind, HashProperty};
pub use queue::Queue;
pub use queue_kind::{LeaderLocator, Overflow, QueueKind};
pub use topology::Topology;
