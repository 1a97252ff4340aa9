//! Looks into a store that may belong to a running process, without touching it.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};

use crate::{
    OpenError, StoreError,
    database::Purpose,
    journal::JOURNAL,
    seen::{Items, SEEN, id_of},
};

/// Copying is tried again this often, if the store's process changes the file meanwhile.
const TRIES: u32 = 20;
/// The wait before the next try.
const PAUSE: Duration = Duration::from_millis(50);
/// The most rows that one look gives.
const MOST_ROWS: usize = 100;

/// A record of a journal that is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaled {
    /// Its position, from 1. Positions are ordered by the time of appending.
    pub position: u64,
    /// Its id.
    pub id: String,
    /// Its body.
    pub bytes: Bytes,
}

/// Looks for the unconfirmed records with this id in the journal at `path`, also while a process has it open: for
/// tools. Gives at most 100. A record that is confirmed has been removed, so an empty answer means that the message was
/// confirmed, or was never in this journal.
///
/// Works on a copy of the files in a temporary folder, because a journal belongs to one process and this one must not
/// disturb it. The answer is as old as the copy. Blocks, and needs as much room as the journal.
///
/// # Errors
///
/// [`OpenError`] if there is no such file, if it is no journal or is damaged, or if it changed during each of 20 tries
/// to copy it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.journal");
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use fluffle_store::{Journal, Record, find_journaled};
///
/// let journal = Journal::options().open(&path)?;
/// let position = journal.append(Record::new("01997b1c", "an order")).await?;
/// assert_eq!(find_journaled(&path, "01997b1c")?[0].bytes, "an order");
/// # drop(position);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn find_journaled(path: impl AsRef<Path>, id: &str) -> Result<Vec<Journaled>, OpenError> {
    let path = path.as_ref();
    let copy = Copied::of(path, &JOURNAL)?;
    let look = || {
        let sql = "SELECT position, id, body FROM records WHERE id = ?1 ORDER BY position LIMIT ?2";
        let mut select = copy.connection.prepare(sql)?;
        let found = select.query_map((id, MOST_ROWS as i64), |row| {
            let position = row.get::<_, i64>(0)?.unsigned_abs();
            Ok(Journaled { position, id: row.get(1)?, bytes: row.get::<_, Vec<u8>>(2)?.into() })
        })?;
        found.collect::<Result<Vec<_>, _>>()
    };
    look().map_err(|error| OpenError::from_sqlite(path, error))
}

/// Looks for a message in the window of seen ids at `path`, also while a process has it open: for tools. Gives the ids
/// that are `id`, or that hold it between `/` or at an end (a consumer's queue stands before it; the index in a batch,
/// or a replay, behind it), each with the time at which it was recorded. At most 100. Reads all ids.
///
/// Works on a copy, as [`find_journaled`] does, with the same errors.
///
/// # Errors
///
/// See [`find_journaled`].
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("seen");
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use fluffle_store::{SeenIds, find_seen};
///
/// let seen = SeenIds::options().open(&path)?;
/// assert!(find_seen(&path, "01997b1c")?.is_empty());
/// # drop(seen);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn find_seen(path: impl AsRef<Path>, id: &str) -> Result<Vec<(String, SystemTime)>, OpenError> {
    let path = path.as_ref();
    let copy = Copied::of(path, &SEEN)?;
    let look = || {
        let sql = "SELECT turn, at, id, NULL FROM ids WHERE instr('/' || id || '/', '/' || ?1 || '/') > 0
                   UNION ALL SELECT turn, at, batch, items FROM batches ORDER BY turn";
        let (mut select, mut found) = (copy.connection.prepare(sql)?, Vec::new());
        let (mut rows, wanted) = (select.query([id])?, format!("/{id}/"));
        let number = id.rsplit('/').next().and_then(|number| number.parse().ok());
        while let Some(row) = rows.next()?
            && found.len() < MOST_ROWS
        {
            let at = UNIX_EPOCH + Duration::from_millis(row.get::<_, i64>(1)?.unsigned_abs());
            let (name, items): (String, Option<Vec<u8>>) = (row.get(2)?, row.get(3)?);
            let Some(items) = items.map(|items| Items::from_bytes(&items)) else {
                found.push((name, at));
                continue;
            };
            if format!("/{name}/").contains(&wanted) {
                found.extend(items.iter().take(MOST_ROWS).map(|item| (id_of(&name, item), at)));
            } else if let Some(item) = number.filter(|item| items.contains(*item)) {
                let only = id_of(&name, item);
                found.extend(format!("/{only}/").ends_with(&wanted).then_some((only, at)));
            }
        }
        found.truncate(MOST_ROWS);
        Ok(found)
    };
    look().map_err(|error| OpenError::from_sqlite(path, error))
}

/// A copy of a store, which is deleted with this value.
struct Copied {
    // Dropped before the folder that holds its file.
    connection: Connection,
    _folder: tempfile::TempDir,
}

