//! `fluffle completions` and `fluffle man`.

use std::{io, path::PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, common::failure::Failure};

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

pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "fluffle", &mut io::stdout());
    Ok(())
}

pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), &args.folder)
        .map_err(|error| Failure::new(format!("cannot write to {}: {error}", args.folder.display())))
}
