//! The arguments of `fluffle dlq`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    dlq::{filter::FilterArgs, reach::Reach, replay::args::ReplayArgs},
};

/// `fluffle dlq`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  done
  1  done in part: letters were refused, the same failed again, or Ctrl-C ended it
  3  could not be done; the reason is on standard error

Nothing but `replay --go` and `discard --go` takes a letter out of its queue.")]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// One line for each letter: its cause, where it came from, how old it is
    #[command(after_help = "Example:\n  fluffle dlq list orders.dead --reason attempts-exhausted --older-than 1h")]
    List(LookArgs),
    /// All that a letter says: properties, headers, and the beginning of its body
    #[command(after_help = "Example:\n  fluffle dlq show orders.dead --id 0198a2f0-7d5c-7e6e-a1a3-3f4f5c6d7e8f")]
    Show(ShowArgs),
    /// How many letters have the same cause: reason, error without its numbers and ids, type, origin
    #[command(after_help = "Example:\n  fluffle dlq groups orders.dead")]
    Groups(LookArgs),
    /// Puts letters back into the queues they came from. Without --go it only tells what it would do
    Replay(Box<ReplayArgs>),
    /// Deletes letters, after each is in a file that is synced to disk. Without --go it only tells what it would do
    #[command(after_help = "\
Example:
  fluffle dlq discard orders.dead --group 5c1f09aa --export bad.ndjson
  fluffle dlq discard orders.dead --group 5c1f09aa --export bad.ndjson --go")]
    Discard(DiscardArgs),
    /// Writes letters to a file of JSON lines, which `replay --from-file` reads
    #[command(after_help = "Example:\n  fluffle dlq export orders.dead letters.ndjson --type shop.Order")]
    Export(ExportArgs),
}

/// The queue, which letters of it, and how far to look.
#[derive(Clone, Debug, Args)]
pub(crate) struct LookArgs {
    /// The dead-letter queue
    pub(crate) queue: String,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `fluffle dlq show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// Show so many of the letters that are wanted
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) count: u64,
    /// Show so many bytes of each body
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) body: usize,
}

/// `fluffle dlq export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// The file, which must not exist
    pub(crate) file: PathBuf,
}

/// `fluffle dlq discard`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DiscardArgs {
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// The file for the letters, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) export: PathBuf,
    /// Do it
    #[arg(long)]
    pub(crate) go: bool,
}
