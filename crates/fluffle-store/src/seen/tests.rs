//! The contract of the window, on disk and in memory, with a clock that the test sets.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use proptest::{collection::vec, prelude::*};

use super::SeenIds;
use crate::{OpenError, StoreErrorKind};

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

#[derive(Debug, Clone)]
enum Step {
    Contains(u8),
    Insert(u8),
    Remove(u8),
    Advance(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..20).prop_map(Step::Contains),
        5 => (0_u8..20).prop_map(Step::Insert),
        1 => (0_u8..20).prop_map(Step::Remove),
        1 => (0..DAY).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
    ];
    vec(step, 1..80)
}

/// A model of the window: ids with their times, the oldest first.
struct Model {
    ids: VecDeque<(u8, u64)>,
    now: u64,
}

impl Model {
    const LIMIT: usize = 8;

    fn contains(&self, id: u8) -> bool {
        self.ids.iter().any(|(known, at)| *known == id && self.now - at < DAY)
    }

    fn remove(&mut self, id: u8) -> bool {
        let there = self.contains(id);
        self.ids.retain(|(known, _)| *known != id);
        there
    }

    fn insert(&mut self, id: u8) -> bool {
        if self.contains(id) {
            return false;
        }
        self.remove(id);
        self.ids.push_back((id, self.now));
        if self.ids.len() > Self::LIMIT {
            self.ids.pop_front();
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_window_answers_as_its_model(on_disk in any::<bool>(), steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("orders.seen");
            let (clock, mut model) = (Clock::default(), Model { ids: VecDeque::new(), now: 0 });
            let options = || SeenIds::options().keep(Duration::from_millis(DAY)).max_ids(Model::LIMIT as u64);
            let open = || match on_disk {
                true => options().open_by(&path, clock.read()),
                false => options().in_memory_by(clock.read()),
            };
            let mut seen = open().unwrap();
            for step in steps {
                match step {
                    Step::Contains(id) => assert_eq!(seen.contains(id.to_string()).await.unwrap(), model.contains(id)),
                    Step::Insert(id) => assert_eq!(seen.insert(id.to_string()).await.unwrap(), model.insert(id)),
                    Step::Remove(id) => assert_eq!(seen.remove(id.to_string()).await.unwrap(), model.remove(id)),
                    Step::Advance(by) => {
                        clock.advance(by);
                        model.now += by;
                    }
                    Step::Reopen => {
                        seen.close().await.unwrap();
                        seen = open().unwrap();
                        if !on_disk {
                            model.ids.clear();
                        }
                    }
                }
            }
        });
    }
}
