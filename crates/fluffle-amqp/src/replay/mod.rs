//! Replay: dead letters go back to the queues they came from.

mod letter;
mod plan;
mod run;

pub use self::{
    letter::{BrokerDeath, DeadLetter},
    plan::Replay,
    run::{ReplayError, Replayed},
};
