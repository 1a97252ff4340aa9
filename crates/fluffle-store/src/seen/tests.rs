//! The contract of the window, on disk and in memory, with a clock that the test sets.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use proptest::{collection::vec, prelude::*, sample::select};

use super::{SeenIds, id_of};
use crate::{OpenError, StoreErrorKind, find_seen};

const DAY: u64 = 24 * 3600 * 1000;

#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn read(&self) -> impl Fn() -> u64 + Send + 'static {
        let now = Arc::clone(&self.0);
        move || now.load(Relaxed)
    }

    fn advance(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Relaxed);
    }
}

#[tokio::test]
async fn an_id_is_seen_until_it_is_removed_and_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    let seen = SeenIds::options().open(&path).unwrap();
    assert!(!seen.contains("a").await.unwrap());
    assert!(seen.insert("a").await.unwrap());
    assert!(!seen.insert("a").await.unwrap());
    assert!(seen.insert("b").await.unwrap());
    assert!(seen.remove("b").await.unwrap());
    assert!(!seen.remove("b").await.unwrap());
    seen.close().await.unwrap();
    assert_eq!(seen.contains("a").await.unwrap_err().kind(), StoreErrorKind::Closed);

    let seen = SeenIds::options().open(&path).unwrap();
    assert!(matches!(SeenIds::options().open(&path), Err(OpenError::Locked { .. })));
    assert!(seen.contains("a").await.unwrap());
    assert!(!seen.contains("b").await.unwrap());
}

#[tokio::test]
async fn of_many_who_insert_the_same_id_one_is_the_first() {
    let seen = SeenIds::options().in_memory().unwrap();
    let answers = try_join_all((0..1_000).map(|_| seen.insert("same"))).await.unwrap();
    assert_eq!(answers.iter().filter(|first| **first).count(), 1);
}

#[tokio::test]
async fn an_id_grows_old() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::default();
    let options = SeenIds::options().keep(Duration::from_millis(DAY));
    let seen = options.open_by(&folder.path().join("orders.seen"), clock.read()).unwrap();
    assert!(seen.insert("a").await.unwrap());
    clock.advance(DAY - 1);
    assert!(seen.contains("a").await.unwrap());
    assert!(!seen.insert("a").await.unwrap(), "a second look keeps its age");
    clock.advance(1);
    assert!(!seen.contains("a").await.unwrap());
    assert!(!seen.remove("a").await.unwrap());
    assert!(seen.insert("a").await.unwrap());
    clock.advance(DAY - 1);
    assert!(seen.contains("a").await.unwrap());
}

#[tokio::test]
async fn a_lowered_limit_is_reached_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    let seen = SeenIds::options().open(&path).unwrap();
    try_join_all((0..500).map(|number| seen.insert(format!("old-{number}")))).await.unwrap();
    seen.close().await.unwrap();

    let seen = SeenIds::options().max_ids(10).open(&path).unwrap();
    for number in 0..9 {
        assert!(seen.insert(format!("new-{number}")).await.unwrap());
    }
    let mut there = 0;
    for number in 0..500 {
        there += usize::from(seen.contains(format!("old-{number}")).await.unwrap());
    }
    assert_eq!(there, 1);
}

#[tokio::test]
async fn an_item_is_the_same_id_with_its_batch_and_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    let seen = SeenIds::options().open(&path).unwrap();
    assert!(seen.insert("6:orders/m/7").await.unwrap());
    let items: Vec<u32> = (0..600).collect();
    let new = seen.insert_items("6:orders/m", items.clone()).await.unwrap();
    assert!(new.iter().enumerate().all(|(item, new)| *new == (item != 7)));
    assert!(!seen.insert("6:orders/m/8").await.unwrap());
    assert!(seen.remove("6:orders/m/9").await.unwrap());
    assert!(seen.remove("6:orders/m/7").await.unwrap());
    seen.close().await.unwrap();

    let seen = SeenIds::options().open(&path).unwrap();
    let known = seen.contains_items("6:orders/m", items).await.unwrap();
    assert!(known.iter().enumerate().all(|(item, known)| *known == (item != 7 && item != 9)));
    let ids = ["m/0", "m/599", "m/9", "m/600", "m", "m/00", "m/+1", "m/99999999999"];
    let known = seen.contains_all(ids.map(|id| format!("6:orders/{id}")).to_vec()).await.unwrap();
    assert_eq!(known, [true, true, false, false, false, false, false, false]);
    assert_eq!(seen.insert_items("6:orders/m", [600, 599, 9, 600]).await.unwrap(), [true, false, true, false]);
    assert_eq!(seen.contains_items("6:orders/other", [0, 1]).await.unwrap(), [false, false]);
}

