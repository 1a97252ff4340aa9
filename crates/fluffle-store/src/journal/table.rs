//! The journal's rows. All SQL about them is here.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row};

use super::{Entry, Position, Record, command::Page, record::small, shared::Left};
use crate::{
    OpenError, StoreError,
    database::{Database, Purpose, Synced},
};

// The checksum is before the body, so that SQLite reads it without walking the pages of a large body.
pub(crate) const JOURNAL: Purpose = Purpose {
    name: "journal",
    application_id: 0x466c_754a, // "FluJ"
    versions: &["CREATE TABLE records (
        position INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, id TEXT NOT NULL, body BLOB NOT NULL
    ) STRICT;"],
};

/// The most entries in a page of [`Table::page`], and the bytes after which it ends.
const PAGE_ENTRIES: usize = 256;
const PAGE_BYTES: u64 = 1 << 20;

pub(super) struct Table {
    pub(super) database: Database,
    next: i64,
}

impl Table {
    /// Opens the table and checks every record in it.
    pub(super) fn open(path: &Path, synced: Synced) -> Result<(Self, Left), OpenError> {
        let database = Database::open(path, &JOURNAL, synced)?;
        let left = survey(&database).map_err(|damage| match damage {
            Damage::Record(what) => OpenError::Corrupt { path: path.to_path_buf(), what },
            Damage::Sqlite(error) => OpenError::from_sqlite(path, error),
        })?;
        Ok((Self { database, next: left.last + 1 }, left))
    }

    /// In one transaction, removes the confirmed records and then appends. Returns the first position appended, and for
    /// each confirmed record whether it was still there.
    pub(super) fn commit<'r>(
        &mut self,
        append: impl IntoIterator<Item = &'r Record>,
        confirmed: &[Position],
    ) -> Result<(i64, Vec<bool>), rusqlite::Error> {
        let first = self.next;
        let mut next = first;
        let transaction = self.database.connection.transaction()?;
        let mut removed = Vec::with_capacity(confirmed.len());
        {
            let mut remove = transaction.prepare_cached("DELETE FROM records WHERE position = ?1")?;
            for position in confirmed {
                removed.push(remove.execute([position.number])? == 1);
            }
            let mut insert = transaction.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4)")?;
            for record in append {
                let checksum = checksum(next, record.id.as_bytes(), &record.bytes);
                insert.execute((next, checksum, &record.id, &*record.bytes))?;
                next += 1;
            }
        }
        transaction.commit()?;
        self.next = next;
        Ok((first, removed))
    }

    /// The id of the record with the lowest position.
    pub(super) fn oldest_id(&self) -> Result<Option<String>, rusqlite::Error> {
        let mut select = self.database.connection.prepare_cached("SELECT id FROM records ORDER BY position LIMIT 1")?;
        select.query_row([], |row| row.get(0)).optional()
    }

    /// The entries after `after` and up to `last`, in order. The page is empty only if there are no more.
    pub(super) fn page(&self, path: &Path, after: i64, last: i64) -> Result<Page, StoreError> {
        let read = || {
            let mut select = self.database.connection.prepare_cached(
                "SELECT position, checksum, id, body FROM records \
                 WHERE position > ?1 AND position <= ?2 ORDER BY position",
            )?;
            let mut rows = select.query([after, last])?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while page.len() < PAGE_ENTRIES
                && bytes < PAGE_BYTES
                && let Some(row) = rows.next()?
            {
                let (position, id, body) = match sound(row) {
                    Ok(sound) => sound,
                    Err(Damage::Record(what)) if page.is_empty() => {
                        return Ok(Page::Damaged {
                            position: row.get(0)?,
                            error: StoreError::damaged_record(path, what),
                        });
                    }
                    // Return the good records before the damaged one first.
                    Err(Damage::Record(_)) => break,
                    Err(Damage::Sqlite(error)) => return Err(error),
                };
                let record = Record { id: id.to_owned(), bytes: Bytes::copy_from_slice(body) };
                bytes += record.size();
                let position = Position { number: position, size: small(record.size()) };
                page.push(Entry { position, id: record.id, bytes: record.bytes });
            }
            Ok(Page::Entries(page))
        };
        read().map_err(|error| StoreError::from_sqlite(path, error))
    }
}

enum Damage {
    Record(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Damage {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn survey(database: &Database) -> Result<Left, Damage> {
    let mut left = Left::default();
    let mut select =
        database.connection.prepare("SELECT position, checksum, id, body FROM records ORDER BY position")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (position, id, body) = sound(row)?;
        left.records += 1;
        left.bytes += super::record::size(id.len(), body.len());
        left.last = position;
    }
    Ok(left)
}

/// A row's position, id and body. An error if they are not what was written.
fn sound<'a>(row: &'a Row<'_>) -> Result<(i64, &'a str, &'a [u8]), Damage> {
    let position = row.get(0)?;
    let damaged = |what: &str| Damage::Record(format!("the record at position {position} {what}"));
    let id = row.get_ref(2)?.as_bytes().map_err(|_| damaged("has no id"))?;
    let body = row.get_ref(3)?.as_bytes().map_err(|_| damaged("has no body"))?;
    if row.get_ref(1)?.as_i64().ok() != Some(i64::from(checksum(position, id, body))) {
        return Err(damaged("does not match its checksum"));
    }
    let id = std::str::from_utf8(id).map_err(|_| damaged("has an id that is not UTF-8"))?;
    Ok((position, id, body))
}

/// A CRC-32 over the whole record, because SQLite checks its log but not its pages.
fn checksum(position: i64, id: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&position.to_le_bytes());
    crc.update(&(id.len() as u64).to_le_bytes());
    crc.update(id);
    crc.update(body);
    crc.finalize()
}
