//! The queues of a service's topology that cannot be reached, because their node of the cluster is down.
//!
//! They are nobody's trouble but their users': connections are up without them, and declare them again until they are
//! reached.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::topology::{Queue, TopologyError, TopologyErrorKind};

/// How often the queues that cannot be reached are declared again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a connection may take to do so before another one tries.
const LONGEST_TRY: Duration = Duration::from_secs(30);

/// A queue that could not be reached, and why.
#[derive(Clone, Debug)]
pub(crate) struct Unreached {
    pub(crate) queue: String,
    pub(crate) why: TopologyError,
}

impl Unreached {
    /// # Errors
    /// The error, if it is any other than that `queue` cannot be reached.
    pub(crate) fn new(queue: &Queue, why: TopologyError) -> Result<Self, TopologyError> {
        match why.kind() {
            TopologyErrorKind::Unreachable { .. } => Ok(Self { queue: queue.name().to_owned(), why }),
            _ => Err(why),
        }
    }
}

/// The queues that the connections of one service could not reach.
#[derive(Default)]
pub(crate) struct UnreachedQueues(Mutex<Known>);

#[derive(Default)]
struct Known {
    queues: BTreeMap<String, Since>,
    /// The queues that were declared once.
    declared: HashSet<String>,
    /// When one of the connections may try again.
    next_try: Option<Instant>,
}

struct Since {
    when: Instant,
    why: String,
}

impl UnreachedQueues {
    /// The queues named `tried` were declared, and these of them were not reached. The log hears what is new.
    pub(crate) fn found(&self, tried: &[String], unreached: &[Unreached]) {
        let mut known = self.known();
        let is_unreached = |queue: &str| unreached.iter().any(|one| one.queue == queue);
        known.declared.extend(tried.iter().filter(|queue| !is_unreached(queue)).cloned());
        known.queues.retain(|queue, since| {
            let reached = tried.contains(queue) && !is_unreached(queue);
            if reached {
                tracing::warn!(%queue, away = ?since.when.elapsed(), "the queue is reached again");
            }
            !reached
        });
        for Unreached { queue, why } in unreached {
            let why = why.to_string();
            if known.queues.insert(queue.clone(), Since { when: Instant::now(), why: why.clone() }).is_none() {
                tracing::warn!(
                    %queue, why,
                    "a queue cannot be reached: its publishers and consumers wait for it, and everything else goes on"
                );
            }
        }
        known.next_try = Some(Instant::now() + AGAIN);
    }

    /// The queues to declare again now; none, if there are none or it is not yet time. Of several connections that ask,
    /// one is told.
    pub(crate) fn due(&self) -> Vec<String> {
        let mut known = self.known();
        if known.queues.is_empty() || known.next_try.is_some_and(|next| Instant::now() < next) {
            return Vec::new();
        }
        known.next_try = Some(Instant::now() + LONGEST_TRY);
        known.queues.keys().cloned().collect()
    }

    /// The names of those that cannot be reached.
    pub(crate) fn names(&self) -> Vec<String> {
        self.known().queues.keys().cloned().collect()
    }

    /// Whether the queue is there, reached or not: it was declared once, or the broker said that its node is down.
    pub(crate) fn exists(&self, queue: &str) -> bool {
        let known = self.known();
        known.declared.contains(queue) || known.queues.contains_key(queue)
    }

    /// Why each of them cannot be reached.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.known().queues.values().map(|since| since.why.clone()).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Entity;

    fn unreached(queue: &str) -> Unreached {
        let entity = Entity::Queue(queue.to_owned());
        let kind = TopologyErrorKind::Unreachable { entity, node: Some("rabbit@b".to_owned()), text: String::new() };
        Unreached::new(&Queue::classic(queue), TopologyError::new(kind)).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_reached_is_tried_again_by_one_connection_every_second_until_it_is_reached() {
        let queues = UnreachedQueues::default();
        assert!(queues.due().is_empty());
        let all = ["a", "b", "d"].map(str::to_owned);
        queues.found(&all, &[unreached("a"), unreached("b")]);
        assert!(queues.exists("a") && queues.exists("d") && !queues.exists("c"));
        assert_eq!(queues.names(), ["a", "b"]);
        assert!(queues.due().is_empty(), "it was tried a moment ago");
        tokio::time::advance(AGAIN).await;
        let due = queues.due();
        assert_eq!(due, ["a", "b"]);
        assert!(queues.due().is_empty(), "another connection is at it");
        queues.found(&due, &[unreached("b")]);
        assert_eq!(queues.reasons().len(), 1);
        assert!(queues.reasons()[0].contains("\"b\" cannot be reached, because its node rabbit@b is down"));
        tokio::time::advance(AGAIN).await;
        assert_eq!(queues.due(), ["b"]);
        tokio::time::advance(LONGEST_TRY).await;
        assert_eq!(queues.due(), ["b"], "the connection that was at it is gone");
        queues.found(&["c".to_owned()], &[]);
        assert_eq!(queues.reasons().len(), 1, "only what was tried can be reached");
        queues.found(&all, &[]);
        assert!(queues.reasons().is_empty());
    }

    #[test]
    fn any_other_error_is_no_matter_of_reach() {
        let error = TopologyError::new(TopologyErrorKind::Locked { entity: Entity::Queue("q".to_owned()) });
        assert!(Unreached::new(&Queue::classic("q"), error).is_err());
    }
}
