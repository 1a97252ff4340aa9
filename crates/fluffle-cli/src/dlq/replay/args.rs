//! The arguments of `fluffle dlq replay`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    dlq::{filter::FilterArgs, reach::Reach},
    units,
};

/// `fluffle dlq replay`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  fluffle dlq replay orders.dead --reason attempts-exhausted           what would be done
  fluffle dlq replay orders.dead --reason attempts-exhausted --go      a few first, then the rest
  fluffle dlq replay orders.dead --to orders.fixed --rate 50 --go
  fluffle dlq replay orders.dead --batch 1000 --go                     a million letters, faster
  fluffle dlq replay --from-file bad.ndjson --go

Each copy is confirmed and routed before its letter is acked, so that nothing is lost however the
replay ends. If it ended early, the same command goes on. It acks letters whose copies are in their
queues already, sends those again of which that is unknown (at most one batch, see --batch), and tells
how many messages may be there twice because of that.")]
pub(crate) struct ReplayArgs {
    /// The dead-letter queue
    #[arg(required_unless_present = "from_file", conflicts_with = "from_file")]
    pub(crate) queue: Option<String>,
    /// Letters from a file that `export` or `discard` wrote, instead of a queue. The file is not changed
    #[arg(long, value_name = "FILE")]
    pub(crate) from_file: Option<PathBuf>,
    /// Do it
    #[arg(long)]
    pub(crate) go: bool,
    /// The queue for all letters, instead of the one that each came from
    #[arg(long, value_name = "QUEUE")]
    pub(crate) to: Option<String>,
    /// No more than so many letters a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Letters that are sent at a time, 1,000 at most. More are faster; and so many may be there twice after a kill
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) batch: u64,
    /// Replay so many letters first, and wait whether they come back; 0: do not
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) canary: u64,
    /// How long to wait for them. It should be longer than all attempts of the consumer take
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = units::time)]
    pub(crate) canary_wait: Duration,
    /// Stop when so many letters have come back
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) stop_at: u64,
    /// The id of the replay, which each copy carries in the header x-fluffle-replay; a new one if it is not given
    #[arg(long, value_name = "ID")]
    pub(crate) replay_id: Option<String>,
    /// The file that keeps what was sent, so that the next run knows it if this one is killed; a file in
    /// $XDG_STATE_HOME/fluffle, or ~/.local/state/fluffle, that is named after the queue
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
