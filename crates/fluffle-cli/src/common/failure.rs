//! Why a subcommand could not do its work.

use std::fmt;

/// Why a subcommand could not do its work. Its exit code is then 3.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// What failed, on which entity, and what to do, in one line.
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