impl Copied {
    fn of(path: &Path, purpose: &Purpose) -> Result<Self, OpenError> {
        let io = |error| OpenError::Store(StoreError::io(path, error));
        let sqlite = |error| OpenError::from_sqlite(path, error);
        let folder = tempfile::Builder::new().prefix("fluffle-look-").tempdir().map_err(io)?;
        let copy = folder.path().join("copy");
        copy_both(path, &copy).map_err(io)?;
        // Writable, because the copied log is written into the copied database first.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&copy, flags).map_err(sqlite)?;
        let found: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(sqlite)?;
        if found != i64::from(purpose.application_id) {
            let found = format!("application id {found:#x}");
            return Err(OpenError::Foreign { path: path.to_path_buf(), expected: purpose.name, found });
        }
        // The file of an earlier version: the copy is brought up to date.
        purpose.prepare(&connection).map_err(sqlite)?;
        Ok(Self { connection, _folder: folder })
    }
}

/// Copies database and log. If neither was replaced and the database did not change meanwhile, no part of the log was
/// written into it, so the copy of the log, up to its last whole transaction, belongs to the copy of the database.
fn copy_both(path: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        let before = State::of(path)?;
        fs::copy(path, to)?;
        match fs::copy(beside(path), beside(to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // One of an earlier try does not belong to this copy.
                match fs::remove_file(beside(to)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            copied => drop(copied?),
        }
        if before.is_settled() && State::of(path)? == before {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    let why = format!("its process wrote to the file during each of {TRIES} tries to copy it; try again");
    Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
}

/// What changes when a part of the log is written into the database, or the log begins anew.
#[derive(PartialEq, Eq)]
struct State {
    length: u64,
    modified: SystemTime,
    /// The header of the log, which holds new salts each time that the log begins anew. `None`: there is no log.
    log: Option<Vec<u8>>,
}

impl State {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let log = match fs::File::open(beside(path)) {
            Ok(file) => {
                let mut header = Vec::new();
                file.take(32).read_to_end(&mut header)?;
                Some(header)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { length: metadata.len(), modified: metadata.modified()?, log })
    }

    /// Whether the last change is so old that another one would get another time: file systems count in milliseconds.
    fn is_settled(&self) -> bool {
        self.modified.elapsed().is_ok_and(|age| age >= PAUSE)
    }
}

/// SQLite's log of a database.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::{Journal, Record, SeenIds};

    #[tokio::test]
    async fn a_look_sees_what_an_open_journal_holds_and_leaves_it_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::options().open(&path).unwrap();
        let ids: Vec<_> = (0..500).map(|n| format!("m{n}")).collect();
        let appended = join_all(ids.iter().map(|id| journal.append(Record::new(id.as_str(), "body")))).await;
        let mut positions: Vec<_> = appended.into_iter().map(Result::unwrap).collect();
        let found = find_journaled(&path, "m499").unwrap();
        assert_eq!((found.len(), found[0].position), (1, positions[499].get()));
        assert_eq!(found[0].bytes, "body");
        journal.confirm(positions.pop().unwrap());
        journal.close().await.unwrap();
        assert_eq!(find_journaled(&path, "m499").unwrap(), []);
        assert_eq!(find_journaled(&path, "m498").unwrap().len(), 1);
        assert_eq!(Journal::options().open(&path).unwrap().stats().unconfirmed, 499);
    }

    #[tokio::test]
    async fn a_seen_id_is_found_with_its_items_and_replays_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        let seen = SeenIds::options().open(&path).unwrap();
        for id in ["b", "b/0", "6:orders/b/replay/r1", "b0", "6:orders/ab", "a"] {
            seen.insert(id).await.unwrap();
        }
        let ids: Vec<_> = find_seen(&path, "b").unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["b", "b/0", "6:orders/b/replay/r1"]);
        seen.insert_items("6:orders/b", [1, 2]).await.unwrap();
        seen.insert_items("6:orders/bb", [1]).await.unwrap();
        let ids: Vec<_> = find_seen(&path, "b").unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids[3..], ["6:orders/b/1", "6:orders/b/2"]);
        for (id, found) in [("b/2", true), ("orders/b/1", false), ("b/3", false), ("b/1/2", false)] {
            assert_eq!(!find_seen(&path, id).unwrap().is_empty(), found, "{id}");
        }
        assert!(find_seen(&path, "nothing").unwrap().is_empty());
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seen");
        drop(SeenIds::options().open(&path).unwrap());
        assert!(matches!(find_journaled(&path, "x"), Err(OpenError::Foreign { expected: "journal", .. })));
        fs::write(&path, "no database, but long enough to have been one").unwrap();
        assert!(find_seen(&path, "x").is_err());
        assert!(find_seen(folder.path().join("absent"), "x").is_err());
        assert!(!folder.path().join("absent").exists(), "a look creates nothing");
    }
}
