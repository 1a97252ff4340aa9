//! Panics of observers end here, because observers run on the threads of connections and handlers.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

use fluffle_supervise::Panicked;

/// Tells a listener. If the listener panics, the panic is logged, and `is_broken` is set: it is to be told nothing
/// more.
pub(crate) fn guarded(of: &str, is_broken: &AtomicBool, tell: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(tell))
        && !is_broken.swap(true, Ordering::Relaxed)
    {
        report(of, &*panic);
    }
}

pub(crate) fn report(of: &str, panic: &(dyn Any + Send)) {
    tracing::error!(
        %of, panic = Panicked::message_of(panic),
        "an observer panicked: it hears of no more events of this; messages are not affected"
    );
}
