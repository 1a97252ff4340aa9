//! The contract of the journal: order, room, cancellation, one owner.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::{fs, path::Path, time::Duration};

use common::{left, left_ids, record};
use fluffle_store::{
    AppendErrorKind, Flush, Journal, LARGEST_BODY, LONGEST_ID, OpenError, Record, SeenIds, StoreErrorKind, WhenFull,
};
use futures_util::{
    FutureExt,
    future::{join_all, try_join_all},
    poll,
};

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_not_confirmed_is_there_next_time_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for number in 0..600 {
        let position = journal.append(record(format!("id-{number}"))).await.unwrap();
        if number % 2 == 0 {
            journal.confirm(position);
        }
    }
    journal.close().await.unwrap();

    let journal = Journal::options().open(&path).unwrap();
    let odd: Vec<String> = (0..600).filter(|number| number % 2 == 1).map(|number| format!("id-{number}")).collect();
    assert_eq!(left_ids(&journal).await, odd);
    assert_eq!(journal.stats().unconfirmed, 300);

    // Records appended now come after those, and do not count as left by an earlier process.
    let last = left(&journal).await.pop().unwrap().position;
    assert!(journal.append(record("new")).await.unwrap() > last);
    assert_eq!(left_ids(&journal).await, odd);
    for entry in left(&journal).await {
        journal.confirm(entry.position);
    }
    journal.close().await.unwrap();

    let journal = Journal::options().open(&path).unwrap();
    assert_eq!(left_ids(&journal).await, ["new"]);
    assert_eq!(journal.stats().bytes, record("new").size());
}

#[tokio::test]
async fn a_record_confirmed_by_two_readers_is_gone_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    let _position = journal.append(record("one")).await.unwrap();
    let _position = journal.append(record("two")).await.unwrap();
    journal.close().await.unwrap();

    let journal = Journal::options().open(&path).unwrap();
    let (mut first, mut second) = (left(&journal).await, left(&journal).await);
    journal.confirm(first.remove(0).position);
    journal.confirm(second.remove(0).position);
    journal.flush().await.unwrap();
    let stats = journal.stats();
    assert_eq!((stats.unconfirmed, stats.bytes, stats.confirmed), (1, record("two").size(), 1));
}

#[tokio::test]
async fn a_sync_serves_many_callers() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().open(folder.path().join("orders.journal")).unwrap();
    let appends = (0..5_000).map(|number| journal.append(record(format!("id-{number}"))));
    let _positions = try_join_all(appends).await.unwrap();
    let stats = journal.stats();
    assert_eq!(stats.appended, 5_000);
    assert!(stats.syncs <= 500, "{} syncs for 5000 records", stats.syncs);
}

#[tokio::test]
async fn what_is_enqueued_in_order_is_there_in_order_without_a_wait_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    let ids: Vec<String> = (0..3_000).map(|number| format!("id-{number}")).collect();
    let mut enqueued = Vec::new();
    for id in &ids {
        enqueued.push(journal.enqueue(record(id)).await.unwrap());
    }
    assert!(try_join_all(enqueued).await.unwrap().is_sorted());
    journal.close().await.unwrap();
    assert_eq!(left_ids(&Journal::options().open(&path).unwrap()).await, ids);
}

#[tokio::test]
async fn each_syncs_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().flush(Flush::Each).open(folder.path().join("orders.journal")).unwrap();
    join_all((0..40).map(|number| journal.append(record(format!("id-{number}"))))).await;
    assert_eq!(journal.stats().syncs, 40);
}

