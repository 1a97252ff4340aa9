//! Counts which messages were handled, and how often.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use fluffle::{Error, prelude::Delivery};
use tokio::{sync::watch, time::timeout};

/// How long a lesson waits for its messages before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which messages were handled, by message id, and how often.
///
/// All clones share one count. A handler actor holds a clone instead of its own count, because its fields are lost when
/// it crashes, and a fresh actor starts with fresh fields.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    ids: watch::Sender<HashMap<String, u32>>,
}

impl Seen {
    /// An empty count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a delivery that was handled.
    pub fn note<T, R>(&self, delivery: &Delivery<T, R>) {
        self.note_id(delivery.message_id().unwrap_or("(without an id)"));
    }

    /// Counts a message as handled under the id `id`.
    pub fn note_id(&self, id: &str) {
        self.ids.send_modify(|ids| *ids.entry(id.to_owned()).or_insert(0) += 1);
    }

    /// How many different messages were handled.
    pub fn distinct(&self) -> usize {
        self.ids.borrow().len()
    }

    /// How many of `ids` were not handled.
    pub fn missing(&self, ids: &BTreeSet<String>) -> usize {
        let seen = self.ids.borrow();
        ids.iter().filter(|id| !seen.contains_key(*id)).count()
    }

    /// How often a message was handled beyond its first time, all messages together.
    pub fn repeats(&self) -> usize {
        self.ids.borrow().values().map(|times| *times as usize - 1).sum()
    }

    /// Waits until every one of `ids` was handled.
    ///
    /// # Errors
    /// If some were not handled after a minute.
    pub async fn all_of(&self, ids: &BTreeSet<String>) -> Result<(), Error> {
        let mut watching = self.ids.subscribe();
        let all = watching.wait_for(|seen| seen.len() >= ids.len() && ids.iter().all(|id| seen.contains_key(id)));
        match timeout(PATIENCE, all).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::other(format!("{} of {} messages were not handled", self.missing(ids), ids.len()))),
        }
    }

    /// Waits until `count` different messages were handled.
    ///
    /// # Errors
    /// If there were fewer after a minute.
    pub async fn count(&self, count: usize) -> Result<(), Error> {
        let mut watching = self.ids.subscribe();
        let reached = timeout(PATIENCE, watching.wait_for(|seen| seen.len() >= count)).await.is_ok();
        if reached { Ok(()) } else { Err(Error::other(format!("{} of {count} messages came", self.distinct()))) }
    }
}
