//! The arguments of `fluffle tail`.

use std::{str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use lapin::types::AMQPValue;

use crate::{
    common::{broker::BrokerArgs, output::OutputArgs},
    decode::descriptors::DescriptorArgs,
    tail::filter::Filter,
    units,
};

const EXAMPLES: &str = "\
Examples:
  fluffle tail quakes                                      # all that passes the exchange quakes
  fluffle tail quakes --key 'quake.major.#' --proto quake.proto
  fluffle tail orders --api http://localhost:15672         # what the queue orders is sent, by its bindings
  fluffle tail quakes --filter 'header.tenant=eu' --filter 'body~Castaic' --for 30s
  fluffle tail history --from first --count 10             # a stream: read, never taken
  fluffle tail orders --take --count 1                     # takes one message out of the queue
  fluffle tail quakes --json --raw > quakes.ndjson         # `fluffle publish --ndjson` publishes it again

Exit codes: 0, also after Ctrl-C and --for; 3 if the messages could not be watched.";

/// `fluffle tail`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TailArgs {
    /// The exchange or queue
    #[arg(value_name = "QUEUE|EXCHANGE")]
    pub(crate) source: String,
    /// Which of the two it is, if both have this name
    #[arg(long = "as", value_name = "KIND", value_enum)]
    pub(crate) kind: Option<Kind>,
    /// Only messages of an exchange with this routing key; on a topic exchange a pattern; may be repeated. Default: `#`
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Vec<String>,
    /// Take the messages out of the queue: each is acknowledged after it is shown, and no consumer gets it
    #[arg(long, conflicts_with_all = ["key", "from", "filter"])]
    pub(crate) take: bool,
    /// Read a stream from here, without taking: first, last, next, an offset, or a time ago such as 10m
    #[arg(long, value_name = "WHERE", conflicts_with = "key")]
    pub(crate) from: Option<From>,
    /// Only messages for which this holds: FIELD=VALUE or FIELD~TEXT (contains). Fields: key, exchange, type, id, body,
    /// header.NAME, and the properties by their AMQP names. May be repeated: all must hold
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Vec<Filter>,
    /// End after this many messages were shown; a batch is one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = units::some_time)]
    pub(crate) time: Option<Duration>,
    /// The Protobuf type of messages that name none
    #[arg(long = "type", value_name = "TYPE", help_heading = "Types")]
    pub(crate) type_name: Option<String>,
    /// Show each body as it came, too: in JSON as base64 (body_base64), else as hex
    #[arg(long)]
    pub(crate) raw: bool,
    /// Show at most this much of each value in text; --json shows all
    #[arg(long, value_name = "BYTES", default_value = "4KiB")]
    pub(crate) most: units::Bytes,
    #[command(flatten)]
    pub(crate) types: DescriptorArgs,
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

/// Where reading of a stream begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct From(pub(crate) AMQPValue);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "first" | "last" | "next") {
            return Ok(Self(AMQPValue::LongString(text.into())));
        }
        if let Ok(offset) = text.parse::<i64>() {
            return match offset {
                0.. => Ok(Self(AMQPValue::LongLongInt(offset))),
                _ => Err("an offset is 0 or above".to_owned()),
            };
        }
        let at = match humantime::parse_rfc3339_weak(text) {
            Ok(at) => Some(at),
            Err(_) => {
                let wrong = || format!("`{text}` is not first, last, next, an offset, a time ago (10m) or a date");
                let ago = units::time(text).map_err(|_| wrong())?;
                std::time::SystemTime::now().checked_sub(ago)
            }
        };
        let since = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let since = since.ok_or_else(|| format!("`{text}` is before 1970"))?;
        Ok(Self(AMQPValue::Timestamp(since.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_from_a_word_an_offset_or_a_time() {
        let from = |text: &str| text.parse::<From>().map(|from| from.0);
        assert_eq!(from("first"), Ok(AMQPValue::LongString("first".into())));
        assert_eq!(from("42"), Ok(AMQPValue::LongLongInt(42)));
        assert_eq!(from("1970-01-01T00:01:40Z"), Ok(AMQPValue::Timestamp(100)));
        assert!(matches!(from("10m"), Ok(AMQPValue::Timestamp(at)) if at > 1_600_000_000));
        for wrong in ["-1", "yesterday", "", "2000y"] {
            assert!(from(wrong).is_err(), "{wrong}");
        }
    }
}
