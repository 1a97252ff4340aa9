//! The figures that matter in each scenario, and Fluffle's targets for them.

use crate::{figures::Figures, grouped::grouped, scenario::Scenario};

/// A figure by which contestants are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Headline {
    Rate,
    P50,
    P99,
    /// Bytes sent to the broker.
    Wire,
}

impl Headline {
    /// The figures of a scenario. The ratio of the first one has a name without a suffix.
    pub(crate) fn of(scenario: Scenario) -> &'static [Self] {
        match scenario {
            Scenario::Latency => &[Self::P50, Self::P99],
            Scenario::Gzip => &[Self::Rate, Self::Wire],
            Scenario::Single
            | Scenario::Bytes
            | Scenario::Durable
            | Scenario::Journal
            | Scenario::Batch
            | Scenario::Adaptive => &[Self::Rate],
        }
    }

    pub(crate) fn read(self, figures: &Figures) -> Option<f64> {
        match self {
            // Bytes, not messages, because some contestants put one message into a body and some put many.
            Self::Rate => Some(figures.mb_per_s),
            Self::P50 => figures.p50_us,
            Self::P99 => figures.p99_us,
            Self::Wire => figures.wire_bytes_per_msg,
        }
    }

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Rate | Self::P50 => "",
            Self::P99 => " p99",
            Self::Wire => " bytes on the wire",
        }
    }
}

/// The target for a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Like [`AtLeast`](Target::AtLeast), but a stretch goal.
    Prize(f64),
}

impl Target {
    /// The target for this ratio in this scenario, if there is one.
    pub(crate) fn of(scenario: Scenario, ratio: &str) -> Option<Self> {
        use Target::{AtLeast, AtMost, Prize};
        match (scenario, ratio) {
            (Scenario::Single, "fluffle/lapin_naive") => Some(AtLeast(2.2)),
            (Scenario::Single, "fluffle/lapin_labelled") => Some(AtLeast(1.0)),
            (Scenario::Single, "fluffle/ruststream") => Some(AtLeast(1.15)),
            (Scenario::Single, "fluffle/amqprs") => Some(Prize(1.0)),
            (Scenario::Batch | Scenario::Adaptive, "fluffle/lapin_tuned") => Some(AtLeast(0.55)),
            (Scenario::Adaptive, "fluffle_adaptive/fluffle") => Some(AtLeast(0.9)),
            (Scenario::Latency, "fluffle_adaptive/fluffle") => Some(AtMost(1.05)),
            (Scenario::Single, "fluffle_metrics/fluffle") => Some(AtLeast(0.98)),
            (Scenario::Batch, "fluffle_metrics/fluffle") => Some(AtLeast(0.97)),
            (Scenario::Latency, "fluffle_metrics/fluffle") => Some(AtMost(1.02)),
            (Scenario::Single, "fluffle_traces/fluffle") => Some(AtLeast(0.97)),
            (Scenario::Gzip, "fluffle/fluffle_uncompressed") => Some(AtLeast(0.5)),
            (Scenario::Gzip, "fluffle/fluffle_uncompressed bytes on the wire") => Some(AtMost(0.4)),
            (Scenario::Latency, "fluffle/lapin_labelled") => Some(AtMost(1.1)),
            (Scenario::Latency, "fluffle/lapin_labelled p99") => Some(AtMost(1.3)),
            (Scenario::Latency, "fluffle_on_io/lapin_labelled") => Some(AtMost(1.03)),
            (Scenario::Latency, "fluffle_on_io/lapin_labelled p99") => Some(AtMost(1.2)),
            _ => None,
        }
    }

    pub(crate) fn met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) | Self::Prize(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }

    pub(crate) fn words(self) -> String {
        match self {
            Self::AtLeast(least) if least >= 100.0 => format!("≥ {}", grouped(least, 0)),
            Self::AtLeast(least) => format!("≥ {least:.2}"),
            Self::AtMost(most) => format!("≤ {most:.2}"),
            Self::Prize(least) => format!("stretch goal: ≥ {least:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_shall_be_low_and_throughput_high() {
        let latency = Target::of(Scenario::Latency, "fluffle/lapin_labelled").unwrap();
        assert!(latency.met(1.0) && !latency.met(1.2));
        let single = Target::of(Scenario::Single, "fluffle/lapin_labelled").unwrap();
        assert!(single.met(1.0) && !single.met(0.9));
        assert_eq!(Target::of(Scenario::Bytes, "fluffle/lapin_tuned"), None);
    }
}
