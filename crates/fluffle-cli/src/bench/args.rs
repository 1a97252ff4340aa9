//! The arguments of `fluffle bench`.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use fluffle::{
    amqp::ArgumentValue,
    prelude::{Batching, Confirms, Gzip},
    wire::Level,
};

use crate::units::{self, Bytes, Sizes};

const EXAMPLES: &str = "\
Examples:
  fluffle bench                                      as fast as possible, on an embedded broker
  AMQP_URL=amqp://guest:guest@rabbit fluffle bench   the same on your own broker
  fluffle bench --rate 2000 --size 100               open loop: latency at 2,000 a second
  fluffle bench --queue-type quorum --confirm each   the cost of one durable message at a time
  fluffle bench --queues 4 --consumers 8 --time 1m   eight handlers on four queues
  fluffle bench --guarantees --url amqp://rabbit     what each guarantee costs on that broker
  fluffle bench --ordered-by 1000 --consumers 4      four handlers, and the order of each key is kept
  fluffle bench --size 100 --batch --whole-batches   small messages in batches of 64 KiB
  fluffle bench --payload file:records.jsonl --batch --gzip auto --html report.html
  fluffle bench --count 100000 --json | jq .end_to_end.p99_us

Exit codes:
  0  every guarantee was kept
  1  --guarantees was interrupted
  2  a message was lost or damaged, or was handled in a way that the guarantee forbids
  3  the run could not be carried out";

const ABOUT: &str = "\
Puts load on a broker, through the whole framework, and measures it.

Producers publish to queues, and handler actors consume them, all in this process. Every message
carries its producer, its number and the time at which it was due: loss, duplicates, order and
content are verified. Latency counts from the time at which a message should have been sent, even
if the generator was delayed.";

/// The settings that `--guarantees` makes itself, line by line.
const FIXED: [&str; 16] = [
    "queues",
    "queue_type",
    "durable",
    "transient",
    "producers",
    "rate",
    "in_flight",
    "confirm",
    "batch",
    "consumers",
    "ack",
    "ordered_by",
    "lanes",
    "whole_batches",
    "count",
    "html",
];

