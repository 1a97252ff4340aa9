//! The arguments of `fluffle plan`.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{bench::args::Rate, common::output::OutputArgs, units::Bytes};

const EXAMPLES: &str = "\
Examples:
  fluffle plan --rate 20000 --size 100                              singles, in replicated quorum queues
  fluffle plan --rate 1000000 --size 100 --batch 64KiB --cores 16   the same in batches
  fluffle plan --rate 50000 --size 2KiB --queue-type stream --json

The answer comes from a table that is measured on one small machine (docs/SCALING.md) and says how sure it is. Measure
your own broker with `fluffle bench` before you buy machines.";

/// `fluffle plan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {
    /// Messages per second, published and consumed once each
    #[arg(long, value_name = "MSG/S")]
    pub(crate) rate: Rate,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "100")]
    pub(crate) size: Bytes,
    /// Gathers messages into batches of this size
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "64KiB")]
    pub(crate) batch: Option<Bytes>,
    /// Type of the queues
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = QueueType::Quorum)]
    pub(crate) queue_type: QueueType,
    /// Nodes of the cluster, to be told whether they are enough [default: as many as are needed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) nodes: Option<u32>,
    /// Copies of each message; a classic queue has one [default: 3, or 1 with --nodes below 3]
    #[arg(long, value_name = "N", value_parser = ["1", "3"])]
    pub(crate) replicas: Option<String>,
    /// Cores of a node
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) cores: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Types of queues in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueType {
    Classic,
    Quorum,
    Stream,
}

impl QueueType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}
