//! How a command ended, if it could be carried out.

use std::process::ExitCode;

/// Whether all was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Done,
    /// Letters were refused, the same failed again, or it was interrupted. Exit code 1.
    InPart,
}

impl Outcome {
    pub(crate) fn of(all: bool) -> Self {
        if all { Self::Done } else { Self::InPart }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::InPart => ExitCode::FAILURE,
        }
    }
}
