//! What is asked of the broker and of Prometheus, and what KEDA makes of it.
//!
//! Source: <https://keda.sh/docs/latest/reference/scaledobject-spec/>. From one pod on the autoscaler asks, each 15
//! seconds. From none to one, KEDA looks itself, each `pollingInterval`; from one to none, when all triggers have been
//! inactive for `cooldownPeriod`.

/// How pods are scaled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scaler {
    /// Always this many.
    Fixed(u64),
    /// A pod for this many ready messages.
    QueueLength(u64),
    /// As overlays/drain-time/scaled-object.yaml: handlers busy at 80 %, and the queue empty within these seconds.
    DrainTime(u64),
}

/// `minReplicaCount`, `maxReplicaCount`, and the times of KEDA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) least: u64,
    pub(crate) most: u64,
    pub(crate) polling: u64,
    pub(crate) cooldown: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { least: 2, most: 20, polling: 15, cooldown: 300 }
    }
}

/// How busy handlers should be.
const UTILIZATION: f64 = 0.8;

/// What is known at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Messages ready in the queue.
    pub(crate) ready: f64,
    /// Handlers at work, the mean of two minutes.
    pub(crate) busy: f64,
    /// Seconds of a handler for a message, the mean of two minutes.
    pub(crate) handling: f64,
    /// Handlers of a pod.
    pub(crate) handlers: f64,
}

impl Scaler {
    pub(crate) fn title(&self, limits: Limits) -> String {
        let least = if limits.least == 0 { ", from none" } else { "" };
        match self {
            Self::Fixed(pods) => format!("not: {pods} pods"),
            Self::QueueLength(messages) => format!("queue length, {messages}{least}"),
            Self::DrainTime(seconds) => format!("drain time, {seconds} s{least}"),
        }
    }

    /// How many pods are wanted, a fraction.
    pub(crate) fn wanted(&self, look: Look) -> f64 {
        match *self {
            Self::Fixed(pods) => pods as f64,
            Self::QueueLength(messages) => look.ready / messages as f64,
            Self::DrainTime(seconds) => {
                (look.busy / UTILIZATION + look.ready * look.handling / seconds as f64) / look.handlers
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpa::STABILIZATION;

    const QUEUE_LENGTH: &str = include_str!("../../../../deploy/kubernetes/overlays/queue-length/scaled-object.yaml");
    const DRAIN_TIME: &str = include_str!("../../../../deploy/kubernetes/overlays/drain-time/scaled-object.yaml");

    /// As in fluffle-telemetry/tests/kubernetes/query.rs.
    #[test]
    fn the_drain_time_is_that_of_the_query() {
        let look = |ready| Look { ready, busy: 8.0, handling: 0.04, handlers: 10.0 };
        assert!((Scaler::DrainTime(30).wanted(look(0.0)) - 1.0).abs() < 1e-9);
        assert!((Scaler::DrainTime(30).wanted(look(15_000.0)) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_numbers_are_those_of_the_manifests() {
        let Limits { least, most, polling, .. } = Limits::default();
        for manifest in [QUEUE_LENGTH, DRAIN_TIME] {
            for (field, value) in [
                ("minReplicaCount", least),
                ("maxReplicaCount", most),
                ("pollingInterval", polling),
                ("stabilizationWindowSeconds", STABILIZATION),
            ] {
                assert!(manifest.contains(&format!(" {field}: {value}\n")), "{field} is not {value}:\n{manifest}");
            }
        }
        assert!(QUEUE_LENGTH.contains("value: \"300\""));
        assert!(DRAIN_TIME.contains(&format!("/ {UTILIZATION}\n")) && DRAIN_TIME.contains("/ 30\n"));
    }
}
