//! The scenarios, with settings that are the same for every contestant.

use std::time::Duration;

use crate::contestant::Contestant;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// 100 bytes per message, as fast as possible.
    Single,
    /// 64 KiB per message, as fast as possible.
    Bytes,
    /// 100 bytes per message, at 2,000 a second (open loop): the latency of each.
    Latency,
    /// 100 bytes, persistent, through a quorum queue.
    Durable,
    /// 100 bytes, written to a local journal before they are published.
    Journal,
    /// 100 bytes per message in batches of 64 KiB, compared with bodies of 64 KiB.
    Batch,
    /// 100 bytes per message in batches of 64 KiB: with a linger, and formed by themselves.
    Adaptive,
    /// A week of earthquakes in batches of 64 KiB, with gzip and without.
    Gzip,
}

/// The settings of one scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The size of each message.
    pub(crate) payload_bytes: usize,
    /// The most outstanding publisher confirms; with batches, those of batches.
    pub(crate) window: usize,
    /// The most unacknowledged deliveries; with batches, those of batches.
    pub(crate) prefetch: u16,
    /// A quorum queue and persistent messages, or a classic queue and transient ones.
    pub(crate) durable: bool,
    /// The interval between two messages; without it, as fast as possible.
    pub(crate) interval: Option<Duration>,
    /// Whether one body holds many messages.
    pub(crate) batched: bool,
    /// Whether messages contain records, of whatever size, instead of arbitrary bytes.
    pub(crate) records: bool,
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
            Self::Batch => "batch",
            Self::Adaptive => "adaptive",
            Self::Gzip => "gzip",
        }
    }

    /// The settings of every contestant except [`Contestant::LapinTuned`] in scenarios with batches, which shows the
    /// cost of the same bytes in one body.
    pub(crate) fn terms(self) -> Terms {
        let small = Terms {
            payload_bytes: 100,
            window: 1000,
            prefetch: 1000,
            durable: false,
            interval: None,
            batched: false,
            records: false,
        };
        match self {
            Self::Single | Self::Journal => small,
            // 64 bodies are 4 MiB in flight on each side.
            Self::Bytes => Terms { payload_bytes: 64 * 1024, window: 64, prefetch: 64, ..small },
            Self::Latency => Terms { interval: Some(Duration::from_micros(500)), ..small },
            Self::Durable => Terms { durable: true, ..small },
            Self::Batch | Self::Adaptive => Terms { window: 64, prefetch: 64, batched: true, ..small },
            Self::Gzip => Terms { window: 64, prefetch: 64, batched: true, records: true, ..small },
        }
    }

    pub(crate) fn terms_for(self, contestant: Contestant) -> Terms {
        match (self, contestant) {
            (Self::Batch | Self::Adaptive, Contestant::LapinTuned) => Self::Bytes.terms(),
            _ => self.terms(),
        }
    }

    pub(crate) fn contestants(self) -> Vec<Contestant> {
        use Contestant::{
            Amqprs, Fluffle, FluffleAdaptive, FluffleJournaled, FluffleUncompressed, LapinNaive, LapinTuned, Ruststream,
        };
        match self {
            Self::Single | Self::Bytes | Self::Latency | Self::Durable => {
                vec![LapinNaive, LapinTuned, Amqprs, Ruststream, Fluffle]
            }
            Self::Journal => vec![LapinTuned, Fluffle, FluffleJournaled],
            Self::Batch => vec![LapinTuned, Fluffle],
            Self::Adaptive => vec![LapinTuned, Fluffle, FluffleAdaptive],
            Self::Gzip => vec![FluffleUncompressed, Fluffle],
        }
    }

    /// The contestants that take part only if they are named.
    pub(crate) fn guests(self) -> Vec<Contestant> {
        use Contestant::{FluffleAdaptive, FluffleMetrics, FluffleOnIo, FluffleTraces, LapinLabelled};
        match self {
            Self::Single | Self::Latency | Self::Durable => {
                vec![LapinLabelled, FluffleAdaptive, FluffleMetrics, FluffleOnIo, FluffleTraces]
            }
            Self::Bytes => vec![LapinLabelled, FluffleMetrics, FluffleOnIo, FluffleTraces],
            Self::Batch => vec![FluffleMetrics, FluffleTraces],
            Self::Adaptive | Self::Journal | Self::Gzip => Vec::new(),
        }
    }

    /// How many bytes of bodies the uncounted round has. It finds out how much work the counted rounds get.
    pub(crate) fn first_round_bytes(self) -> f64 {
        match self {
            Self::Single | Self::Journal => 2e6,
            Self::Latency => 0.2e6,
            Self::Durable => 0.5e6,
            Self::Bytes | Self::Batch | Self::Adaptive | Self::Gzip => 100e6,
        }
    }
}