/// `fluffle bench`.
#[derive(Clone, Debug, Args)]
#[command(help_template = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}")]
#[command(before_help = ABOUT, after_help = EXAMPLES, disable_help_flag = true)]
pub(crate) struct BenchArgs {
    /// The broker, amqp://user:password@host/vhost [default: $AMQP_URL, else a broker embedded in this process]
    #[arg(long, value_name = "URL", help_heading = "Broker")]
    pub(crate) url: Option<String>,
    /// How long to wait until the broker answers and everything is declared
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::some_time, help_heading = "Broker")]
    pub(crate) connect_within: Duration,
    /// Number of queues; each producer publishes to all of them in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000),
          help_heading = "Broker")]
    pub(crate) queues: u32,
    /// Type of the queues; they have names of their own and expire ten minutes after their last use
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = QueueType::Classic, help_heading = "Broker")]
    pub(crate) queue_type: QueueType,
    /// An argument of the queues, may be repeated: x-max-length=1000
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Broker")]
    pub(crate) queue_arg: Vec<QueueArgument>,
    /// Durable queues, persistent messages [the default]
    #[arg(long, help_heading = "Broker")]
    pub(crate) durable: bool,
    /// Transient queues and messages, which a restart of the broker deletes
    #[arg(long, conflicts_with = "durable", help_heading = "Broker")]
    pub(crate) transient: bool,

    /// Number of publishers, each with a channel of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000),
          help_heading = "Publishing")]
    pub(crate) producers: u32,
    /// Messages per second of all producers together: an open loop, whose latency counts from the intended time
    /// [default: a closed loop, as fast as confirms arrive]
    #[arg(long, value_name = "MSG/S", help_heading = "Publishing")]
    pub(crate) rate: Option<Rate>,
    /// Most messages published and not handled: producers wait for handlers, so that the queues stay short [default: no
    /// limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000),
          conflicts_with = "rate", help_heading = "Publishing")]
    pub(crate) in_flight: Option<u64>,
    /// How publishers wait for confirms: `window:N` (each producer has at most N messages unconfirmed; with --batch, N
    /// batches), `each` (one at a time), `off` [default: window:1024; window:64 with --batch]
    #[arg(long, value_name = "MODE", help_heading = "Publishing")]
    pub(crate) confirm: Option<Confirm>,
    /// Gathers messages into batches: BYTES[,LINGER[,ITEMS]]. A batch is sent when it has BYTES bytes or ITEMS
    /// messages, or when its first message has waited for LINGER [default when given: 64KiB,5ms,10000]
    #[arg(long, value_name = "BOUNDS", num_args = 0..=1, default_missing_value = "64KiB", help_heading = "Publishing")]
    pub(crate) batch: Option<Batch>,
    /// gzip of bodies: `off`, `auto` (if it makes a body a tenth smaller), or a level from 1 to 9
    #[arg(long, value_name = "MODE", default_value = "off", help_heading = "Publishing")]
    pub(crate) gzip: GzipMode,

    /// Number of handler actors, distributed over the queues; 0 only publishes [default: one for each queue]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000), help_heading = "Consuming")]
    pub(crate) consumers: Option<u32>,
    /// Unacknowledged deliveries of one queue; a batch counts as one
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..),
          help_heading = "Consuming")]
    pub(crate) prefetch: u16,
    /// The guarantee: acked when handled, acked on receipt, or acked when handled and remembered on disk
    #[arg(long, visible_alias = "guarantee", value_name = "MODE", value_enum, default_value_t = Ack::AtLeastOnce,
          help_heading = "Consuming")]
    pub(crate) ack: Ack,

    /// Keeps the order of the messages of each of KEYS keys, and verifies it, while handlers work on different keys in
    /// parallel [default with it: one handler per core for each queue]
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..=100_000),
          conflicts_with_all = ["lanes", "whole_batches"], help_heading = "Consuming")]
    pub(crate) ordered_by: Option<u32>,
    /// Channels of each consumer, with handlers of their own; the order is lost. A publisher has as many, but sends all
    /// messages to one queue on one of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64),
          help_heading = "Consuming")]
    pub(crate) lanes: u32,
    /// Handlers get each batch as a whole, instead of its messages one by one
    #[arg(long, help_heading = "Consuming")]
    pub(crate) whole_batches: bool,

    /// Size of a message before gzip: `1000`, or a range, `100-2KiB`; at least 30 bytes, which the generator needs
    #[arg(long, value_name = "BYTES", default_value = "1000", help_heading = "Messages")]
    pub(crate) size: Sizes,
    /// Content of the messages: `random`, `compressible` (text, about 4:1), or `file:PATH`, one message for each line
    #[arg(long, value_name = "WHAT", default_value = "random", help_heading = "Messages")]
    pub(crate) payload: PayloadSource,
    /// Seed of random payloads and sizes: the same seed gives the same messages
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Messages")]
    pub(crate) seed: u64,

    /// How long to measure [default: 8s; 2s for each line of --guarantees]
    #[arg(long, value_name = "TIME", value_parser = units::some_time, help_heading = "Duration")]
    pub(crate) time: Option<Duration>,
    /// Measure this many messages instead
    #[arg(long, value_name = "N", conflicts_with = "time", value_parser = clap::value_parser!(u64).range(1..),
          help_heading = "Duration")]
    pub(crate) count: Option<u64>,
    /// How long the load runs before the measurement; it is verified but not measured [default: 2s; none with --count;
    /// 500ms for each line of --guarantees]
    #[arg(long, value_name = "TIME", value_parser = units::time, help_heading = "Duration")]
    pub(crate) warm_up: Option<Duration>,
    /// At the end: if nothing arrives for this time, missing messages count as lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::some_time, help_heading = "Duration")]
    pub(crate) drain: Duration,

    /// Measure what each guarantee costs on this broker: one table, from unconfirmed messages to a quorum queue with
    /// ids remembered on disk. Deletes its queues at the end
    #[arg(long, conflicts_with_all = FIXED, help_heading = "Duration")]
    pub(crate) guarantees: bool,

    /// Print one JSON object instead of the report
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Also write the report as one HTML page with plots
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Do not print a line every second
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Print this help
    #[arg(short, long, action = ArgAction::HelpShort, help_heading = "Output")]
    help: Option<bool>,
}

