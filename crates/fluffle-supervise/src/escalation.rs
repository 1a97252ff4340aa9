//! The report of a supervisor that gives up on a child.

// One thought with exit.rs: an escalation holds the reason a child ended by, and that reason may be an escalation.

use std::{fmt, sync::Arc, time::Duration};

use crate::exit::ExitReason;

/// Which child a supervisor gave up on, and why. If that child is a supervisor, its reason may be an escalation too:
/// together they form the chain of causes from the root of the tree down to the actor that failed.
#[derive(Clone, Debug)]
pub struct Escalation {
    path: Arc<str>,
    reason: ExitReason,
    cause: GivingUp,
}

/// Why a supervisor gave up on a child instead of restarting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GivingUp {
    /// The child's error is permanent.
    Permanent,
    /// The restart budget is used up.
    TooManyRestarts {
        /// The restarts that the budget allowed.
        restarts: u32,
        /// The budget's window.
        within: Duration,
    },
    /// The child's arbiter died, and the child's spec names no source of other arbiters
    /// ([`on_each`](crate::ActorSpec::on_each)).
    NoArbiter,
}

impl Escalation {
    pub(crate) fn new(path: Arc<str>, reason: ExitReason, cause: GivingUp) -> Self {
        Self { path, reason, cause }
    }

    /// The path of the child that was given up, such as `app/consume/socket`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How that child's last incarnation ended.
    #[must_use]
    pub fn reason(&self) -> &ExitReason {
        &self.reason
    }

    /// Why the child was not restarted.
    #[must_use]
    pub fn cause(&self) -> GivingUp {
        self.cause
    }
}

impl fmt::Display for Escalation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason, cause } = self;
        match (cause, reason) {
            // Only the actor that failed is named as failed permanently, not each supervisor above it.
            (GivingUp::Permanent, ExitReason::Escalated(inner)) => inner.fmt(f),
            (GivingUp::Permanent, ExitReason::Failed(error)) => {
                write!(f, "{path} failed permanently: {error}")
            }
            (GivingUp::Permanent, reason) => write!(f, "{path} failed permanently: {reason}"),
            (GivingUp::TooManyRestarts { restarts: 0, .. }, reason) => {
                write!(f, "{path} ended, and its supervisor allows no restart: {reason}")
            }
            (GivingUp::TooManyRestarts { restarts, within }, reason) => {
                let times = if *restarts == 1 { "once" } else { &format!("{restarts} times") };
                write!(f, "{path} was restarted {times} in {within:?}; last: {reason}")
            }
            (GivingUp::NoArbiter, _) => {
                write!(f, "{path} lost its arbiter and has no other to run on")
            }
        }
    }
}
