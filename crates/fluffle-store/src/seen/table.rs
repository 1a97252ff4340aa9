//! The window's rows. All SQL about them is here.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Params};

use super::items::{Items, id_of, item_of};
use crate::{
    OpenError,
    database::{Database, Purpose, Synced},
};

/// An id has a row of its own, or it is one of the items of a batch that were inserted together, which have one row.
/// `turn` counts inserts in both tables.
pub(crate) const SEEN: Purpose = Purpose {
    name: "window of seen ids",
    application_id: 0x466c_7553, // "FluS"
    versions: &[
        "CREATE TABLE ids (turn INTEGER PRIMARY KEY, at INTEGER NOT NULL, id TEXT NOT NULL UNIQUE) STRICT;",
        "CREATE TABLE batches (
            turn INTEGER PRIMARY KEY, at INTEGER NOT NULL, batch TEXT NOT NULL, count INTEGER NOT NULL,
            items BLOB NOT NULL
        ) STRICT;
        CREATE INDEX batches_by_batch ON batches (batch);",
    ],
};

/// How many rows are read to find the items of a batch that have rows of their own, in addition to one for each item.
/// If there are more, each item is looked up by itself: ids like `orders/1` may have millions of rows.
const MORE_ROWS: usize = 64;

/// Room for all statements of the window.
const STATEMENTS: usize = 32;

pub(super) struct Table {
    pub(super) database: Database,
    pub(super) ids: u64,
    next: i64,
}

/// A row of one id.
pub(super) struct Row {
    turn: i64,
    /// When it was inserted, in milliseconds since 1970.
    pub(super) at: u64,
}

/// A row of items of a batch that were inserted together.
pub(super) struct BatchRow {
    pub(super) row: Row,
    pub(super) items: Items,
}

/// The oldest row.
pub(super) enum Oldest {
    Id(Row),
    /// With the number of its items.
    Batch(Row, u64),
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
        database.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let number = |sql| database.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let ids = number("SELECT (SELECT count(*) FROM ids) + (SELECT coalesce(sum(count), 0) FROM batches)")?;
        let last = number(
            "SELECT max((SELECT coalesce(max(turn), 0) FROM ids), (SELECT coalesce(max(turn), 0) FROM batches))",
        )?;
        Ok(Self { database, ids: ids.unsigned_abs(), next: last + 1 })
    }

    /// Runs `changes` in one transaction. If it returns an error, nothing has changed.
    pub(super) fn together<T>(
        &mut self,
        changes: impl FnOnce(&mut Changes<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let transaction = self.database.connection.transaction()?;
        let mut open = Changes { connection: &transaction, ids: self.ids, next: self.next };
        let done = changes(&mut open)?;
        let (ids, next) = (open.ids, open.next);
        transaction.commit()?;
        (self.ids, self.next) = (ids, next);
        Ok(done)
    }
}

/// An open transaction.
pub(super) struct Changes<'a> {
    connection: &'a Connection,
    pub(super) ids: u64,
    next: i64,
}

