//! Why a subcommand could not do its work, and its exit code.

use std::{fmt, process::ExitCode};

/// Why a subcommand could not do its work. Its exit code is then 2.
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

/// Prints why `subcommand` failed, if it did. The exit code is 0 or 2.
pub(crate) fn exit_code(subcommand: &str, result: Result<(), Failure>) -> ExitCode {
    own_code(subcommand, result.map(|()| ExitCode::SUCCESS))
}

/// Like [`exit_code`], for a subcommand that has exit codes of its own.
pub(crate) fn own_code(subcommand: &str, result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("fluffle {subcommand}: {failure}");
            ExitCode::from(2)
        }
    }
}
