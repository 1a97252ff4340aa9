//! Who takes part.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Contestant {
    LapinNaive,
    LapinTuned,
    LapinLabelled,
    Amqprs,
    Ruststream,
    Fluffle,
    FluffleAdaptive,
    FluffleJournaled,
    FluffleMetrics,
    FluffleOnIo,
    FluffleTraces,
    FluffleUncompressed,
}

impl Contestant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LapinNaive => "lapin_naive",
            Self::LapinTuned => "lapin_tuned",
            Self::LapinLabelled => "lapin_labelled",
            Self::Amqprs => "amqprs",
            Self::Ruststream => "ruststream",
            Self::Fluffle => "fluffle",
            Self::FluffleAdaptive => "fluffle_adaptive",
            Self::FluffleJournaled => "fluffle_journaled",
            Self::FluffleMetrics => "fluffle_metrics",
            Self::FluffleOnIo => "fluffle_on_io",
            Self::FluffleTraces => "fluffle_traces",
            Self::FluffleUncompressed => "fluffle_uncompressed",
        }
    }

    /// Whether this is one of the variants of Fluffle.
    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Fluffle
                | Self::FluffleAdaptive
                | Self::FluffleJournaled
                | Self::FluffleMetrics
                | Self::FluffleOnIo
                | Self::FluffleTraces
                | Self::FluffleUncompressed
        )
    }

    /// Whether the report shows the ratio of `ours` to this.
    pub(crate) fn is_compared_with(self, ours: Self) -> bool {
        match (self, ours) {
            (
                Self::Fluffle,
                Self::FluffleAdaptive
                | Self::FluffleJournaled
                | Self::FluffleMetrics
                | Self::FluffleOnIo
                | Self::FluffleTraces,
            )
            | (Self::FluffleUncompressed, Self::Fluffle) => true,
            _ => !self.is_ours(),
        }
    }
}
