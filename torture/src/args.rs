//! What can be asked for on the command line.

use std::{ops::RangeInclusive, path::PathBuf, str::FromStr};

use clap::{Parser, Subcommand, ValueEnum};

/// Publishers, consumers and a storm of faults, held against a model of every message.
#[derive(Clone, Debug, Parser)]
#[command(name = "torture", bin_name = "cargo xtask torture")]
pub struct Args {
    /// Which broker to torture
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    pub broker: Kind,
    /// What all chance comes from [default: another one each time]
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Many seeds, one after the other: `1..200`, or `200` for the same
    #[arg(long)]
    pub seeds: Option<Seeds>,
    /// How long the storm lasts
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// The most messages of each publisher in one life [default: as many as the time allows]
    #[arg(long)]
    pub messages: Option<u64>,
    /// How long everything may take to drain when all faults are healed, in seconds [default: 120]
    #[arg(long)]
    pub drain_within: Option<u64>,
    /// What only the torture itself asks for
    #[command(subcommand)]
    pub inner: Option<Inner>,
}

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The broker inside the process: every fault there is.
    Embedded,
    /// A private RabbitMQ node: faults of the transport, of the node and of connections.
    Rabbitmq,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Rabbitmq => "rabbitmq",
        }
    }
}

/// What only the torture itself asks for.
#[derive(Clone, Debug, Subcommand)]
pub enum Inner {
    /// The process that is killed: runs until its standard input ends.
    #[command(hide = true)]
    Child(ChildArgs),
}

/// What the process that is killed must know.
#[derive(Clone, Debug, clap::Args)]
pub struct ChildArgs {
    /// The broker.
    #[arg(long)]
    pub url: String,
    /// Where its journals are.
    #[arg(long)]
    pub journals: PathBuf,
    /// The seed of the script.
    #[arg(long)]
    pub script: u64,
    /// What this life is called in the log of facts, which is its standard output, and what its publishers' names begin with.
    #[arg(long)]
    pub name: String,
    /// For how many more milliseconds it publishes.
    #[arg(long)]
    pub publish_for: u64,
    /// The most messages of each publisher.
    #[arg(long)]
    pub messages: u64,
    /// The pause between two messages of a publisher, on average, in milliseconds.
    #[arg(long)]
    pub pause: u64,
}

/// A range of seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub RangeInclusive<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
            None => (1, number(text)?),
        };
        if first > last {
            return Err(format!("from {first} to {last} there are no seeds"));
        }
        Ok(Self(first..=last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_with_both_its_ends_or_a_number_of_them() {
        assert_eq!("3..5".parse(), Ok(Seeds(3..=5)));
        assert_eq!("3..=5".parse(), Ok(Seeds(3..=5)));
        assert_eq!("5".parse(), Ok(Seeds(1..=5)));
        for wrong in ["", "5..3", "a..b", "0"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }
}
