//! One SQLite database with one owner: how it is opened, checked, synced and kept small.

use std::{path::Path, time::Duration};

use rusqlite::Connection;

use crate::{OpenError, lock::PathLock};

/// 4 MiB of the usual pages: less that is free is not worth giving back to the file system.
const WORTH_RECLAIMING: u64 = 1_024;
/// Pages given back in one go, so that nobody waits long behind it.
const RECLAIM: u64 = 2_048;
/// Written to `PRAGMA user_version`; raised when the tables change.
const VERSION: u32 = 1;

/// What a database is for.
pub(crate) struct Purpose {
    /// As an error names it: "journal".
    pub(crate) name: &'static str,
    /// `PRAGMA application_id`, so that one type's file is not opened as another's.
    pub(crate) application_id: u32,
    pub(crate) schema: &'static str,
}

/// When a commit is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    /// When it returns.
    EachCommit,
    /// When [`Database::sync`] returns. Until then the operating system has it: a killed process loses nothing.
    OnDemand,
}

/// A connection, and the lock that makes it the only one.
pub(crate) struct Database {
    // Dropped in this order: the lock outlives the connection.
    pub(crate) connection: Connection,
    /// None for a database in memory.
    lock: Option<PathLock>,
}

impl Database {
    /// Opens or creates the database, and reads all its pages once to know they are sound.
    pub(crate) fn open(path: &Path, purpose: &Purpose, synced: Synced) -> Result<Self, OpenError> {
        let lock = PathLock::take(path)?;
        let failed = |error| OpenError::from_sqlite(path, error);
        let connection = Connection::open(path).map_err(failed)?;
        // The lock file says whose it is at once; waiting would not change that.
        connection.busy_timeout(Duration::ZERO).map_err(failed)?;
        // First of all: or reading would make a file of shared memory.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
        let database = Self { connection, lock: Some(lock) };
        database.configure(synced).map_err(failed)?;
        database.check(path, purpose)?;
        database.prepare(purpose).map_err(failed)?;
        Ok(database)
    }

    /// A database without a file, gone with its connection.
    pub(crate) fn in_memory(purpose: &Purpose) -> Result<Self, rusqlite::Error> {
        let database = Self { connection: Connection::open_in_memory()?, lock: None };
        database.prepare(purpose)?;
        Ok(database)
    }

    fn configure(&self, synced: Synced) -> Result<(), rusqlite::Error> {
        if self.number("PRAGMA page_count")? == 0 {
            // Of a file that is there already it would be a write, which a full disk refuses.
            self.connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        // With NORMAL only checkpoints sync. SQLite's automatic ones keep their errors to themselves, which is harmless only
        // when the log was synced by each commit.
        let (synchronous, autocheckpoint) = if synced == Synced::EachCommit { ("FULL", 1_000) } else { ("NORMAL", 0) };
        // fullfsync: on macOS a plain fsync leaves data in the drive's cache. Elsewhere it means nothing.
        self.connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = {autocheckpoint};
             PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; PRAGMA journal_size_limit = 16777216;"
        ))
    }

    fn check(&self, path: &Path, purpose: &Purpose) -> Result<(), OpenError> {
        let failed = |error| OpenError::from_sqlite(path, error);
        let found: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if found != "ok" {
            return Err(OpenError::Corrupt { path: path.to_path_buf(), what: found });
        }
        let application_id = u32::try_from(self.number("PRAGMA application_id").map_err(failed)?).unwrap_or_default();
        let version = self.number("PRAGMA user_version").map_err(failed)?;
        let tables = self.number("SELECT count(*) FROM sqlite_schema").map_err(failed)?;
        let new = (application_id, version, tables) == (0, 0, 0);
        if new || (application_id, version) == (purpose.application_id, u64::from(VERSION)) {
            return Ok(());
        }
        let found = format!("application id {application_id:#x}, version {version}, {tables} tables and indexes");
        Err(OpenError::Foreign { path: path.to_path_buf(), expected: purpose.name, found })
    }

    /// All or nothing, so a crash in between leaves an empty file that is taken for a new one.
    fn prepare(&self, purpose: &Purpose) -> Result<(), rusqlite::Error> {
        if self.number("PRAGMA user_version")? == u64::from(VERSION) {
            return Ok(());
        }
        self.connection.execute_batch(&format!(
            "BEGIN; {} PRAGMA application_id = {}; PRAGMA user_version = {VERSION}; COMMIT;",
            purpose.schema, purpose.application_id
        ))
    }

    /// Puts all that was committed on the disk, whatever the policy: a checkpoint syncs the log, then the database.
    pub(crate) fn sync(&self) -> Result<(), rusqlite::Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Gives free pages back to the file system, some at a time; true when there are more.
    ///
    /// Half the file may stay free: a store under load would use those pages again at once.
    pub(crate) fn reclaim(&self) -> Result<bool, rusqlite::Error> {
        let free = self.number("PRAGMA freelist_count")?;
        if self.lock.is_none() || free < WORTH_RECLAIMING || free * 2 < self.number("PRAGMA page_count")? {
            return Ok(false);
        }
        self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({RECLAIM})"))?;
        // The file gets shorter with a checkpoint, and so few pages change that none would come by itself.
        self.sync()?;
        Ok(self.number("PRAGMA freelist_count")? < free)
    }

    fn number(&self, query: &str) -> Result<u64, rusqlite::Error> {
        self.connection
            .prepare_cached(query)?
            .query_row([], |row| row.get::<_, i64>(0))
            .map(|number| number.max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose = Purpose { name: "test", application_id: 7, schema: "CREATE TABLE t (a);" };

    /// No test can cut the power, so this is what can be seen of it: the settings that SQLite's promises hang on.
    #[test]
    fn each_commit_waits_for_the_disk_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        for (synced, synchronous, autocheckpoint) in [(Synced::EachCommit, 2, 1_000), (Synced::OnDemand, 1, 0)] {
            let database = Database::open(&folder.path().join("store"), &PURPOSE, synced).unwrap();
            let mode: String = database.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
            assert_eq!(database.number("PRAGMA synchronous").unwrap(), synchronous);
            assert_eq!(database.number("PRAGMA wal_autocheckpoint").unwrap(), autocheckpoint);
            assert_eq!(database.number("PRAGMA auto_vacuum").unwrap(), 2);
        }
    }
}
