//! The window's rows. All SQL about them is here.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::{
    OpenError,
    database::{Database, Purpose, Synced},
};

/// "FluS"
pub(crate) const APPLICATION_ID: u32 = 0x466c_7553;

const SEEN: Purpose = Purpose {
    name: "window of seen ids",
    application_id: APPLICATION_ID,
    schema: "CREATE TABLE ids (turn INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL UNIQUE) STRICT;",
};

pub(super) struct Table {
    pub(super) database: Database,
    pub(super) ids: u64,
}

/// The row of an id.
pub(super) struct Row {
    turn: i64,
    /// When it was inserted, in milliseconds since 1970.
    pub(super) at: u64,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let database = Database::open(path, &SEEN, Synced::EachCommit)?;
        Self::counted(database).map_err(|error| OpenError::from_sqlite(path, error))
    }

    pub(super) fn in_memory() -> Result<Self, rusqlite::Error> {
        Self::counted(Database::in_memory(&SEEN)?)
    }

    fn counted(database: Database) -> Result<Self, rusqlite::Error> {
        let ids: i64 = database.connection.query_row("SELECT count(*) FROM ids", [], |row| row.get(0))?;
        Ok(Self { database, ids: ids.unsigned_abs() })
    }

    /// Runs `changes` in one transaction. If it returns an error, nothing has changed.
    pub(super) fn together<T>(
        &mut self,
        changes: impl FnOnce(&mut Changes<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let transaction = self.database.connection.transaction()?;
        let mut open = Changes { connection: &transaction, ids: self.ids };
        let done = changes(&mut open)?;
        let ids = open.ids;
        transaction.commit()?;
        self.ids = ids;
        Ok(done)
    }
}

/// An open transaction.
pub(super) struct Changes<'a> {
    connection: &'a Connection,
    pub(super) ids: u64,
}

impl Changes<'_> {
    pub(super) fn find(&self, id: &str) -> Result<Option<Row>, rusqlite::Error> {
        self.connection.prepare_cached("SELECT turn, at FROM ids WHERE id = ?1")?.query_row([id], row).optional()
    }

    /// The oldest id has the lowest turn, because turns increase with each insert.
    pub(super) fn oldest(&self) -> Result<Option<Row>, rusqlite::Error> {
        self.connection.prepare_cached("SELECT turn, at FROM ids ORDER BY turn LIMIT 1")?.query_row([], row).optional()
    }

    pub(super) fn insert(&mut self, id: &str, at: u64) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached("INSERT INTO ids (at, id) VALUES (?1, ?2)")?.execute((at.cast_signed(), id))?;
        self.ids += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, row: &Row) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached("DELETE FROM ids WHERE turn = ?1")?.execute([row.turn])?;
        self.ids = self.ids.saturating_sub(1);
        Ok(())
    }
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row, rusqlite::Error> {
    Ok(Row { turn: row.get(0)?, at: row.get::<_, i64>(1)?.unsigned_abs() })
}
