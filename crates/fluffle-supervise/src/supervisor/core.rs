//! The state of a supervisor that outlives its incarnations: its policy and its children's specs.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    intensity::Intensity,
    node::Node,
    policy::Strategy,
    spec::{ChildSpec, Limit, SHUTDOWN},
};

/// Shared by the spec, the factory and each incarnation of a supervisor, so that children added to a running supervisor
/// are started again after its restart.
pub(crate) struct Core {
    node: Arc<Node>,
    policy: Mutex<Policy>,
    /// In start order.
    roster: Mutex<Vec<Entry>>,
}

#[derive(Clone, Default)]
pub(crate) struct Policy {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) together: bool,
    /// `None`: the sum of the children's deadlines, plus [`SHUTDOWN`].
    pub(crate) shutdown: Option<Limit>,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) spec: Arc<ChildSpec>,
    /// The child was added to the running supervisor and is not part of its spec.
    pub(crate) added: bool,
}

impl Core {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new(Self { node, policy: Mutex::default(), roster: Mutex::default() })
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roster(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.roster().clone()
    }

    pub(crate) fn add(&self, spec: ChildSpec, added: bool) -> Entry {
        self.node.add_child(spec.node());
        let entry = Entry { spec: Arc::new(spec), added };
        self.roster().push(entry.clone());
        entry
    }

    pub(crate) fn remove(&self, spec: &Arc<ChildSpec>) {
        self.node.remove_child(spec.node());
        self.roster().retain(|entry| !Arc::ptr_eq(&entry.spec, spec));
    }

    /// An id that two children share, if there is one.
    pub(crate) fn duplicate(&self) -> Option<Arc<str>> {
        let mut seen = HashSet::new();
        let roster = self.roster();
        let twice = roster.iter().map(|entry| entry.spec.node().id()).find(|id| !seen.insert(Arc::clone(id)));
        twice.cloned()
    }

    /// How long the supervisor may take to stop: the limit of its spec, or else the sum of the children's deadlines,
    /// plus [`SHUTDOWN`] for itself.
    pub(crate) fn deadline(&self) -> Duration {
        let own = self.policy().shutdown.clone();
        own.map_or_else(
            || {
                let children = self.entries();
                children.iter().fold(SHUTDOWN, |sum, entry| sum.saturating_add(entry.spec.deadline()))
            },
            |own| own.get(),
        )
    }
}
