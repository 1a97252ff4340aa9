//! The exit codes, which are the same for all subcommands.

use std::process::ExitCode;

use crate::common::{failure::Failure, output::safe};

/// What a subcommand came to, worst last. The number is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is done, or sound.
    Clean = 0,
    /// It worked, and somebody has to look: there is a rest, or a warning.
    Attention = 1,
    /// It worked, and what it found or did is bad.
    Bad = 2,
    /// It could not be carried out.
    NotCarriedOut = 3,
}

/// The table of `fluffle --help`, of the manual page, and of docs/OPERATIONS.md, which a test compares with this.
pub(crate) const CODES: &str = "\
Exit codes, of all subcommands:
  0  done, and nothing is left to do
  1  done, and something is left to look at: a warning, changes that `topology apply` would make, letters that stay,
     a message of which nothing is known, a rest after Ctrl-C
  2  something is bad: an error that `doctor` found, a topology that has to be settled by hand, a message that was not
     confirmed or not routed, a guarantee that `bench` saw broken, a place that `explain` could not look at
  3  it could not be carried out: the arguments, a file, or the way to the broker; standard error says why";

impl Exit {
    /// The number that a shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The exit code of `subcommand`. Prints why it failed, if it did.
pub(crate) fn exit_code(subcommand: &str, result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            let lines: Vec<_> = failure.to_string().lines().map(safe).collect();
            eprintln!("fluffle {subcommand}: {}", lines.join("\n"));
            Exit::NotCarriedOut.into()
        }
    }
}

/// Prints what is wrong with the command line, or the help that was asked for.
pub(crate) fn of_usage(error: &clap::Error) -> ExitCode {
    // Fails only if there is no place to print to.
    let _ = error.print();
    if error.use_stderr() { Exit::NotCarriedOut.into() } else { Exit::Clean.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_guide_has_the_table_of_the_help() {
        let guide = include_str!("../../../../docs/OPERATIONS.md");
        assert!(guide.contains(CODES), "docs/OPERATIONS.md has to quote:\n{CODES}");
    }
}