#[tokio::test]
async fn an_interval_syncs_when_it_is_over_and_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let rare = Journal::options().flush(Flush::Interval(Duration::from_secs(3600)));
    let journal = rare.open(folder.path().join("rare.journal")).unwrap();
    for number in 0..20 {
        let _position = journal.append(record(format!("id-{number}"))).await.unwrap();
    }
    assert_eq!(journal.stats().syncs, 0);
    journal.flush().await.unwrap();
    assert_eq!(journal.stats().syncs, 1);
    // A long interval must not let the log grow without limit.
    for number in 0..10 {
        let _position = journal.append(Record::new(format!("large-{number}"), vec![7; 1 << 20])).await.unwrap();
    }
    assert_eq!(journal.stats().syncs, 2);

    let often = Journal::options().flush(Flush::Interval(Duration::from_millis(10)));
    let journal = often.open(folder.path().join("often.journal")).unwrap();
    let _position = journal.append(record("one")).await.unwrap();
    tokio::time::timeout(DEADLINE, async {
        while journal.stats().syncs == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_oldest_record_is_looked_up_for_who_asks_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().open(folder.path().join("orders.journal")).unwrap();
    assert!(journal.oldest_id().is_none(), "nobody has asked before");
    let oldest = async |wished: Option<&str>| {
        let asked = std::time::Instant::now();
        let is_it = || journal.oldest_id().map(|(id, at)| (id, at >= asked));
        while is_it() != wished.map(|id| (id.to_owned(), true)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let first = journal.append(record("one")).await.unwrap();
    let second = journal.append(record("two")).await.unwrap();
    for (id, next) in [(Some("one"), Some(first)), (Some("two"), Some(second)), (None, None)] {
        tokio::time::timeout(DEADLINE, oldest(id)).await.unwrap();
        next.into_iter().for_each(|position| journal.confirm(position));
    }
}

#[tokio::test]
async fn a_lone_confirm_is_written_without_another_append() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().open(folder.path().join("orders.journal")).unwrap();
    let position = journal.append(record("one")).await.unwrap();
    journal.confirm(position);
    tokio::time::timeout(DEADLINE, async {
        while journal.stats().confirmed == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_full_journal_refuses_when_told_to_and_goes_on_after_confirms() {
    let folder = tempfile::tempdir().unwrap();
    let sized = |id: &str| Record::new(id, vec![0; 1_000 - 32 - id.len()]);
    let options = Journal::options().max_bytes(3_000).when_full(WhenFull::Error);
    let journal = options.open(folder.path().join("orders.journal")).unwrap();
    let mut positions = Vec::new();
    for id in ["a", "b", "c"] {
        positions.push(journal.append(sized(id)).await.unwrap());
    }
    let refused = journal.append(sized("d")).await.unwrap_err();
    assert_eq!(refused.record, sized("d"));
    assert!(matches!(refused.kind, AppendErrorKind::Full { max_bytes: 3_000 }), "{refused:?}");
    assert_eq!(journal.stats().bytes, 3_000);

    journal.confirm(positions.remove(0));
    journal.flush().await.unwrap();
    let _position = journal.append(refused.record).await.unwrap();
    assert_eq!(journal.stats().bytes, 3_000);
}

#[tokio::test]
async fn a_full_journal_has_appends_wait_for_confirms_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let sized = |id: &str| Record::new(id, vec![0; 1_000 - 32 - id.len()]);
    let journal = Journal::options().max_bytes(2_000).open(folder.path().join("orders.journal")).unwrap();
    let a = journal.append(sized("a")).await.unwrap();
    let b = journal.append(sized("b")).await.unwrap();
    let (mut c, mut d) = (Box::pin(journal.append(sized("c"))), Box::pin(journal.append(sized("d"))));
    assert!(poll!(&mut c).is_pending() && poll!(&mut d).is_pending());
    journal.flush().await.unwrap();
    assert!(poll!(&mut c).is_pending() && poll!(&mut d).is_pending());
    assert_eq!(journal.stats().appended, 2);

    journal.confirm(a);
    let c = tokio::time::timeout(DEADLINE, c).await.unwrap().unwrap();
    assert!(poll!(&mut d).is_pending());
    journal.confirm(b);
    assert!(tokio::time::timeout(DEADLINE, d).await.unwrap().unwrap() > c);
}

#[tokio::test]
async fn those_who_wait_for_room_hear_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().max_bytes(100).open(&path).unwrap();
    let _position = journal.append(Record::new("a", vec![0; 60])).await.unwrap();
    let mut waits = Box::pin(journal.append(Record::new("b", vec![0; 60])));
    assert!(poll!(&mut waits).is_pending());
    journal.close().await.unwrap();
    let refused = tokio::time::timeout(DEADLINE, waits).await.unwrap().unwrap_err();
    assert_eq!(refused.record.id, "b");
    for refused in [refused, journal.append(Record::new("c", "")).await.unwrap_err()] {
        assert!(matches!(&refused.kind, AppendErrorKind::Store(error) if error.kind() == StoreErrorKind::Closed));
    }
    assert_eq!(journal.flush().await.unwrap_err().kind(), StoreErrorKind::Closed);
    assert_eq!(journal.close().await.unwrap_err().kind(), StoreErrorKind::Closed);
}

#[tokio::test]
async fn what_was_left_counts_even_past_a_lowered_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for id in ["a", "b", "c"] {
        let _position = journal.append(Record::new(id, vec![0; 967])).await.unwrap();
    }
    journal.close().await.unwrap();

    let journal = Journal::options().max_bytes(1_500).when_full(WhenFull::Error).open(&path).unwrap();
    let mut left = journal.unconfirmed();
    for fits in [false, true] {
        journal.confirm(left.next().await.unwrap().unwrap().position);
        journal.flush().await.unwrap();
        let next = journal.append(Record::new("d", vec![0; 400])).await;
        assert_eq!(next.is_ok(), fits, "{next:?}");
    }
}

#[tokio::test]
async fn records_past_the_limits_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().max_bytes(1_000).open(folder.path().join("orders.journal")).unwrap();
    let refused = journal.append(Record::new("a", vec![0; 1_000])).await.unwrap_err();
    assert!(matches!(refused.kind, AppendErrorKind::TooLarge { size: 1_033, max_bytes: 1_000 }), "{refused:?}");
    let refused = journal.append(Record::new("a".repeat(LONGEST_ID + 1), "")).await.unwrap_err();
    assert!(matches!(refused.kind, AppendErrorKind::IdTooLong { length: 256 }), "{refused:?}");

    let journal = Journal::options().max_bytes(u64::MAX).open(folder.path().join("vast.journal")).unwrap();
    let refused = journal.append(Record::new("a", vec![0; LARGEST_BODY + 1])).await.unwrap_err();
    assert!(matches!(refused.kind, AppendErrorKind::TooLarge { .. }), "{:?}", refused.kind);
    let position = journal.append(Record::new("a", "small")).await.unwrap();
    journal.confirm(position);
    journal.flush().await.unwrap();
}

#[tokio::test]
async fn a_dropped_append_leaves_nothing_and_keeps_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let options = Journal::options().max_bytes(1_000_000).when_full(WhenFull::Error);
    let journal = options.open(folder.path().join("orders.journal")).unwrap();
    for round in 0..50 {
        let mut appends: Vec<_> = (0..20).map(|_| Box::pin(journal.append(record("dropped")))).collect();
        for append in &mut appends {
            // The thread may have written the record already.
            if let Some(done) = append.as_mut().now_or_never() {
                journal.confirm(done.unwrap());
            }
        }
        if round % 2 == 0 {
            // The records are written, but nobody will read the answers.
            journal.flush().await.unwrap();
        }
    }
    // The first flush writes the records dropped just before, the second removes them.
    journal.flush().await.unwrap();
    journal.flush().await.unwrap();
    let stats = journal.stats();
    assert_eq!((stats.unconfirmed, stats.bytes), (0, 0), "{stats:?}");
    let _position = journal.append(Record::new("a", vec![0; 1_000_000 - 33])).await.unwrap();
}

