//! The rows of the readers. All SQL about them is here.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::{
    OpenError,
    database::{Database, Purpose, Synced},
};

const OFFSETS: Purpose = Purpose {
    name: "store of stream offsets",
    application_id: 0x466c_754f, // "FluO"
    versions: &["CREATE TABLE offsets (stream TEXT NOT NULL, reader TEXT NOT NULL, next INTEGER NOT NULL, \
                 PRIMARY KEY (stream, reader)) STRICT, WITHOUT ROWID;"],
};

pub(super) struct Table(Database);

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        Database::open(path, &OFFSETS, Synced::EachCommit).map(Self)
    }

    pub(super) fn in_memory() -> Result<Self, rusqlite::Error> {
        Database::in_memory(&OFFSETS).map(Self)
    }

    /// Runs `changes` in one transaction. If it returns an error, nothing has changed.
    pub(super) fn together<T>(
        &mut self,
        changes: impl FnOnce(&Changes<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let transaction = self.0.connection.transaction()?;
        let done = changes(&Changes(&transaction))?;
        transaction.commit()?;
        Ok(done)
    }
}

/// An open transaction.
pub(super) struct Changes<'a>(&'a Connection);

impl Changes<'_> {
    pub(super) fn find(&self, stream: &str, reader: &str) -> Result<Option<u64>, rusqlite::Error> {
        let mut find = self.0.prepare_cached("SELECT next FROM offsets WHERE stream = ?1 AND reader = ?2")?;
        let next = find.query_row([stream, reader], |row| row.get::<_, i64>(0)).optional()?;
        Ok(next.map(i64::unsigned_abs))
    }

    pub(super) fn keep(&self, stream: &str, reader: &str, next: u64) -> Result<(), rusqlite::Error> {
        const KEEP: &str = "INSERT INTO offsets (stream, reader, next) VALUES (?1, ?2, ?3) \
                            ON CONFLICT DO UPDATE SET next = excluded.next WHERE excluded.next > next";
        self.0.prepare_cached(KEEP)?.execute((stream, reader, next.cast_signed()))?;
        Ok(())
    }

    pub(super) fn forget(&self, stream: &str, reader: &str) -> Result<(), rusqlite::Error> {
        let mut forget = self.0.prepare_cached("DELETE FROM offsets WHERE stream = ?1 AND reader = ?2")?;
        forget.execute([stream, reader])?;
        Ok(())
    }
}
