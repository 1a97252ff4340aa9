//! The arguments of `fluffle doctor`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    units,
};

const AFTER_HELP: &str = "\
Examples:
  fluffle doctor --url amqp://app@broker/orders --api http://broker:15672
  fluffle doctor --queue orders --queue orders.dead      # without the management API: name the queues
  fluffle doctor --topology topology.toml --conf /etc/rabbitmq/rabbitmq.conf
  fluffle doctor --json | jq -r '.findings[] | [.level, .id, .entity] | @tsv'

Doctor changes nothing. It publishes a few messages to a queue of its own, which ends with its connection.

Exit codes:
  0  nothing to mend (advice does not count)
  1  warnings
  2  errors
  3  the examination could not be carried out: no connection to the broker, or arguments or a file that cannot be read";

/// Examines a broker, and says what is wrong and how to mend it
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// A topology, as TOML of the library: its queues and exchanges have to be there, and the plugins that it needs
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: Option<PathBuf>,
    /// The node's rabbitmq.conf, for settings that no API tells, such as consumer_timeout
    #[arg(long, value_name = "FILE")]
    pub(crate) conf: Option<PathBuf>,
    /// A queue that has to be there; can be repeated. Without the management API only these are looked at
    #[arg(long = "queue", value_name = "NAME")]
    pub(crate) queues: Vec<String>,
    /// The batch that a queue's consumer waits for; can be repeated. Its prefetch must be as large
    #[arg(long = "batch", value_name = "QUEUE=N", value_parser = batch)]
    pub(crate) batches: Vec<(String, u64)>,
    /// A queue with more messages than this has grown too long
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) depth: u64,
    /// A message that is older than this, by its timestamp, has waited too long
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = units::some_time)]
    pub(crate) age: Duration,
    /// A certificate that ends within this time is a warning; within a quarter of it, an error
    #[arg(long, value_name = "TIME", default_value = "30days", value_parser = units::some_time)]
    pub(crate) certificate: Duration,
}

fn batch(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("`{text}` is not a queue and a number, such as orders=500");
    let (queue, number) = text.rsplit_once('=').ok_or_else(wrong)?;
    Ok((queue.to_owned(), number.parse().map_err(|_| wrong())?))
}