/// Ids like `orders/1` of other publishers look like items of a batch with a million items.
#[tokio::test]
async fn an_item_is_found_among_many_ids_that_look_like_items() {
    let seen = SeenIds::options().in_memory().unwrap();
    seen.insert_all((0..1_000).map(|number| format!("orders/{number}")).collect()).await.unwrap();
    assert_eq!(seen.contains_items("orders", [1_000, 999, 5]).await.unwrap(), [false, true, true]);
    assert_eq!(seen.insert_items("orders", [1_000, 999]).await.unwrap(), [true, false]);
    assert!(seen.contains("orders/1000").await.unwrap());
}

#[tokio::test]
async fn items_that_were_inserted_together_are_forgotten_when_none_is_among_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    let open = || SeenIds::options().max_ids(10).open(&path).unwrap();
    let seen = open();
    let items: Vec<u32> = (0..8).collect();
    seen.insert("single").await.unwrap();
    seen.insert_items("a", items.clone()).await.unwrap();
    assert!(seen.contains("single").await.unwrap());
    seen.insert_items("b", [0]).await.unwrap();
    seen.insert_items("c", [0]).await.unwrap();
    assert!(!seen.contains("single").await.unwrap());
    seen.insert_items("d", &items[1..]).await.unwrap();
    assert_eq!(seen.contains_items("a", items.clone()).await.unwrap(), [true; 8], "its last item is the tenth");
    seen.close().await.unwrap();
    let seen = open();
    seen.insert("e").await.unwrap();
    assert_eq!(seen.contains_items("a", items).await.unwrap(), [false; 8]);
    assert!(seen.contains("b/0").await.unwrap());
}

/// Version 1 had a row for each item. The file is as that version wrote it.
#[tokio::test]
async fn a_file_of_the_first_version_is_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    let version = || -> i64 {
        let file = rusqlite::Connection::open(&path).unwrap();
        file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
         CREATE TABLE ids (turn INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL UNIQUE) STRICT;
         PRAGMA application_id = 0x466c7553; PRAGMA user_version = 1;
         INSERT INTO ids (at, id) VALUES (1, 'old'), (5, 'm/0'), (5, 'm/1'), (5, 'm/3'), (5, 'm');",
    )
    .unwrap();
    drop(file);
    assert_eq!(find_seen(&path, "m/3").unwrap()[0].0, "m/3");
    assert_eq!(version(), 1, "a look changes nothing");

    let clock = Clock::default();
    clock.advance(5);
    let open = || SeenIds::options().keep(Duration::from_millis(DAY)).max_ids(5).open_by(&path, clock.read()).unwrap();
    let seen = open();
    assert_eq!(seen.contains_items("m", [0, 1, 2, 3]).await.unwrap(), [true, true, false, true]);
    assert_eq!(seen.insert_items("m", [0, 1, 2, 3]).await.unwrap(), [false, false, true, false]);
    assert!(!seen.contains("old").await.unwrap(), "the sixth, and the oldest");
    clock.advance(DAY - 1);
    assert_eq!(seen.contains_items("m", [0, 1, 2, 3]).await.unwrap(), [true; 4]);
    seen.close().await.unwrap();
    assert_eq!(version(), 2);

    let seen = open();
    clock.advance(1);
    assert_eq!(seen.insert_items("m", [0, 1, 2, 3]).await.unwrap(), [true; 4]);
    assert!(!seen.contains("m").await.unwrap());
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    SeenIds::options().open(&path).unwrap().close().await.unwrap();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    assert!(matches!(SeenIds::options().open(&path), Err(OpenError::Foreign { .. })));
}