impl Changes<'_> {
    /// The row of this id alone.
    pub(super) fn find(&self, id: &str) -> Result<Option<Row>, rusqlite::Error> {
        self.first("SELECT turn, at FROM ids WHERE id = ?1", [id], row)
    }

    /// The rows of this batch.
    pub(super) fn batches(&self, batch: &str) -> Result<Vec<BatchRow>, rusqlite::Error> {
        let mut select = self.connection.prepare_cached("SELECT turn, at, items FROM batches WHERE batch = ?1")?;
        let rows = select.query_map([batch], |found| {
            Ok(BatchRow { row: row(found)?, items: Items::from_bytes(found.get_ref(2)?.as_blob()?) })
        })?;
        rows.collect()
    }

    /// Those of these items of a batch that have rows of their own, and perhaps others of the batch.
    pub(super) fn alone(&self, batch: &str, items: &[u32]) -> Result<Vec<(u32, Row)>, rusqlite::Error> {
        let most = items.len() + MORE_ROWS;
        // Between these two are the ids that begin with `<batch>/`, because `0` is the character after `/`.
        let mut select =
            self.connection.prepare_cached("SELECT turn, at, id FROM ids WHERE id > ?1 AND id < ?2 LIMIT ?3")?;
        let mut rows = select.query((format!("{batch}/"), format!("{batch}0"), most as i64))?;
        let (mut alone, mut read) = (Vec::new(), 0);
        while let Some(found) = rows.next()? {
            read += 1;
            match item_of(found.get_ref(2)?.as_str()?) {
                Some((of, item)) if of == batch => alone.push((item, row(found)?)),
                _ => {}
            }
        }
        if read < most {
            return Ok(alone);
        }
        let each = items.iter().map(|item| Ok(self.find(&id_of(batch, *item))?.map(|row| (*item, row))));
        each.filter_map(Result::transpose).collect()
    }

    /// The oldest row has the lowest turn, because turns increase with each insert.
    pub(super) fn oldest(&self) -> Result<Option<Oldest>, rusqlite::Error> {
        let id = self.first("SELECT turn, at FROM ids ORDER BY turn LIMIT 1", [], row)?;
        let batch = self.first("SELECT turn, at, count FROM batches ORDER BY turn LIMIT 1", [], |found| {
            Ok((row(found)?, found.get::<_, i64>(2)?.unsigned_abs()))
        })?;
        Ok(match (id, batch) {
            (Some(id), Some((batch, _))) if id.turn < batch.turn => Some(Oldest::Id(id)),
            (_, Some((batch, count))) => Some(Oldest::Batch(batch, count)),
            (id, None) => id.map(Oldest::Id),
        })
    }

    pub(super) fn insert(&mut self, id: &str, at: u64) -> Result<(), rusqlite::Error> {
        let turn = self.turn();
        self.change("INSERT INTO ids (turn, at, id) VALUES (?1, ?2, ?3)", (turn, at.cast_signed(), id))?;
        self.ids += 1;
        Ok(())
    }

    pub(super) fn insert_items(&mut self, batch: &str, items: &Items, at: u64) -> Result<(), rusqlite::Error> {
        let (turn, count) = (self.turn(), items.len());
        self.change(
            "INSERT INTO batches (turn, at, batch, count, items) VALUES (?1, ?2, ?3, ?4, ?5)",
            (turn, at.cast_signed(), batch, count.cast_signed(), items.to_bytes()),
        )?;
        self.ids += count;
        Ok(())
    }

    pub(super) fn remove(&mut self, row: &Row) -> Result<(), rusqlite::Error> {
        self.change("DELETE FROM ids WHERE turn = ?1", [row.turn])?;
        self.ids = self.ids.saturating_sub(1);
        Ok(())
    }

    /// Removes a row with `count` items of a batch.
    pub(super) fn remove_batch(&mut self, row: &Row, count: u64) -> Result<(), rusqlite::Error> {
        self.change("DELETE FROM batches WHERE turn = ?1", [row.turn])?;
        self.ids = self.ids.saturating_sub(count);
        Ok(())
    }

    /// Removes one item from a row that has it.
    pub(super) fn remove_item(&mut self, from: &BatchRow, item: u32) -> Result<(), rusqlite::Error> {
        let mut rest = from.items.clone();
        rest.remove(item);
        let count = rest.len();
        if count == 0 {
            return self.remove_batch(&from.row, 1);
        }
        self.change(
            "UPDATE batches SET count = ?2, items = ?3 WHERE turn = ?1",
            (from.row.turn, count.cast_signed(), rest.to_bytes()),
        )?;
        self.ids = self.ids.saturating_sub(1);
        Ok(())
    }

    fn turn(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    fn first<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Option<T>, rusqlite::Error> {
        self.connection.prepare_cached(sql)?.query_row(values, read).optional()
    }

    fn change(&self, sql: &str, values: impl Params) -> Result<usize, rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute(values)
    }
}

fn row(row: &rusqlite::Row<'_>) -> Result<Row, rusqlite::Error> {
    Ok(Row { turn: row.get(0)?, at: row.get::<_, i64>(1)?.unsigned_abs() })
}
