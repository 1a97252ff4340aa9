//! `fluffle completions` and `fluffle man`.

use std::{io, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::common::{exit::Exit, failure::Failure};

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
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Exit, Failure> {
    clap_complete::generate(args.shell, &mut command, "fluffle", &mut io::stdout());
    Ok(Exit::Clean)
}

/// `command` is the whole command line.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<Exit, Failure> {
    match clap_mangen::generate_to(command, &args.folder) {
        Ok(()) => Ok(Exit::Clean),
        Err(error) => Err(Failure::new(format!("cannot write to {}: {error}", args.folder.display()))),
    }
}
