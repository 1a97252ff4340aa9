//! Reports from a supervised actor to its supervisor, through the actor's context.

use actix::{Actor, ActorContext, Context};

use crate::{
    current::Current,
    event::TARGET,
    exit::{ExitError, ExitReason},
};

/// Adds to `actix::Context` the reports that a supervised actor can make to its supervisor.
///
/// ```
/// use actix::prelude::*;
/// use fluffle_supervise::{ExitError, SupervisedContext};
///
/// struct Socket;
///
/// impl Actor for Socket {
///     type Context = Context<Self>;
///
///     fn started(&mut self, ctx: &mut Self::Context) {
///         match std::net::TcpStream::connect("127.0.0.1:1") {
///             Ok(_) => ctx.ready(),
///             Err(refused) => ctx.fail(refused), // transient: restarted with backoff
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot report to a supervisor",
    note = "a supervised actor has `type Context = actix::Context<Self>`"
)]
pub trait SupervisedContext {
    /// Ends the actor with [`ExitReason::Failed`]: stops it as `ctx.stop()` does (`stopping` may still answer
    /// `Running::Continue`), and reports `error` when it has stopped. If `fail` is called more than once, the first
    /// error counts.
    ///
    /// Any `std::error::Error` converts to a transient error; [`ExitError::permanent`] says that a restart is useless.
    ///
    /// In an actor that is not supervised, it logs the error and stops the actor.
    fn fail(&mut self, error: impl Into<ExitError>);

    /// Reports that the actor is ready for work. If the child's spec says
    /// [`reports_ready`](crate::ActorSpec::reports_ready), its supervisor waits for this report: only then do later
    /// siblings start, and the healthy spell that resets the backoff begins. Otherwise, and when repeated, and outside
    /// supervision, it does nothing.
    fn ready(&self);

    /// Reports that the actor is healthy. If it ends later, the restart counts as the first in a row, whatever
    /// [`Backoff::reset_after`](crate::Backoff::reset_after) says. For actors whose health shows in work done rather
    /// than in time. Repeated, and outside supervision, it does nothing.
    fn healthy(&self);
}

impl<A: Actor<Context = Self>> SupervisedContext for Context<A> {
    fn fail(&mut self, error: impl Into<ExitError>) {
        let error = error.into();
        match Current::get() {
            Some(current) => current.set_exit(ExitReason::Failed(error.into())),
            None => {
                let actor = std::any::type_name::<A>();
                tracing::error!(target: TARGET, actor, %error, "an actor without a supervisor failed");
            }
        }
        self.stop();
    }

    fn ready(&self) {
        if let Some(current) = Current::get() {
            current.ready();
        }
    }

    fn healthy(&self) {
        if let Some(current) = Current::get() {
            current.healthy();
        }
    }
}