#[tokio::test]
async fn a_journal_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    match Journal::options().open(&path) {
        Err(OpenError::Locked { path: named, owner }) => {
            assert_eq!((named, owner), (path.clone(), Some(std::process::id())));
        }
        other => panic!("{other:?}"),
    }
    // Even if somebody deletes the lock file, the journal cannot be opened twice.
    fs::remove_file(folder.path().join("orders.journal-lock")).unwrap();
    let second = Journal::options().open(&path);
    assert!(matches!(second, Err(OpenError::Locked { owner: None, .. })), "{second:?}");

    journal.close().await.unwrap();
    Journal::options().open(&path).unwrap();
}

#[tokio::test]
async fn something_else_is_not_opened_as_a_journal() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("orders.seen");
    SeenIds::options().open(&seen).unwrap().close().await.unwrap();
    assert!(matches!(Journal::options().open(&seen), Err(OpenError::Foreign { .. })));

    let text = folder.path().join("notes");
    fs::write(&text, "notes\n".repeat(1_000)).unwrap();
    assert!(matches!(Journal::options().open(&text), Err(OpenError::Corrupt { .. })));
    assert_eq!(fs::read_to_string(&text).unwrap(), "notes\n".repeat(1_000));

    let nowhere = Journal::options().open(folder.path().join("nowhere/orders.journal"));
    assert!(matches!(&nowhere, Err(OpenError::Store(error)) if error.kind() == StoreErrorKind::Io), "{nowhere:?}");
}

