//! The arguments of `fluffle top`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    top::{order::Key, pattern::Pattern},
    units,
};

const EXAMPLES: &str = "\
Examples:
  fluffle top --api http://localhost:15672                 # every queue of the virtual host, with rates
  fluffle top --api http://localhost:15672 --queue 'orders.*' --sort unacked
  fluffle top --queue orders --queue orders.dead           # over AMQP: ready and consumers; the rest shows as ?
  fluffle top --status http://localhost:9464               # the queues and the tree of a service of Fluffle
  fluffle top --api http://localhost:15672 --once          # one table, for a pipe or a log
  fluffle top --queue orders --json --count 10             # ten lines of JSON

Keys: q, Esc, Ctrl-C end; arrows, PgUp, PgDn, Home, End move; s sorts by the next column, r turns the order round;
/ filters by a part of the name; Tab moves to the service and back; ? shows the keys.

A ? stands for what cannot be known: rates, unacked messages and ages need --api. The age of the oldest message is
known on classic queues alone, and only if the publisher sets the property `timestamp`.

Exit codes: 0; 3 if the last look at the broker or the status page failed, or nothing could be shown.";

/// `fluffle top`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Only this queue; may be repeated. With --api a `*` stands for any text
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Vec<Pattern>,
    /// Sort by this column, the largest first; names from a to z
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t = Key::Ready)]
    pub(crate) sort: Key,
    /// The time between two looks. RabbitMQ counts rates anew every 5 s
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Look once, and print a table
    #[arg(long)]
    pub(crate) once: bool,
    /// Look this often, print a table or a line of JSON each time, and end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "once")]
    pub(crate) count: Option<u64>,
    /// The status page of a service of Fluffle, http://host:9464: its queues, tree and findings
    #[arg(long, value_name = "URL", help_heading = "Service")]
    pub(crate) status: Option<String>,
    /// A file with the token of the status page, if it asks for one
    #[arg(long, value_name = "FILE", help_heading = "Service", env = "FLUFFLE_STATUS_TOKEN_FILE", requires = "status")]
    pub(crate) status_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    /// With --json: one line for each look, until --count or Ctrl-C
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl TopArgs {
    /// How many looks are printed instead of the view; `Some(None)`: until the end. `None` is the view.
    pub(crate) fn prints(&self) -> Option<Option<u64>> {
        match (self.once, self.count) {
            (true, _) => Some(Some(1)),
            (false, Some(count)) => Some(Some(count)),
            (false, None) => self.output.json.then_some(None),
        }
    }
}

/// At least 100 ms: each look asks the broker for every queue.
fn interval(text: &str) -> Result<Duration, String> {
    match units::time(text)? {
        time if time < Duration::from_millis(100) => Err("the interval is 100ms or more".to_owned()),
        time => Ok(time),
    }
}
