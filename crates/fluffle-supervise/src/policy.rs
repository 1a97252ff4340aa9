//! OTP's restart policies, and the error for an argument that they refuse.

use std::{fmt, time::Duration};

/// Whether a child is started again after it ended. The terms are OTP's ([supervisor
/// behaviour](https://www.erlang.org/doc/system/sup_princ.html#child-specification)).
///
/// | ended with | [`Permanent`](Self::Permanent) | [`Transient`](Self::Transient) | [`Temporary`](Self::Temporary) |
/// |---|---|---|---|
/// | [`Finished`](crate::ExitReason::Finished) | restart | over | over |
/// | failed, panicked, escalated, killed | restart | restart | over |
/// | failed [permanently](crate::ExitReason::is_permanent) | escalate | escalate | over |
/// | stopped on request | over | over | over |
///
/// *Over* means ended for good: the mailbox closes, and not even a restart of the supervisor starts the child again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Restarted after every end, normal ends included, unless it was stopped on request or failed permanently. The
    /// default.
    #[default]
    Permanent,
    /// Restarted only after an end that was not [normal](crate::ExitReason::is_normal).
    Transient,
    /// Never restarted, even if it was stopped because a sibling failed.
    Temporary,
}

/// Which siblings are restarted with a child that failed. The terms are OTP's ([restart
/// strategy](https://www.erlang.org/doc/system/sup_princ.html#restart-strategy)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child that failed. The default.
    #[default]
    OneForOne,
    /// All children: the others are stopped in reverse order, then, after the failed child's backoff, all are started
    /// in order.
    OneForAll,
    /// The child that failed and the siblings after it: the siblings are stopped in reverse order, then, after the
    /// failed child's backoff, the child and the siblings are started in order.
    RestForOne,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneForOne => "one-for-one",
            Self::OneForAll => "one-for-all",
            Self::RestForOne => "rest-for-one",
        })
    }
}

/// Why a policy's argument is refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A backoff that starts at zero never grows.
    #[error(
        "a backoff's shortest wait must be above zero, because each wait is a multiple of it; for no wait at all use \
         Backoff::none()"
    )]
    ZeroMin,
    /// The shortest wait is longer than the longest.
    #[error("a backoff's shortest wait ({min:?}) must not be longer than its longest ({max:?})")]
    MinAboveMax {
        /// The shortest wait asked for.
        min: Duration,
        /// The longest wait asked for.
        max: Duration,
    },
    /// The factor would shrink the waits, or is not a number.
    #[error("a backoff's factor must be a finite number of at least 1, so that waits do not shrink; it was {0}")]
    Factor(f64),
    /// A restart budget with a window of zero would never count a restart.
    #[error("a restart budget's window must be above zero; for no budget at all use Intensity::unlimited()")]
    ZeroWindow,
}
