//! Kubernetes' HorizontalPodAutoscaler with an external metric of the target type `AverageValue`, which is what KEDA
//! makes of a ScaledObject, with its default `behavior`.
//!
//! Source: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>: algorithm, tolerance of
//! 0.1, the stabilization window of 300 s for scaling down, and the default policies: all pods may go within 15 s; the
//! higher of 4 pods or 100 % may come within 15 s.

use std::collections::VecDeque;

/// Seconds between two looks (`--horizontal-pod-autoscaler-sync-period`).
pub(crate) const SYNC: u64 = 15;

const TOLERANCE: f64 = 0.1;

/// `stabilizationWindowSeconds` for scaling down.
pub(crate) const STABILIZATION: u64 = 300;

/// The recommendations of the stabilization window.
#[derive(Debug, Default)]
pub(crate) struct Hpa {
    recent: VecDeque<(u64, u64)>,
}

impl Hpa {
    /// How many replicas there should be now, of `current`, for a metric that wants `wanted` pods, a fraction.
    pub(crate) fn replicas(&mut self, now: u64, current: u64, wanted: f64, least: u64, most: u64) -> u64 {
        let within = (wanted / current.max(1) as f64 - 1.0).abs() <= TOLERANCE;
        let desired = if within { current } else { wanted.ceil() as u64 };
        let desired = desired.clamp(least.max(1), most);
        while self.recent.front().is_some_and(|(time, _)| time + STABILIZATION < now) {
            self.recent.pop_front();
        }
        self.recent.push_back((now, desired));
        if desired >= current {
            return desired.min((current + 4).max(current * 2));
        }
        let highest = self.recent.iter().map(|(_, pods)| *pods).max().unwrap_or(desired);
        highest.min(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_come_at_once_and_go_after_the_window() {
        let mut hpa = Hpa::default();
        assert_eq!(hpa.replicas(0, 2, 5.5, 2, 20), 6);
        assert_eq!(hpa.replicas(15, 6, 1.0, 2, 20), 6, "five minutes have not passed");
        assert_eq!(hpa.replicas(300, 6, 1.0, 2, 20), 6);
        assert_eq!(hpa.replicas(315, 6, 1.0, 2, 20), 2);
    }

    #[test]
    fn at_most_four_or_twice_as_many_come_at_a_time() {
        let mut hpa = Hpa::default();
        assert_eq!(hpa.replicas(0, 2, 100.0, 2, 20), 6);
        assert_eq!(hpa.replicas(15, 6, 100.0, 2, 20), 12);
        assert_eq!(hpa.replicas(30, 12, 100.0, 2, 20), 20);
    }

    #[test]
    fn a_tenth_more_or_less_changes_nothing() {
        let mut hpa = Hpa::default();
        assert_eq!(hpa.replicas(0, 10, 10.9, 2, 20), 10);
        assert_eq!(hpa.replicas(15, 10, 11.1, 2, 20), 12);
    }
}
