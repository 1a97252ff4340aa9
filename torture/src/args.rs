//! The command line.

use std::{ops::RangeInclusive, path::PathBuf, str::FromStr};

use clap::{Parser, Subcommand, ValueEnum};

/// Runs publishers and consumers in a storm of faults, and checks every message against a model.
#[derive(Clone, Debug, Parser)]
#[command(name = "torture", bin_name = "cargo xtask torture")]
pub struct Args {
    /// Broker to torture
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    pub broker: Kind,
    /// Seed of all randomness [default: a different one each time]
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Many seeds, one after the other: `1..200`, or `200` for the same
    #[arg(long)]
    pub seeds: Option<Seeds>,
    /// Duration of the storm, in seconds
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Most messages of each publisher in one life [default: as many as the time allows]
    #[arg(long)]
    pub messages: Option<u64>,
    /// Seconds in which everything must drain after all faults are healed [default: 120]
    #[arg(long)]
    pub drain_within: Option<u64>,
    /// Subcommands that only the torture itself uses
    #[command(subcommand)]
    pub inner: Option<Inner>,
}

/// The kind of broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The embedded broker, with every kind of fault.
    Embedded,
    /// A private RabbitMQ node, with faults of the network, the node and the connections.
    Rabbitmq,
    /// Three private RabbitMQ nodes joined to a cluster, with moving leaders, rolling restarts and partitions as well.
    Cluster,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Rabbitmq => "rabbitmq",
            Self::Cluster => "cluster",
        }
    }
}

/// Subcommands that only the torture itself uses.
#[derive(Clone, Debug, Subcommand)]
pub enum Inner {
    /// The process that is killed. It runs until its standard input ends.
    #[command(hide = true)]
    Child(ChildArgs),
}

/// Arguments of the process that is killed.
#[derive(Clone, Debug, clap::Args)]
pub struct ChildArgs {
    /// URL of the broker.
    #[arg(long)]
    pub url: String,
    /// Folder of its journals.
    #[arg(long)]
    pub journals: PathBuf,
    /// Seed of the script.
    #[arg(long)]
    pub script: u64,
    /// Name of this life in the log of facts, which is its standard output, and prefix of its publishers' names.
    #[arg(long)]
    pub name: String,
    /// How many more milliseconds it publishes.
    #[arg(long)]
    pub publish_for: u64,
    /// Most messages of each publisher.
    #[arg(long)]
    pub messages: u64,
    /// Average pause between two messages of a publisher, in milliseconds.
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
