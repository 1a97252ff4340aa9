//! The things of one kind that have metrics: the consumers, the publishers and so on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::instrument::counter::Counter;

/// The most things of one kind that have metrics of their own. What comes later shares the metrics of [`OTHER`], so
/// that names made at run time (a queue for each tenant) cannot fill the memory of this process or of Prometheus.
pub(crate) const LIMIT: usize = 256;

/// The label of all things past the limit.
pub(crate) const OTHER: &str = "_other";

/// The metrics of each thing of one kind, by its name. A thing that goes and comes again finds its counters as they
/// were.
pub(crate) struct Group<M> {
    members: Mutex<BTreeMap<Box<str>, Arc<M>>>,
    folded: Arc<Counter>,
}

impl<M: Default> Group<M> {
    /// `folded` counts the names past the limit.
    pub(crate) fn new(folded: &Arc<Counter>) -> Self {
        Self { members: Mutex::default(), folded: Arc::clone(folded) }
    }

    /// The metrics of `name`. A look-up: for when a thing is added, not for each event.
    pub(crate) fn of(&self, name: &str) -> Arc<M> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(member) = members.get(name) {
            return Arc::clone(member);
        }
        let name = if members.len() < LIMIT {
            name
        } else {
            self.folded.one();
            OTHER
        };
        Arc::clone(members.entry(name.into()).or_default())
    }

    /// The metrics of `name`, if there are any.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<M>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// All things, by name.
    pub(crate) fn all(&self) -> Vec<(Box<str>, Arc<M>)> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().map(|(name, member)| (name.clone(), Arc::clone(member))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_finds_its_metrics_and_names_past_the_limit_share_theirs() {
        let folded = Arc::new(Counter::default());
        let group = Group::<Counter>::new(&folded);
        group.of("orders").add(3);
        group.of("orders").add(4);
        for tenant in 0..LIMIT + 10 {
            group.of(&format!("tenant-{tenant}")).one();
        }
        assert_eq!(group.of("orders").get(), 7);
        let all = group.all();
        assert_eq!(all.len(), LIMIT + 1);
        assert_eq!((group.of(OTHER).get(), folded.get()), (11, 11));
        assert_eq!(all.iter().map(|(_, counter)| counter.get()).sum::<u64>() as usize, 7 + LIMIT + 10);
    }
}