#[tokio::test]
async fn space_is_used_again_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    // Records are confirmed as they come: 15 MB go through a file that stays small.
    let mut in_flight = Vec::new();
    for round in 0..50 {
        let appends = (0..1_000).map(|number| journal.append(Record::new(format!("{round}-{number}"), vec![1; 300])));
        let positions = try_join_all(appends).await.unwrap();
        for position in std::mem::replace(&mut in_flight, positions) {
            journal.confirm(position);
        }
    }
    journal.flush().await.unwrap();
    assert!(on_disk(folder.path()) < 10 << 20, "{}", on_disk(folder.path()));

    // An outage: 12 MB of records gather, then all are confirmed.
    let large = (0..300).map(|number| journal.append(Record::new(format!("{number}"), vec![1; 40_000])));
    in_flight.extend(try_join_all(large).await.unwrap());
    assert!(on_disk(folder.path()) > 11 << 20);
    in_flight.into_iter().for_each(|position| journal.confirm(position));
    journal.close().await.unwrap();
    // The other free pages are given back with the next process's first work.
    let journal = Journal::options().open(&path).unwrap();
    assert_eq!(journal.stats().unconfirmed, 0);
    let position = journal.append(record("next")).await.unwrap();
    tokio::time::timeout(DEADLINE, async {
        while fs::metadata(&path).unwrap().len() > 5 << 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    journal.confirm(position);
    journal.close().await.unwrap();
    assert!(on_disk(folder.path()) < 5 << 20, "{}", on_disk(folder.path()));
}

fn on_disk(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().map_or(0, |file| file.len())).sum()
}

#[tokio::test]
async fn a_reader_reads_what_was_left_and_then_what_comes_each_once_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for number in 0..300 {
        let _left = journal.append(record(format!("id-{number}"))).await.unwrap();
    }
    journal.close().await.unwrap();

    let journal = Journal::options().open(&path).unwrap();
    let mut reader = journal.reader().unwrap();
    let appending = async {
        for number in 300..600 {
            let _position = journal.append(record(format!("id-{number}"))).await.unwrap();
        }
    };
    let reading = async {
        let mut ids = Vec::new();
        while ids.len() < 600 {
            let entry = reader.next().await.unwrap();
            ids.push(entry.id);
            journal.confirm(entry.position);
        }
        ids
    };
    let ((), ids) = tokio::time::timeout(DEADLINE, async { tokio::join!(appending, reading) }).await.unwrap();
    assert_eq!(ids, (0..600).map(|number| format!("id-{number}")).collect::<Vec<_>>());
    assert!(poll!(Box::pin(reader.next())).is_pending(), "there is no more");
}

#[tokio::test]
async fn a_journal_has_one_reader_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().open(folder.path().join("orders.journal")).unwrap();
    let reader = journal.reader().unwrap();
    assert!(journal.clone().reader().is_none());
    drop(reader);
    assert!(journal.reader().is_some());
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_an_append() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().open(folder.path().join("orders.journal")).unwrap();
    let mut reader = journal.reader().unwrap();
    let mut reading = Box::pin(reader.next());
    assert!(poll!(&mut reading).is_pending());
    let _position = journal.append(record("late")).await.unwrap();
    assert_eq!(tokio::time::timeout(DEADLINE, reading).await.unwrap().unwrap().id, "late");
}

#[tokio::test]
async fn a_reserved_place_is_nobody_elses_and_what_it_does_not_need_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let size = record("a").size();
    let options = Journal::options().max_bytes(4 * size).when_full(WhenFull::Error);
    let journal = options.open(folder.path().join("j")).unwrap();
    let place = journal.reserve(3 * size).await.unwrap();
    assert!(matches!(journal.reserve(2 * size).await.unwrap_err(), AppendErrorKind::Full { .. }));
    assert!(matches!(journal.reserve(5 * size).await.unwrap_err(), AppendErrorKind::TooLarge { .. }));
    drop(place);
    let place = journal.reserve(4 * size).await.unwrap();
    // A posted place keeps only the room that its record takes; the rest is free for others. Its answer may be dropped.
    drop(place.post(record("a")).unwrap());
    let other = journal.reserve(3 * size).await.unwrap();
    assert!(matches!(journal.reserve(size).await.unwrap_err(), AppendErrorKind::Full { .. }));
    let large = Record::new("b", vec![0; 3 * record("a").size() as usize]);
    let error = other.post(large).unwrap_err();
    assert!(matches!(error.kind, AppendErrorKind::TooLarge { .. }), "{error}");
    let place = journal.reserve(3 * size).await.expect("what was refused gave its room back");
    let _position = place.post(record("c")).unwrap().await.unwrap();
    journal.close().await.unwrap();
    let journal = Journal::options().open(folder.path().join("j")).unwrap();
    assert_eq!(left_ids(&journal).await, ["a", "c"]);
}
