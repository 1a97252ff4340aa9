//! Why a run could not be carried out.

use std::fmt;

/// Why a run could not be carried out. The exit code is then 2.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// An error in the arguments, or a condition that they need and that is not met.
    pub(crate) fn usage(why: impl Into<String>) -> Self {
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
