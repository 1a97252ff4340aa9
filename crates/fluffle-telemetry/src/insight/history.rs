//! Fifteen minutes of each queue and publisher, kept in the process.

use std::collections::BTreeMap;

use crate::insight::ring::Ring;

/// The length of a step, in milliseconds.
pub(crate) const STEP: u64 = 2_000;

/// The steps of fifteen minutes.
pub(crate) const STEPS: usize = 450;

/// The most series. 128 are 1.2 MB.
const SERIES: usize = 128;

/// Whose series it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Of {
    Queue(String),
    Publisher(String),
}

/// What one step of a series holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) entered: f32,
    pub(crate) settled: f32,
    pub(crate) failed: f32,
    pub(crate) open: f32,
    pub(crate) p99: Option<f32>,
}

/// The history of a service. Its memory is bounded by [`SERIES`] and [`STEPS`].
#[derive(Debug, Default)]
pub(crate) struct History {
    series: BTreeMap<Of, Ring<Option<Step>>>,
}

impl History {
    /// Adds one step to all series. A series that has nothing in this step has a gap.
    pub(crate) fn push(&mut self, steps: impl IntoIterator<Item = (Of, Step)>) {
        let mut steps: BTreeMap<Of, Step> = steps.into_iter().collect();
        for (of, ring) in &mut self.series {
            ring.push(steps.remove(of));
        }
        for (of, step) in steps {
            if self.series.len() >= SERIES {
                break;
            }
            let mut ring = Ring::new(STEPS);
            ring.push(Some(step));
            self.series.insert(of, ring);
        }
        // What has not been there for fifteen minutes is forgotten.
        self.series.retain(|_, ring| ring.iter().any(Option::is_some));
    }

    pub(crate) fn series(&self) -> impl Iterator<Item = (&Of, &Ring<Option<Step>>)> {
        self.series.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_gaps_is_bounded_and_is_forgotten_when_it_is_all_gaps() {
        let mut history = History::default();
        let queue = |name: &str| Of::Queue(name.to_owned());
        history.push([(queue("a"), Step { entered: 1.0, ..Step::default() })]);
        history.push([(queue("b"), Step::default())]);
        let gaps: Vec<_> =
            history.series().map(|(of, ring)| (of.clone(), ring.iter().map(Option::is_some).collect())).collect();
        assert_eq!(gaps, [(queue("a"), vec![true, false]), (queue("b"), vec![true])]);
        for _ in 0..STEPS {
            history.push([(queue("b"), Step::default())]);
        }
        assert_eq!(
            history.series().map(|(of, ring)| (of.clone(), ring.iter().len())).collect::<Vec<_>>(),
            [(queue("b"), STEPS)]
        );
        for tenant in 0..SERIES + 10 {
            history.push([(queue("b"), Step::default()), (queue(&format!("t{tenant}")), Step::default())]);
        }
        assert_eq!(history.series().count(), SERIES);
    }
}
