//! The arguments of `fluffle explain`.

use std::path::PathBuf;

use clap::Args;

use crate::common::{broker::BrokerArgs, output::OutputArgs};

const EXAMPLES: &str = "\
Examples:
  fluffle explain 01997b1c-… --queue orders.dead --queue orders.retry.5000
  fluffle explain 01997b1c-… --api http://localhost:15672       # every queue that is not empty and has no consumer
  fluffle explain 01997b1c-…/3 --journal orders.journal --outbox postgres://shop@db/shop --seen orders.seen

Looking at a queue takes up to --most of its messages and gives all back: consumers get them later, marked as
redelivered. On a quorum queue before RabbitMQ 4.3 each look counts as a delivery of each message that is looked at. A
look ends before a message is past half of the queue's delivery limit.

Exit codes: 0 something is known of the message; 1 nothing is; 2 a place could not be looked at;
3 it could not be carried out.";

/// `fluffle explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// The message's id; of one in a batch `<id of the batch>/<index>`
    pub(crate) id: String,
    /// Look at this queue, too; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Places")]
    pub(crate) queue: Vec<String>,
    /// Look at most at this many messages of a queue
    #[arg(long, value_name = "N", default_value_t = 1000, help_heading = "Places")]
    pub(crate) most: u32,
    /// The delivery limit of the quorum queues, 0 for none. Without this: what --api tells, else 20
    #[arg(long, value_name = "N", help_heading = "Places")]
    pub(crate) delivery_limit: Option<u64>,
    /// A journal of a publisher; may be repeated
    #[arg(long, value_name = "PATH", help_heading = "Places")]
    pub(crate) journal: Vec<PathBuf>,
    /// A database with an outbox table, and with ids of handled messages: sqlite://PATH or postgres://…; only read
    #[arg(long, value_name = "URL", env = "FLUFFLE_OUTBOX_URL", hide_env_values = true, help_heading = "Places")]
    pub(crate) outbox: Option<String>,
    /// A consumer's store of handled ids; may be repeated
    #[arg(long, value_name = "PATH", help_heading = "Places")]
    pub(crate) seen: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
