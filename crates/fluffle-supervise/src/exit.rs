//! Why an actor ended.

use std::{any::Any, error::Error, fmt, sync::Arc};

use crate::escalation::Escalation;

/// Why one incarnation of a child ended.
///
/// `Display` gives the whole chain of causes in one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExitReason {
    /// The actor ended by itself and named no error: it called `ctx.stop()` or `ctx.terminate()`.
    Finished,
    /// The actor's supervisor, or a [`SupervisorHandle`](crate::SupervisorHandle), asked it to stop.
    Stopped,
    /// The actor called [`ctx.fail(error)`](crate::SupervisedContext::fail).
    Failed(Arc<ExitError>),
    /// The actor's code panicked.
    Panicked(Panicked),
    /// The actor's arbiter ended, or had ended before the actor could start on it.
    ArbiterDied,
    /// The actor did not stop by its deadline and was abandoned. If its thread is blocked, its value is dropped only
    /// when the thread is free again.
    Killed,
    /// The actor is a supervisor that gave up on a child.
    Escalated(Arc<Escalation>),
}

impl ExitReason {
    /// Whether a [transient](crate::Restart::Transient) child is not restarted after this: true for
    /// [`Finished`](Self::Finished) and [`Stopped`](Self::Stopped).
    #[must_use]
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Finished | Self::Stopped)
    }

    /// Whether a restart is known to be useless, because the error at the bottom of the chain is
    /// [permanent](ExitError::permanent). Such an exit goes up to the root of the tree at once.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_permanent(),
            Self::Escalated(escalation) => escalation.reason().is_permanent(),
            Self::Finished | Self::Stopped | Self::Panicked(_) | Self::ArbiterDied | Self::Killed => false,
        }
    }

    /// The error given to [`fail`](crate::SupervisedContext::fail) at the bottom of this chain of escalations. `None`
    /// if the chain began with another kind of exit.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error.error()),
            Self::Escalated(escalation) => escalation.reason().error(),
            Self::Finished | Self::Stopped | Self::Panicked(_) | Self::ArbiterDied | Self::Killed => None,
        }
    }

    /// The last error in the chain of [`source`](Error::source)s of [`error`](Self::error), or that error itself if it
    /// has none.
    #[must_use]
    pub fn root_error(&self) -> Option<&(dyn Error + 'static)> {
        let mut root = self.error()?;
        while let Some(source) = root.source() {
            root = source;
        }
        Some(root)
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Stopped => f.write_str("stopped on request"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(panicked) => panicked.fmt(f),
            Self::ArbiterDied => f.write_str("its arbiter died"),
            Self::Killed => f.write_str("killed: it did not stop by its deadline"),
            Self::Escalated(escalation) => write!(f, "gave up: {escalation}"),
        }
    }
}

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    message: Arc<str>,
    phase: Phase,
}

impl Panicked {
    pub(crate) fn new(payload: &(dyn Any + Send), phase: Phase) -> Self {
        Self { message: Self::message_of(payload).into(), phase }
    }

    /// The text of a panic from the payload that `catch_unwind` returned.
    #[must_use]
    pub fn message_of(payload: &(dyn Any + Send)) -> &str {
        if let Some(message) = payload.downcast_ref::<&str>() {
            message
        } else if let Some(message) = payload.downcast_ref::<String>() {
            message
        } else {
            "(a value that is not text)"
        }
    }

    /// The panic's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where the panic happened, as far as the supervisor can tell.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked in {}: {}", self.phase, self.message)
    }
}

/// What an actor was doing when it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The factory, or a hook given to [`in_context`](crate::ActorSpec::in_context), was building the actor.
    Factory,
    /// In `Actor::started`, or in a future that `started` told the context to wait for.
    Started,
    /// Handling a message sent to the actor's [`SupervisedAddr`](crate::SupervisedAddr).
    Handler,
    /// In a future of the actor's context, or handling a message sent to its bare actix address.
    Future,
    /// In `Actor::stopping`, or in other code of the actor after it had called `ctx.stop()`.
    Stopping,
    /// In `Actor::stopped`.
    Stopped,
    /// The actor's value was being dropped.
    Drop,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Factory => "its factory",
            Self::Started => "started",
            Self::Handler => "a handler",
            Self::Future => "a future",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Drop => "drop",
        })
    }
}

