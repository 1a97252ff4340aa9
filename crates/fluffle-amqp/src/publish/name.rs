//! What a publisher goes by in the tree, in the log and in its stats.

use std::{fmt, sync::OnceLock};

/// The name that its route wishes for, and the one its service gave it: the same, or with a number if another has that.
pub(crate) struct Name {
    wished: String,
    given: OnceLock<String>,
}

impl Name {
    pub(crate) fn new(wished: String) -> Self {
        Self { wished, given: OnceLock::new() }
    }

    pub(crate) fn wished(&self) -> &str {
        &self.wished
    }

    /// From here on it is this, of which there is one. A publisher is added once.
    pub(crate) fn give(&self, name: String) {
        let _ = self.given.set(name);
    }

    pub(crate) fn as_str(&self) -> &str {
        self.given.get().unwrap_or(&self.wished)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
