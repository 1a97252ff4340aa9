//! The arguments of the command line: which subcommands there are.

use clap::{Parser, Subcommand};

use crate::{
    bench::args::BenchArgs, explain::args::ExplainArgs, publish::args::PublishArgs, shell, tail::args::TailArgs,
};

/// Tools for services on RabbitMQ, whether or not they are written with Fluffle
#[derive(Clone, Debug, Parser)]
#[command(name = "fluffle", bin_name = "fluffle", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts load on a broker, through the whole framework, and measures it
    Bench(Box<BenchArgs>),
    /// Tells what can be known of one message, and what cannot
    Explain(Box<ExplainArgs>),
    /// Publishes messages, and tells which were confirmed and routed
    Publish(Box<PublishArgs>),
    /// Shows a copy of what passes an exchange or a queue, decoded
    Tail(Box<TailArgs>),
    /// Prints completions for a shell
    Completions(shell::CompletionsArgs),
    /// Writes a manual page for each subcommand
    Man(shell::ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
