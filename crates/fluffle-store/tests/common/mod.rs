//! Helpers for all tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

use fluffle_store::{Entry, Journal, Record};

/// A body of up to 1,000 bytes, made from the id, so that each id has its own.
pub fn body(id: &str) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(u64::from(crc(id)));
    let mut body = vec![0; random.usize(0..1_000)];
    random.fill(&mut body);
    body
}

pub fn record(id: impl Into<String>) -> Record {
    let id = id.into();
    let body = body(&id);
    Record::new(id, body)
}

fn crc(id: &str) -> u32 {
    id.bytes().fold(17, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

/// All entries that were left, each checked against its id.
pub async fn left(journal: &Journal) -> Vec<Entry> {
    let mut left = journal.unconfirmed();
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(entry) = left.next().await.unwrap() {
        assert_eq!(entry.bytes, body(&entry.id), "garbage under {}", entry.id);
        assert!(entries.last().is_none_or(|before| before.position < entry.position), "out of order at {}", entry.id);
        entries.push(entry);
    }
    entries
}

pub async fn left_ids(journal: &Journal) -> Vec<String> {
    left(journal).await.into_iter().map(|entry| entry.id).collect()
}

/// Copies the files to another folder, as a process killed now would leave them.
pub fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    let log = |path: &Path| path.with_extension("journal-wal");
    if log(from).exists() {
        fs::copy(log(from), log(to)).unwrap();
    }
}
