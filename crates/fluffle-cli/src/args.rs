//! The arguments of the command line: which subcommands there are.

use clap::{Parser, Subcommand};

use crate::{
    bench::args::BenchArgs, common::exit::CODES, dlq::args::DlqArgs, doctor::args::DoctorArgs,
    explain::args::ExplainArgs, new::NewArgs, plan::args::PlanArgs, publish::args::PublishArgs, shell,
    tail::args::TailArgs, top::args::TopArgs, topology::args::TopologyArgs,
};

/// Tools for services on RabbitMQ, whether or not they are written with Fluffle
#[derive(Clone, Debug, Parser)]
#[command(name = "fluffle", bin_name = "fluffle", version, max_term_width = 100, after_help = CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts load on a broker, through the whole framework, and measures it
    Bench(Box<BenchArgs>),
    /// Examines a broker, and says what is wrong and how to mend it
    Doctor(Box<DoctorArgs>),
    /// Looks at dead letters, puts them back, or discards them
    Dlq(Box<DlqArgs>),
    /// Compares exchanges, queues and bindings with a broker's, creates what is missing, and draws them
    Topology(Box<TopologyArgs>),
    /// Tells how many nodes and queues a load needs, from what was measured
    Plan(PlanArgs),
    /// Makes a folder with a service that runs: messages, a handler, a test, Dockerfile and CI
    New(NewArgs),
    /// Tells what can be known of one message, and what cannot
    Explain(Box<ExplainArgs>),
    /// Publishes messages, and tells which were confirmed and routed
    Publish(Box<PublishArgs>),
    /// Shows a copy of what passes an exchange or a queue, decoded
    Tail(Box<TailArgs>),
    /// Shows queues, and a service's tree, as they are now, again and again
    Top(Box<TopArgs>),
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
