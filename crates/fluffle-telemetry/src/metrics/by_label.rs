//! Counters whose last label is known only when something happens: a reply code, an exit reason.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::metrics::group::OTHER;

/// The most values of such a label.
const LIMIT: usize = 16;

/// A count for each value of a label. It takes a lock, and is for what happens seldom.
#[derive(Default)]
pub(crate) struct ByLabel(Mutex<BTreeMap<Box<str>, u64>>);

impl ByLabel {
    pub(crate) fn one(&self, label: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let label = if counts.contains_key(label) || counts.len() < LIMIT { label } else { OTHER };
        *counts.entry(label.into()).or_default() += 1;
    }

    pub(crate) fn all(&self) -> Vec<(Box<str>, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(label, count)| (label.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_past_the_limit_are_counted_together() {
        let counts = ByLabel::default();
        (0..LIMIT + 5).for_each(|code| counts.one(&code.to_string()));
        counts.one("0");
        let all = counts.all();
        assert_eq!(all.len(), LIMIT + 1);
        assert_eq!(all.iter().find(|(label, _)| &**label == "0").unwrap().1, 2);
        assert_eq!(all.iter().find(|(label, _)| &**label == OTHER).unwrap().1, 5);
    }
}
