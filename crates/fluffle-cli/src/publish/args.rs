//! The arguments of `fluffle publish`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    decode::descriptors::DescriptorArgs,
    units,
};

const EXAMPLES: &str = "\
Examples:
  fluffle publish 'hello' --queue greetings
  fluffle publish --exchange quakes --key quake.major --type usgs.v1.Quake --proto quake.proto '{\"id\":\"ci1\"}'
  fluffle publish --file order.json --json-body --exchange shop --key order.placed --header tenant=eu
  fluffle publish --ndjson quakes.ndjson --rate 500 --gzip auto --batch 100
  fluffle tail quakes --json --raw --count 10 | fluffle publish --ndjson - --queue copies

NDJSON: one message a line, as `fluffle tail --json --raw` prints them. All keys may be left out but the body:
  {\"exchange\": \"shop\", \"key\": \"order.placed\", \"properties\": {\"priority\": 3, \"message_id\": \"…\"},
   \"headers\": {\"tenant\": \"eu\"}, \"json\": {…}}
The body is one of \"json\" (any JSON; with a known type, Protobuf), \"body\" (text) or \"body_base64\".

Exit codes: 0 all were confirmed and routed; 1 ended by Ctrl-C, and all that was sent is confirmed and routed; 2 some
were not confirmed, or were routed to no queue; 3 it could not be carried out, or the input is wrong (what was read
before is published).";

/// `fluffle publish`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("input").args(["body", "file", "ndjson"]))]
pub(crate) struct PublishArgs {
    /// The body of one message. Without it, --file and --ndjson: standard input
    pub(crate) body: Option<String>,
    /// A file with the body of one message
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A file with one message a line, in JSON; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "repeat")]
    pub(crate) ndjson: Option<PathBuf>,
    /// Start behind this many lines of --ndjson: to go on where Ctrl-C has ended
    #[arg(long, value_name = "LINES", default_value_t = 0, requires = "ndjson")]
    pub(crate) skip: u64,
    /// Publish the message this many times, each with an id of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) repeat: u64,

    /// The exchange. With --ndjson, instead of that of each line
    #[arg(long, value_name = "NAME", help_heading = "Address", conflicts_with = "queue")]
    pub(crate) exchange: Option<String>,
    /// The queue, by the default exchange
    #[arg(long, value_name = "NAME", help_heading = "Address", conflicts_with = "key")]
    pub(crate) queue: Option<String>,
    /// The routing key. With --ndjson, instead of that of each line
    #[arg(long, value_name = "KEY", help_heading = "Address")]
    pub(crate) key: Option<String>,
    /// Let the broker drop a message that no queue takes, as the exchange's other publishers may
    #[arg(long, help_heading = "Address")]
    pub(crate) not_mandatory: bool,

    /// The type of the message; with --proto or --descriptors, the body is its ProtoJSON
    #[arg(long = "type", value_name = "TYPE", help_heading = "Properties")]
    pub(crate) type_name: Option<String>,
    /// The body is JSON: it is checked, and labelled so
    #[arg(long, help_heading = "Properties")]
    pub(crate) json_body: bool,
    /// The content type
    #[arg(long, value_name = "TYPE", help_heading = "Properties")]
    pub(crate) content_type: Option<String>,
    /// The message id, instead of a new UUIDv7
    #[arg(long, value_name = "ID", help_heading = "Properties", conflicts_with_all = ["ndjson", "repeat"])]
    pub(crate) id: Option<String>,
    /// The correlation id
    #[arg(long, value_name = "ID", help_heading = "Properties")]
    pub(crate) correlation_id: Option<String>,
    /// The queue for answers
    #[arg(long, value_name = "QUEUE", help_heading = "Properties")]
    pub(crate) reply_to: Option<String>,
    /// The time to live
    #[arg(long, value_name = "TIME", value_parser = units::time, help_heading = "Properties")]
    pub(crate) expiration: Option<Duration>,
    /// The priority
    #[arg(long, value_name = "N", help_heading = "Properties")]
    pub(crate) priority: Option<u8>,
    /// Not kept on disk (delivery mode 1)
    #[arg(long, help_heading = "Properties")]
    pub(crate) transient: bool,
    /// A header, text unless the value is JSON other than text: --header tenant=eu --header n=7; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = header, help_heading = "Properties")]
    pub(crate) header: Vec<(String, serde_json::Value)>,

    /// Messages a second at most
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Sending")]
    pub(crate) rate: Option<f64>,
    /// Compress bodies: from 1 KiB up if it pays (auto), or all (on)
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Compress::Off, help_heading = "Sending")]
    pub(crate) gzip: Compress,
    /// Put up to this many neighbours with one address and media type, and without properties of their own, into one
    /// body
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Sending")]
    pub(crate) batch: Option<u32>,

    #[command(flatten)]
    pub(crate) types: DescriptorArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// When bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// Never.
    Off,
    /// Bodies from 1 KiB up, if they get a tenth smaller.
    Auto,
    /// All bodies.
    On,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is no number of messages a second from 0.001 to 1e9"))
}

fn header(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}
