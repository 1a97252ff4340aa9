//! A supervisor. It is an actor itself and therefore supervised like any other.

mod actor;
mod child;
mod core;
mod error;
mod family;
mod handle;
mod orders;
mod root;
mod spec;

pub use self::{
    error::{StartChildError, StopChildError},
    handle::SupervisorHandle,
    spec::SupervisorSpec,
};
