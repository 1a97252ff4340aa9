//! Torn or damaged files: a torn end is cut off, a damaged file is refused, and no false record is ever read.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use common::{copy, left, left_ids, record};
use fluffle_store::{Journal, OpenError, Record, StoreErrorKind};
use tempfile::TempDir;

const RECORDS: usize = 60;

/// A journal as a killed process leaves it: each record is a transaction of its own, and all are still in the log.
struct Killed {
    folder: TempDir,
    ids: Vec<String>,
}

impl Killed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alive = folder.path().join("alive.journal");
        let journal = Journal::options().open(&alive).unwrap();
        let ids: Vec<String> = (0..RECORDS).map(|number| format!("id-{number}")).collect();
        for id in &ids {
            let _position = journal.append(record(id)).await.unwrap();
        }
        copy(&alive, &folder.path().join("killed.journal"));
        Self { folder, ids }
    }

    /// A fresh copy to be damaged: the database, and its log.
    fn victim(&self) -> (PathBuf, PathBuf) {
        let (killed, victim) = (self.folder.path().join("killed.journal"), self.folder.path().join("victim.journal"));
        copy(&killed, &victim);
        (victim.clone(), victim.with_extension("journal-wal"))
    }
}

async fn reopened(path: &Path) -> Vec<String> {
    let journal = Journal::options().open(path).unwrap();
    let ids = left_ids(&journal).await;
    // After the damage, the journal works like any other.
    let _position = journal.append(record("after")).await.unwrap();
    journal.close().await.unwrap();
    let journal = Journal::options().open(path).unwrap();
    let mut again = left_ids(&journal).await;
    assert_eq!(again.pop().unwrap(), "after");
    assert_eq!(again, ids);
    journal.close().await.unwrap();
    ids
}

#[tokio::test]
async fn a_log_cut_off_anywhere_ends_with_its_last_whole_transaction() {
    let killed = Killed::new().await;
    let (victim, log) = killed.victim();
    let length = fs::metadata(&log).unwrap().len();
    assert_eq!(reopened(&victim).await, killed.ids);
    let mut shorter = 0;
    for cut in (0..length).step_by(4_999) {
        let (victim, log) = killed.victim();
        File::options().write(true).open(&log).unwrap().set_len(cut).unwrap();
        let ids = reopened(&victim).await;
        assert_eq!(ids, killed.ids[..ids.len()], "cut at {cut}");
        assert!(ids.len() >= shorter, "more of the log holds less");
        shorter = ids.len();
    }
    assert!(shorter > RECORDS / 2);
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_ends_it_there() {
    let killed = Killed::new().await;
    let (_, log) = killed.victim();
    let length = fs::metadata(&log).unwrap().len();
    let mut lengths = Vec::new();
    for at in (0..length).step_by(3_989) {
        let (victim, log) = killed.victim();
        flip(&log, at);
        let ids = reopened(&victim).await;
        assert_eq!(ids, killed.ids[..ids.len()], "flipped at {at}");
        lengths.push(ids.len());
    }
    assert!(lengths.is_sorted(), "{lengths:?}");
}

/// Bits are flipped all over the database file. Either the file is refused with what was found, or nothing was hit and
/// all records are there.
#[tokio::test]
async fn a_flipped_bit_in_the_database_is_never_read_as_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, victim) = (folder.path().join("whole.journal"), folder.path().join("victim.journal"));
    let journal = Journal::options().open(&whole).unwrap();
    let ids: Vec<String> = (0..RECORDS).map(|number| format!("id-{number}")).collect();
    for id in &ids {
        let _position = journal.append(record(id)).await.unwrap();
    }
    journal.close().await.unwrap();
    let (mut refused, mut unhurt) = (0, 0);
    // Each of the first hundred bytes (SQLite's header), and every 61st byte of the rest.
    let length = fs::metadata(&whole).unwrap().len();
    for at in (0..100).chain((100..length).step_by(61)) {
        copy(&whole, &victim);
        flip(&victim, at);
        match Journal::options().open(&victim) {
            Ok(journal) => {
                assert_eq!(left_ids(&journal).await, ids, "flipped at {at}");
                journal.close().await.unwrap();
                unhurt += 1;
            }
            Err(OpenError::Corrupt { path, what }) => {
                assert!(path == victim && !what.is_empty());
                refused += 1;
            }
            // A damaged header may also name another type, or a format that this SQLite can only read.
            Err(OpenError::Foreign { .. } | OpenError::Store(_)) if at < 100 => refused += 1,
            Err(other) => panic!("flipped at {at}: {other:?}"),
        }
    }
    assert!(refused > unhurt, "{refused} refused, {unhurt} unhurt");
}

