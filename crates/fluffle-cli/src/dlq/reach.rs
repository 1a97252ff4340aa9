//! How far a command looks into a queue.

use clap::Args;

/// How far to look.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Reach")]
pub(crate) struct Reach {
    /// Look at no more than so many letters, oldest first; 1000 for list, show and groups, else all
    #[arg(long, value_name = "N")]
    pub(crate) most: Option<u64>,
    /// The delivery limit of the queue, 0 for none. Before RabbitMQ 4.3 a quorum queue counts each look at a
    /// letter, and drops or dead-letters it past its limit, so that looking ends at half of it. Without this: what
    /// --api tells (without a limit of its own a queue has 20 from RabbitMQ 4.0 on, and none before), else 20
    #[arg(long, value_name = "N")]
    pub(crate) delivery_limit: Option<u64>,
}