/// The type of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueueType {
    Classic,
    Quorum,
}

/// When a delivery is acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(clippy::enum_variant_names, reason = "these are the usual terms")]
pub(crate) enum Ack {
    AtLeastOnce,
    AtMostOnce,
    EffectivelyOnce,
}

impl BenchArgs {
    /// How publishers wait for confirms.
    pub(crate) fn confirms(&self) -> Confirms {
        match (self.confirm, self.batch) {
            (Some(confirm), _) => confirm.0,
            (None, None) => Confirms::Window(1024),
            // Four megabytes at the default size. A larger window would only make messages wait.
            (None, Some(_)) => Confirms::Window(64),
        }
    }
}

impl Ack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::AtMostOnce => "at-most-once",
            Self::EffectivelyOnce => "effectively-once",
        }
    }
}

/// Messages per second, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(Self((rate * 1000.0).round() as u64)),
            _ => Err(format!(
                "`{text}` is not a rate: write messages per second, like 2000, or 0.5 for one every two seconds"
            )),
        }
    }
}

/// How publishers wait for confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirm(pub(crate) Confirms);

/// The largest window: how many messages may be unconfirmed at a time.
const WIDEST: usize = 1_000_000;

impl FromStr for Confirm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let window = text.strip_prefix("window:").unwrap_or(text);
        match (text, window.parse()) {
            ("each", _) => Ok(Self(Confirms::Each)),
            ("off", _) => Ok(Self(Confirms::Off)),
            (_, Ok(messages @ 1..=WIDEST)) => Ok(Self(Confirms::Window(messages))),
            (_, Ok(_)) => Err(format!("a window holds 1 to {WIDEST} messages; for no confirms at all write off")),
            _ => Err(format!("`{text}` is not a confirm mode: write window:N, each or off")),
        }
    }
}

/// How messages are gathered into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) linger: Duration,
    pub(crate) items: usize,
}

impl Batch {
    pub(crate) fn batching(self) -> Batching {
        Batching::default().max_bytes(self.bytes.0).linger(self.linger).max_items(self.items)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { bytes: Bytes(64 * 1024), linger: Duration::from_millis(5), items: MOST_ITEMS }
    }
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let bytes = parts.next().unwrap_or_default().parse::<Bytes>()?;
        let default = Self::default();
        let linger = parts.next().map(units::time).transpose()?.unwrap_or(default.linger);
        let items = parts.next().map_or(Ok(default.items), |items| items.parse().map_err(|_| items));
        match (items, parts.next()) {
            (Ok(items @ 1..=MOST_ITEMS), None) if bytes.0 > 0 => Ok(Self { bytes, linger, items }),
            _ => Err(format!("`{text}` is not a batch: write 64KiB, or 64KiB,5ms,1000 (1 to {MOST_ITEMS} messages)")),
        }
    }
}

/// The most messages that a receiver accepts in one batch.
const MOST_ITEMS: usize = 10_000;

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, linger, items } = self;
        write!(f, "{bytes}, {linger:?}, {} messages", units::count(*items as u64))
    }
}

/// Which bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GzipMode(pub(crate) Gzip);

impl fmt::Display for GzipMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Gzip::Off => f.write_str("off"),
            Gzip::Auto { .. } => f.write_str("auto"),
            Gzip::On(level) => write!(f, "{}", level.get()),
        }
    }
}

impl FromStr for GzipMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = |text: &str| text.parse().ok().and_then(|level| Level::new(level).ok());
        match text {
            "off" => Ok(Self(Gzip::Off)),
            "auto" => Ok(Self(Gzip::auto())),
            _ => match level(text) {
                Some(level) => Ok(Self(Gzip::On(level))),
                None => Err(format!(
                    "`{text}` is not a gzip mode: write off, auto, or a level from 1 (fastest) to 9 (smallest)"
                )),
            },
        }
    }
}

/// The content of the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayloadSource {
    Random,
    Compressible,
    File(PathBuf),
}

impl FromStr for PayloadSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("file:")) {
            ("random", _) => Ok(Self::Random),
            ("compressible", _) => Ok(Self::Compressible),
            (_, Some(path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(format!("`{text}` is not a payload: write random, compressible or file:PATH")),
        }
    }
}