/// The error with which an actor ends, and whether a restart can help.
///
/// `?` and `into()` convert any error into a *transient* `ExitError`, which means: try again. Like anyhow's error,
/// `ExitError` is not itself a [`std::error::Error`]; [`error`](Self::error) returns one.
///
/// ```
/// use fluffle_supervise::ExitError;
///
/// let transient: ExitError = std::io::Error::other("connection reset").into();
/// assert!(!transient.is_permanent());
///
/// let permanent = ExitError::permanent("credentials refused");
/// assert!(permanent.is_permanent());
/// assert_eq!(permanent.to_string(), "credentials refused");
/// ```
pub struct ExitError {
    error: Box<dyn Error + Send + Sync>,
    permanent: bool,
}

impl ExitError {
    /// A restart may help.
    pub fn transient(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), permanent: false }
    }

    /// A restart cannot help: the actor is never restarted, and the error goes up to the root of the tree at once.
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { error: error.into(), permanent: true }
    }

    /// Whether a restart is known to be useless.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The wrapped error.
    #[must_use]
    pub fn error(&self) -> &(dyn Error + 'static) {
        &*self.error
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for ExitError {
    fn from(error: E) -> Self {
        Self::transient(error)
    }
}

impl fmt::Debug for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitError").field("error", &self.error).field("permanent", &self.permanent).finish()
    }
}

/// Writes the error and its sources in one line. A source whose text is already part of its error's text is left out.
impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.error.to_string();
        f.write_str(&said)?;
        let mut source = self.error.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect to {host}")]
    struct Connect {
        host: &'static str,
        source: std::io::Error,
    }

    fn refused() -> Connect {
        Connect { host: "rabbit:5672", source: std::io::Error::from(std::io::ErrorKind::ConnectionRefused) }
    }

    #[test]
    fn an_error_shows_its_sources_in_one_line() {
        let reason = ExitReason::Failed(Arc::new(refused().into()));
        assert_eq!(reason.to_string(), "failed: cannot connect to rabbit:5672: connection refused");
        assert!(reason.error().is_some_and(|error| error.is::<Connect>()));
        assert!(reason.root_error().is_some_and(|error| error.is::<std::io::Error>()));
    }

    #[test]
    fn a_source_its_error_already_quotes_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer ({0})")]
        struct Quotes(#[source] std::io::Error);
        let error = ExitError::from(Quotes(std::io::Error::other("inner")));
        assert_eq!(error.to_string(), "outer (inner)");
    }

    #[test]
    fn a_question_mark_means_transient() {
        fn connect() -> Result<(), ExitError> {
            Err(refused())?;
            Ok(())
        }
        assert!(!connect().unwrap_err().is_permanent());
        assert!(ExitError::permanent(refused()).is_permanent());
    }

    #[test]
    fn only_what_was_meant_to_end_is_normal() {
        assert!(ExitReason::Finished.is_normal());
        assert!(ExitReason::Stopped.is_normal());
        for reason in [
            ExitReason::Failed(Arc::new(ExitError::transient("x"))),
            ExitReason::Panicked(Panicked::new(&"x", Phase::Handler)),
            ExitReason::ArbiterDied,
            ExitReason::Killed,
        ] {
            assert!(!reason.is_normal(), "{reason}");
        }
    }

    #[test]
    fn a_panic_keeps_its_text_whatever_its_type() {
        let text = |payload: &(dyn Any + Send)| Panicked::new(payload, Phase::Future).to_string();
        assert_eq!(text(&"static"), "panicked in a future: static");
        assert_eq!(text(&String::from("owned")), "panicked in a future: owned");
        assert_eq!(text(&7_u8), "panicked in a future: (a value that is not text)");
    }
}
