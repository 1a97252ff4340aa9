//! An asynchronous step between a delivery's arrival and its handler.

use futures_util::future::LocalBoxFuture;

use crate::consume::attempt::{attempt::Attempt, outcome::Outcome};

/// A step that every delivery of a consumer passes before its handler. Examples: look up whether the message was
/// handled before, fetch a body that is stored elsewhere, convert a foreign format.
///
/// A step that has nothing to do for a delivery costs one call. Deliveries keep their order through all steps.
pub(crate) trait IntakeStep: Send + Sync {
    /// Begins the step, or gives the attempt back if there is nothing to do for it. The future is dropped with its
    /// channel; the broker then delivers the message again.
    #[expect(clippy::result_large_err, reason = "the attempt that is given back is no error, and is moved once")]
    fn begin(&self, attempt: Attempt) -> Result<LocalBoxFuture<'static, Taken>, Attempt>;
}

/// The result of a step.
pub(crate) enum Taken {
    /// The attempt goes on to its handler.
    Ready(Attempt),
    /// The message was handled before.
    HandledBefore(Attempt),
    /// The step failed. What becomes of the delivery is decided as if its handler had failed.
    #[allow(dead_code, reason = "no step inside the framework fails so far")]
    Failed(Attempt, Outcome),
    /// The attempt has to wait and gives up its place in the order: deliveries behind it go ahead.
    Apart(LocalBoxFuture<'static, Taken>),
}
