//! The arguments of `fluffle topology`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    topology::source::Source,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  nothing is to be done, or all of it has been done
  1  the plan has changes that `apply` makes
  2  something is to be settled by hand first; `apply` has changed nothing
  3  it could not be carried out";

/// Compares exchanges, queues and bindings with a broker's, creates what is missing, and draws them.
///
/// Without the management API (--api), the broker is asked over AMQP. AMQP compares by declaring again, which changes
/// nothing but the time of last use of a queue with x-expires, and tells nothing about bindings.
#[derive(Clone, Debug, Args)]
pub(crate) struct TopologyArgs {
    #[command(subcommand)]
    pub(crate) command: TopologyCommand,
}

impl TopologyArgs {
    /// The subcommand's name, for errors.
    pub(crate) fn name(&self) -> &'static str {
        match self.command {
            TopologyCommand::Plan(_) => "topology plan",
            TopologyCommand::Apply(_) => "topology apply",
            TopologyCommand::Export(_) => "topology export",
            TopologyCommand::Graph(_) => "topology graph",
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TopologyCommand {
    /// Says what differs between a file and a broker, and what to do about it; changes nothing
    #[command(after_help = format!("\
Examples:
  fluffle topology plan topology.toml
  fluffle topology plan topology.toml --api http://localhost:15672 --json > plan.json
  fluffle topology plan definitions.json --vhost orders --url amqp://ops@rabbit/orders

{EXIT_CODES}"))]
    Plan(PlanArgs),
    /// Creates what a plan says is missing; deletes nothing, and may be repeated
    #[command(after_help = format!("\
Examples:
  fluffle topology apply topology.toml                          shows the plan and asks
  fluffle topology apply topology.toml --plan plan.json --yes   stops if the broker has changed since that plan

{EXIT_CODES}"))]
    Apply(ApplyArgs),
    /// Writes a broker's exchanges, queues and bindings as TOML
    #[command(after_help = "\
Examples:
  fluffle topology export --api http://localhost:15672 > topology.toml
  fluffle topology export --definitions definitions.json --vhost orders

Exit codes: 0 written, whatever could not be written as TOML is in comments; 3 it could not be carried out")]
    Export(ExportArgs),
    /// Draws exchanges, queues, bindings, and the ways of retries and dead letters
    #[command(after_help = "\
Examples:
  fluffle topology graph topology.toml --output topology.svg
  fluffle topology graph definitions.json --vhost orders --format dot | dot -Tpng > topology.png
  fluffle topology graph --api http://localhost:15672 --output broker.svg     what the broker has

Exit codes: 0 drawn; 3 it could not be carried out")]
    Graph(GraphArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) source: Source,
    /// A plan that was written with `plan --json`: apply nothing else, and stop if the broker has changed since
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Do not ask; needed without a terminal
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
#[command(mut_arg("url", |url| url.required(false)))]
pub(crate) struct ExportArgs {
    /// A file with RabbitMQ's definitions, instead of a broker
    #[arg(long, value_name = "FILE")]
    pub(crate) definitions: Option<PathBuf>,
    /// Of a file with definitions of several virtual hosts, the one to read
    #[arg(long, value_name = "NAME", requires = "definitions")]
    pub(crate) vhost: Option<String>,
    /// Write here instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) broker: Option<BrokerArgs>,
}

#[derive(Clone, Debug, Args)]
#[command(mut_arg("url", |url| url.required(false)))]
pub(crate) struct GraphArgs {
    /// The topology: TOML, or definitions of RabbitMQ if the name ends in .json; without it, what the broker has
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Of a file with definitions of several virtual hosts, the one to read
    #[arg(long, value_name = "NAME", requires = "file")]
    pub(crate) vhost: Option<String>,
    /// The format; without it, SVG if the name of the output ends in .svg, else DOT
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write here instead of to standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) broker: Option<BrokerArgs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Graphviz's language
    Dot,
    /// A drawing that a browser shows
    Svg,
}