/// Ids that are items of batches, that only look like it, and that do not.
const IDS: [&str; 12] =
    ["a", "a/0", "a/1", "a/2", "a/3", "a/1/0", "a/1/1", "b", "b/2", "a/02", "a/4294967295", "a/99999999999"];
const BATCHES: [&str; 4] = ["a", "a/1", "b", "c"];
const ITEMS: [u32; 7] = [0, 1, 2, 3, 4, 9, u32::MAX];

#[derive(Debug, Clone)]
enum Step {
    Contains(&'static str),
    Insert(&'static str),
    Remove(&'static str),
    ContainsItems(&'static str, Vec<u32>),
    InsertItems(&'static str, Vec<u32>),
    Advance(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (id, batch) = (|| select(&IDS[..]), || select(&BATCHES[..]));
    let items = || vec(select(&ITEMS[..]), 1..6);
    let step = prop_oneof![
        3 => id().prop_map(Step::Contains),
        5 => id().prop_map(Step::Insert),
        1 => id().prop_map(Step::Remove),
        3 => (batch(), items()).prop_map(|(batch, items)| Step::ContainsItems(batch, items)),
        3 => (batch(), items()).prop_map(|(batch, items)| Step::InsertItems(batch, items)),
        1 => (0..DAY).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ];
    vec(step, 1..80)
}

/// A model of the window: ids that were inserted together, with their time, the oldest first.
struct Model {
    groups: VecDeque<(HashSet<String>, u64)>,
    now: u64,
}

impl Model {
    const LIMIT: usize = 8;

    fn contains(&self, id: &str) -> bool {
        self.groups.iter().any(|(ids, at)| ids.contains(id) && self.now - at < DAY)
    }

    fn remove(&mut self, id: &str) -> bool {
        let there = self.contains(id);
        for (ids, _) in &mut self.groups {
            ids.remove(id);
        }
        self.groups.retain(|(ids, _)| !ids.is_empty());
        there
    }

    fn insert(&mut self, ids: Vec<String>) -> Vec<bool> {
        self.groups.retain(|(_, at)| self.now - at < DAY);
        let mut group = HashSet::new();
        let new = ids.into_iter().map(|id| !self.contains(&id) && group.insert(id)).collect();
        self.groups.extend((!group.is_empty()).then_some((group, self.now)));
        let mut left: usize = self.groups.iter().map(|(ids, _)| ids.len()).sum();
        while let Some((oldest, _)) = self.groups.front().filter(|(ids, _)| left - ids.len() >= Self::LIMIT) {
            left -= oldest.len();
            self.groups.pop_front();
        }
        new
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_window_answers_as_its_model(on_disk in any::<bool>(), steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("orders.seen");
            let (clock, mut model) = (Clock::default(), Model { groups: VecDeque::new(), now: 0 });
            let options = || SeenIds::options().keep(Duration::from_millis(DAY)).max_ids(Model::LIMIT as u64);
            let open = || match on_disk {
                true => options().open_by(&path, clock.read()),
                false => options().in_memory_by(clock.read()),
            };
            let ids = |batch: &str, items: &[u32]| items.iter().map(|item| id_of(batch, *item)).collect::<Vec<_>>();
            let mut seen = open().unwrap();
            for step in steps {
                match step {
                    Step::Contains(id) => assert_eq!(seen.contains(id).await.unwrap(), model.contains(id)),
                    Step::Insert(id) => assert_eq!([seen.insert(id).await.unwrap()], *model.insert(vec![id.into()])),
                    Step::Remove(id) => assert_eq!(seen.remove(id).await.unwrap(), model.remove(id)),
                    Step::ContainsItems(batch, items) => {
                        let known: Vec<_> = ids(batch, &items).iter().map(|id| model.contains(id)).collect();
                        assert_eq!(seen.contains_items(batch, items).await.unwrap(), known);
                    }
                    Step::InsertItems(batch, items) => {
                        let new = model.insert(ids(batch, &items));
                        assert_eq!(seen.insert_items(batch, items).await.unwrap(), new);
                    }
                    Step::Advance(by) => {
                        clock.advance(by);
                        model.now += by;
                    }
                    Step::Reopen => {
                        seen.close().await.unwrap();
                        seen = open().unwrap();
                        if !on_disk {
                            model.groups.clear();
                        }
                    }
                }
            }
        });
    }
}
