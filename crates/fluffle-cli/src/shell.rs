//! `fluffle completions` and `fluffle man`.

use std::{io, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::common::failure::Failure;

/// `fluffle completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  fluffle completions bash > /etc/bash_completion.d/fluffle")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// `fluffle man`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  fluffle man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// An existing folder for the pages
    folder: PathBuf,
}

/// `command` is the whole command line.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), Failure> {
    clap_complete::generate(args.shell, &mut command, "fluffle", &mut io::stdout());
    Ok(())
}

/// `command` is the whole command line.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<(), Failure> {
    clap_mangen::generate_to(command, &args.folder)
        .map_err(|error| Failure::new(format!("cannot write to {}: {error}", args.folder.display())))
}
