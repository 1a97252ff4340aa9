//! Whether the log has a line about a panic of a handler actor: the line about the message that the actor had in hand
//! says all, so the tree says nothing more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

/// Shared by the incarnations of one handler instance and its supervisor.
pub(crate) struct CrashLog {
    /// The name of the consumer, and the number of the instance.
    handler: String,
    is_logged: AtomicBool,
}

impl CrashLog {
    pub(crate) fn new(consumer: &str, instance: usize) -> Arc<Self> {
        Arc::new(Self { handler: format!("{consumer}/{instance}"), is_logged: AtomicBool::new(false) })
    }

    /// The present incarnation panics, and its panic is logged otherwise than by the tree.
    pub(crate) fn is_logged(&self) {
        self.is_logged.store(true, SeqCst);
    }

    /// Whether the last exit is logged otherwise. Each call asks about another exit.
    pub(crate) fn take(&self) -> bool {
        self.is_logged.swap(false, SeqCst)
    }

    /// No message in hand had crashed, after all.
    pub(crate) fn log(&self, panic: &str) {
        tracing::warn!(
            handler = self.handler,
            panic,
            "a handler panicked outside its messages: it is started again, and its messages in hand are answered"
        );
    }
}