#[tokio::test]
async fn a_body_that_was_changed_is_named_by_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for id in ["a", "b"] {
        let _position = journal.append(Record::new(id, format!("the order {id}"))).await.unwrap();
    }
    journal.close().await.unwrap();
    let file = fs::read(&path).unwrap();
    let at = file.windows(11).position(|window| window == b"the order b").unwrap();
    flip(&path, at as u64);
    match Journal::options().open(&path) {
        Err(OpenError::Corrupt { what, .. }) => {
            assert_eq!(what, "the record at position 2 does not match its checksum");
        }
        other => panic!("{other:?}"),
    }
}

/// The records are larger than SQLite's cache, so that they are read from the disk.
#[tokio::test]
async fn a_record_that_is_damaged_while_the_journal_is_open_is_an_error_once_and_reading_goes_on_after_it() {
    const LARGE: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for number in 0..8 {
        let _position = journal.append(Record::new(format!("id-{number}"), large(number, LARGE))).await.unwrap();
    }
    journal.close().await.unwrap();
    let journal = Journal::options().open(&path).unwrap();
    let file = fs::read(&path).unwrap();
    for number in [0, 3, 4] {
        let mark = format!("amid record {number}").into_bytes();
        flip(&path, file.windows(mark.len()).position(|window| window == mark).unwrap() as u64);
    }
    let mut reader = journal.reader().unwrap();
    let mut read = Vec::new();
    for _ in 0..8 {
        read.push(reader.next().await.map(|entry| entry.id).map_err(|error| error.kind()));
    }
    let sound = |number: usize| Ok(format!("id-{number}"));
    let damaged = Err(StoreErrorKind::DamagedRecord);
    assert_eq!(read, [damaged.clone(), sound(1), sound(2), damaged.clone(), damaged, sound(5), sound(6), sound(7)]);
    assert_eq!(journal.stats().unconfirmed, 8, "they are kept, for a person to look at");
}

/// A body with a marker text in its middle.
fn large(number: usize, length: usize) -> Vec<u8> {
    let mut body = vec![b'.'; length];
    let mark = format!("amid record {number}").into_bytes();
    body[length / 2..length / 2 + mark.len()].copy_from_slice(&mark);
    body
}

/// A page whose header counts one row too few looks sound to code that only reads rows.
#[tokio::test]
async fn rows_that_are_hidden_are_missed() {
    const PAGE: usize = 4_096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for number in 0..RECORDS {
        let _position = journal.append(record(format!("id-{number}"))).await.unwrap();
    }
    journal.close().await.unwrap();
    let whole = fs::read(&path).unwrap();
    // A leaf page of a table begins with 13; its count of rows is at bytes 3 and 4 (SQLite's file format, section 1.6).
    let leaves: Vec<usize> = (PAGE..whole.len()).step_by(PAGE).filter(|page| whole[*page] == 13).collect();
    assert!(leaves.len() > 3);
    for page in leaves {
        let mut bytes = whole.clone();
        bytes[page + 4] -= 1;
        fs::write(&path, bytes).unwrap();
        let opened = Journal::options().open(&path);
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "page at {page}: {opened:?}");
    }
}

#[tokio::test]
async fn half_a_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let journal = Journal::options().open(&path).unwrap();
    for number in 0..RECORDS {
        let _position = journal.append(record(format!("id-{number}"))).await.unwrap();
    }
    assert!(left(&journal).await.is_empty());
    journal.close().await.unwrap();
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    let opened = Journal::options().open(&path);
    assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
}
