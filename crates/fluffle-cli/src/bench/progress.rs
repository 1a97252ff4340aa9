//! What a run has come to: second by second, in all, and how it ended.

use std::time::Duration;

use serde::Serialize;

use crate::bench::{meter::Counts, usage::Usage};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As planned.
    Complete,
    /// By Ctrl-C.
    Interrupted,
    /// The service gave up.
    ServiceEnded(String),
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    WarmUp,
    Measure,
    Drain,
}

/// One second of a run. Keys are stable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Second {
    /// The end of this second, counted from the start of the load.
    pub(crate) at_s: f64,
    pub(crate) phase: Phase,
    pub(crate) published_per_s: f64,
    pub(crate) confirmed_per_s: f64,
    pub(crate) handled_per_s: f64,
    pub(crate) published_mb_per_s: f64,
    pub(crate) handled_mb_per_s: f64,
    /// Percentiles of the end-to-end latency, or without consumers, from due to confirmed.
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) confirm_p50_us: f64,
    pub(crate) confirm_p99_us: f64,
    /// Messages published but not handled, or without consumers, not confirmed.
    pub(crate) in_flight: u64,
}

pub(crate) fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// The totals of the measurement, from the end of the warm-up on.
pub(crate) struct Measured {
    pub(crate) time: Duration,
    pub(crate) counts: Counts,
    pub(crate) usage: Option<Usage>,
}
