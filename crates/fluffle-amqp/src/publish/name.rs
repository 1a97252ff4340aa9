//! The name of a publisher in the tree, in the log and in its stats.

use std::{fmt, sync::OnceLock};

/// The name that the route asks for, and the one that the service gave: the same, or with a number if another publisher
/// has it.
pub(crate) struct PublisherName {
    wished: String,
    given: OnceLock<String>,
}

impl PublisherName {
    pub(crate) fn new(wished: String) -> Self {
        Self { wished, given: OnceLock::new() }
    }

    pub(crate) fn wished(&self) -> &str {
        &self.wished
    }

    /// Sets the name that the service gave. Unique in the service. Called once, because a publisher is added once.
    pub(crate) fn give(&self, name: String) {
        let _ = self.given.set(name);
    }

    pub(crate) fn as_str(&self) -> &str {
        self.given.get().unwrap_or(&self.wished)
    }
}

impl fmt::Display for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
