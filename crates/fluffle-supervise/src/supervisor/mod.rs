//! A supervisor. It is an actor itself and therefore supervised like any other.

mod child;
mod core;
mod driver;
mod family;
mod handle;
mod orders;
mod root;
mod spec;

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Running};

use self::{core::Core, driver::Driver, family::Family};
pub use self::{
    handle::{StartChildError, StopChildError, SupervisorHandle},
    spec::SupervisorSpec,
};
use crate::{context::SupervisedContext, exit::ExitError};

/// One incarnation of a supervisor. The decisions are made in [`Family`]; this is the actor around it.
pub(crate) struct Supervisor {
    core: Arc<Core>,
    family: Family,
}

impl Supervisor {
    fn new(core: Arc<Core>) -> Self {
        let family = Family::new(&core);
        Self { core, family }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(id) = self.core.duplicate() {
            // Permanent, because this is a mistake in the program that no restart can repair.
            ctx.fail(ExitError::permanent(StartChildError::Duplicate { id }));
            return;
        }
        self.family.gather(&self.core);
        ctx.spawn(Driver::default());
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        if self.family.end() {
            Running::Stop
        } else {
            // The driver stops the context again when the last child is down.
            Running::Continue
        }
    }
}
