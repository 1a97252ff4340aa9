//! Runs random steps on the journal and on a model of it, and compares them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::{path::PathBuf, time::Duration};

use common::{copy, left, record};
use fluffle_store::{Flush, Journal, JournalOptions, Position};
use proptest::{collection::vec, prelude::*, sample::Index};
use tempfile::TempDir;

#[derive(Debug, Clone)]
enum Step {
    /// Appends this many records at the same time.
    Append(usize),
    Confirm(Index),
    Flush,
    /// Closes the journal and opens it again.
    Reopen,
    /// Opens a copy of the files as a kill at this moment would leave them.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..20).prop_map(Step::Append),
        6 => any::<Index>().prop_map(Step::Confirm),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ];
    vec(step, 1..60)
}

fn flush() -> impl Strategy<Value = Flush> {
    prop_oneof![Just(Flush::Each), Just(Flush::Grouped), Just(Flush::Interval(Duration::from_secs(3600)))]
}

/// A journal, and what must be in it.
struct Life {
    folder: TempDir,
    options: JournalOptions,
    path: PathBuf,
    journal: Journal,
    /// The records that are not confirmed, in order.
    there: Vec<(Position, String)>,
    appended: usize,
}

impl Life {
    fn new(flush: Flush) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Journal::options().flush(flush);
        let path = folder.path().join("0.journal");
        let journal = options.clone().open(&path).unwrap();
        Self { folder, options, path, journal, there: Vec::new(), appended: 0 }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append(count) => {
                let mut enqueued = Vec::new();
                for _ in 0..*count {
                    self.appended += 1;
                    let id = format!("id-{}", self.appended);
                    enqueued.push((self.journal.enqueue(record(&id)).await.unwrap(), id));
                }
                for (enqueued, id) in enqueued {
                    self.there.push((enqueued.await.unwrap(), id));
                }
            }
            Step::Confirm(_) if self.there.is_empty() => {}
            Step::Confirm(index) => {
                let (position, _) = self.there.remove(index.index(self.there.len()));
                self.journal.confirm(position);
            }
            Step::Flush => self.journal.flush().await.unwrap(),
            Step::Reopen => {
                self.journal.close().await.unwrap();
                self.open().await;
            }
            Step::Crash => {
                // Flush first, because a copy of two files is consistent only while the thread writes nothing.
                self.journal.flush().await.unwrap();
                let next = self.folder.path().join(format!("{}.journal", self.appended));
                if next == self.path {
                    return;
                }
                copy(&self.path, &next);
                self.path = next;
                self.open().await;
            }
        }
    }

    /// Opens the files, and compares the journal with the model.
    async fn open(&mut self) {
        self.journal = self.options.clone().open(&self.path).unwrap();
        let left = left(&self.journal).await;
        let ids: Vec<&String> = left.iter().map(|entry| &entry.id).collect();
        assert_eq!(ids, self.there.iter().map(|(_, id)| id).collect::<Vec<_>>());
        let stats = self.journal.stats();
        let bytes: u64 = left.iter().map(|entry| record(&entry.id).size()).sum();
        assert_eq!((stats.unconfirmed, stats.bytes), (left.len() as u64, bytes));
        self.there = left.into_iter().map(|entry| (entry.position, entry.id)).collect();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_life_leaves_what_the_model_leaves(flush in flush(), steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut life = Life::new(flush);
            for step in &steps {
                life.step(step).await;
            }
            life.step(&Step::Reopen).await;
        });
    }
}