/// One argument of the queues.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueueArgument {
    pub(crate) name: String,
    pub(crate) value: ArgumentValue,
}

impl FromStr for QueueArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("`{text}` is not a queue argument: write NAME=VALUE, like x-max-length=1000"))?;
        let value = match (value, value.parse::<i64>()) {
            (_, Ok(number)) => ArgumentValue::Int(number),
            ("true", _) => ArgumentValue::Bool(true),
            ("false", _) => ArgumentValue::Bool(false),
            _ => ArgumentValue::Text(value.to_owned()),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(arguments: &[&str]) -> Result<BenchArgs, clap::Error> {
        let all = ["fluffle", "bench"].iter().chain(arguments);
        Cli::try_parse_from(all).map(|cli| match cli.command {
            Command::Bench(args) => *args,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn without_arguments_everything_has_a_value() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.producers, args.queues, args.prefetch), (1, 1, 256));
        assert_eq!(args.confirms(), Confirms::Window(1024));
        assert_eq!(parse(&["--batch"]).unwrap().confirms(), Confirms::Window(64));
        assert_eq!((args.time, args.ordered_by, args.lanes), (None, None, 1));
    }

    #[test]
    fn modes_are_read_as_the_framework_has_them() {
        assert_eq!("each".parse(), Ok(Confirm(Confirms::Each)));
        assert_eq!("off".parse(), Ok(Confirm(Confirms::Off)));
        assert_eq!("window:7".parse(), Ok(Confirm(Confirms::Window(7))));
        assert!("window:0".parse::<Confirm>().unwrap_err().contains("1 to"));
        assert_eq!("auto".parse(), Ok(GzipMode(Gzip::auto())));
        assert_eq!("9".parse(), Ok(GzipMode(Gzip::On(Level::SMALLEST))));
        for mode in ["off", "auto", "6"] {
            assert_eq!(mode.parse::<GzipMode>().unwrap().to_string(), mode);
        }
        assert!("10".parse::<GzipMode>().is_err());
        assert_eq!("0.5".parse(), Ok(Rate(500)));
        assert!("0".parse::<Rate>().is_err() && "inf".parse::<Rate>().is_err());
        assert_eq!("file:a b".parse(), Ok(PayloadSource::File("a b".into())));
        assert!("file:".parse::<PayloadSource>().is_err());
        let argument = "x-max-length=5".parse::<QueueArgument>().unwrap();
        assert_eq!(argument.value, ArgumentValue::Int(5));
        assert!("x-max-length".parse::<QueueArgument>().is_err());
    }

    #[test]
    fn a_batch_has_up_to_three_bounds() {
        let batch = |bytes, millis, items| Batch { bytes: Bytes(bytes), linger: Duration::from_millis(millis), items };
        for (text, expected) in [
            ("1000", batch(1000, 5, 10_000)),
            ("8KiB,0s", batch(8192, 0, 10_000)),
            ("1MiB, 20ms, 7", batch(1 << 20, 20, 7)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(parse(&["--batch", "--json"]).unwrap().batch, Some(Batch::default()));
        for wrong in ["", "0", "1KiB,5", "1KiB,5ms,0", "1KiB,5ms,10001", "1KiB,5ms,7,8"] {
            assert!(wrong.parse::<Batch>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for arguments in [
            &["--time", "5s", "--count", "5"][..],
            &["--durable", "--transient"],
            &["--ordered-by", "7", "--lanes", "2"],
            &["--ordered-by", "7", "--batch", "--whole-batches"],
            &["--in-flight", "7", "--rate", "7"],
            &["--guarantees", "--confirm", "each"],
            &["--guarantees", "--lanes", "2"],
            &["--guarantees", "--ack", "at-most-once"],
        ] {
            assert_eq!(parse(arguments).unwrap_err().kind(), ErrorKind::ArgumentConflict, "{arguments:?}");
        }
        for arguments in [["--producers", "0"], ["--prefetch", "0"], ["--count", "0"], ["--time", "0s"]] {
            assert_eq!(parse(&arguments).unwrap_err().kind(), ErrorKind::ValueValidation, "{arguments:?}");
        }
    }
}
