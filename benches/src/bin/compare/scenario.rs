//! What is compared, and on which terms: the same for every contestant.

use std::time::Duration;

use crate::contestants::Contestant;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// 100 bytes a message, as fast as it goes.
    Single,
    /// 64 KiB a message, as fast as it goes.
    Bytes,
    /// 100 bytes a message at 2,000 a second (open loop): how late each one is handled.
    Latency,
    /// 100 bytes, persistent, through a quorum queue.
    Durable,
    /// 100 bytes, written to a local journal before they are published.
    Journal,
}

/// The terms of one scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Of each body on the wire.
    pub(crate) payload_bytes: usize,
    /// Publisher confirms outstanding at most.
    pub(crate) window: usize,
    /// Deliveries unacknowledged at most.
    pub(crate) prefetch: u16,
    /// A quorum queue and persistent messages, or a classic queue and transient ones.
    pub(crate) durable: bool,
    /// Between two messages; without it, as fast as it goes.
    pub(crate) interval: Option<Duration>,
}

impl Terms {
    /// 2 is persistent.
    pub(crate) fn delivery_mode(&self) -> u8 {
        if self.durable { 2 } else { 1 }
    }
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Bytes => "bytes",
            Self::Latency => "latency",
            Self::Durable => "durable",
            Self::Journal => "journal",
        }
    }

    pub(crate) fn terms(self) -> Terms {
        let small = Terms { payload_bytes: 100, window: 1000, prefetch: 1000, durable: false, interval: None };
        match self {
            Self::Single | Self::Journal => small,
            // 64 bodies are 4 MiB under way, on either side.
            Self::Bytes => Terms { payload_bytes: 64 * 1024, window: 64, prefetch: 64, ..small },
            Self::Latency => Terms { interval: Some(Duration::from_micros(500)), ..small },
            Self::Durable => Terms { durable: true, ..small },
        }
    }

    pub(crate) fn contestants(self) -> Vec<Contestant> {
        use Contestant::{Amqprs, Fluffle, FluffleJournaled, LapinNaive, LapinTuned, Ruststream};
        match self {
            Self::Single | Self::Bytes | Self::Latency | Self::Durable => {
                vec![LapinNaive, LapinTuned, Amqprs, Ruststream, Fluffle]
            }
            Self::Journal => vec![LapinTuned, Fluffle, FluffleJournaled],
        }
    }

    /// In the round that is not counted, and that finds out how many messages a round shall have.
    pub(crate) fn first_round(self) -> u64 {
        match self {
            Self::Single | Self::Journal => 20_000,
            Self::Bytes | Self::Latency => 2_000,
            Self::Durable => 5_000,
        }
    }
}
