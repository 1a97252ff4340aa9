//! A SQLite database with one owner: opens, checks, syncs and shrinks it.

use std::{path::Path, time::Duration};

use rusqlite::Connection;

use crate::{OpenError, lock::PathLock};

/// In pages; 4 MiB at the usual page size. Fewer free pages are not given back to the file system.
const WORTH_RECLAIMING: u64 = 1_024;
/// The most pages given back at once, so that callers do not wait long behind it.
const RECLAIM: u64 = 2_048;

/// What a database is for.
pub(crate) struct Purpose {
    /// The name used in errors, such as "journal".
    pub(crate) name: &'static str,
    /// `PRAGMA application_id`, so that one type's file is not opened as another's.
    pub(crate) application_id: u32,
    /// What makes each version of the tables out of the one before, the first one out of nothing. `PRAGMA user_version`
    /// tells which version a file has.
    pub(crate) versions: &'static [&'static str],
}

impl Purpose {
    fn version(&self) -> u64 {
        self.versions.len() as u64
    }

    /// Creates the tables, or brings those of an earlier version up to date, in one transaction: after a crash in
    /// between the file is as it was, and an empty one counts as new.
    pub(crate) fn prepare(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let missing = usize::try_from(found).ok().and_then(|found| self.versions.get(found..)).unwrap_or_default();
        if missing.is_empty() {
            return Ok(());
        }
        connection.execute_batch(&format!(
            "BEGIN; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
            missing.concat(),
            self.application_id,
            self.version()
        ))
    }
}

/// When a commit is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    /// When the commit returns.
    EachCommit,
    /// When [`Database::sync`] returns. Until then the operating system has the data, so a killed process loses
    /// nothing.
    OnDemand,
}

/// A connection, and the lock that makes it the only one.
pub(crate) struct Database {
    // Fields are dropped in this order, so that the lock outlives the connection.
    pub(crate) connection: Connection,
    /// None for a database in memory.
    lock: Option<PathLock>,
}

impl Database {
    /// Opens or creates the database, and reads all its pages once to check them.
    pub(crate) fn open(path: &Path, purpose: &Purpose, synced: Synced) -> Result<Self, OpenError> {
        let lock = PathLock::take(path)?;
        let failed = |error| OpenError::from_sqlite(path, error);
        let connection = Connection::open(path).map_err(failed)?;
        // No waiting: the lock file already decides who owns the database.
        connection.busy_timeout(Duration::ZERO).map_err(failed)?;
        // Set before anything is read, because a read would otherwise create a shared-memory file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
        let database = Self { connection, lock: Some(lock) };
        database.configure(synced).map_err(failed)?;
        database.check(path, purpose)?;
        purpose.prepare(&database.connection).map_err(failed)?;
        Ok(database)
    }

    /// A database without a file. It exists for as long as its connection.
    pub(crate) fn in_memory(purpose: &Purpose) -> Result<Self, rusqlite::Error> {
        let database = Self { connection: Connection::open_in_memory()?, lock: None };
        purpose.prepare(&database.connection)?;
        Ok(database)
    }

    fn configure(&self, synced: Synced) -> Result<(), rusqlite::Error> {
        if self.number("PRAGMA page_count")? == 0 {
            // Only for a new file: on an existing one this pragma writes, which a full disk refuses.
            self.connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        }
        // With NORMAL, only checkpoints sync. SQLite does not report the errors of its automatic checkpoints, which is
        // harmless only if each commit has synced the log.
        let (synchronous, autocheckpoint) = if synced == Synced::EachCommit { ("FULL", 1_000) } else { ("NORMAL", 0) };
        // fullfsync: on macOS a plain fsync leaves data in the drive's cache. On other systems the pragma has no
        // effect.
        self.connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
             PRAGMA wal_autocheckpoint = {autocheckpoint};
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
        if new || application_id == purpose.application_id && (1..=purpose.version()).contains(&version) {
            return Ok(());
        }
        let found = format!("application id {application_id:#x}, version {version}, {tables} tables and indexes");
        Err(OpenError::Foreign { path: path.to_path_buf(), expected: purpose.name, found })
    }

    /// Writes everything committed to the disk, whatever the policy: a checkpoint syncs the log, then the database.
    pub(crate) fn sync(&self) -> Result<(), rusqlite::Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    /// Gives some free pages back to the file system. True if there are more.
    ///
    /// Up to half of the file may stay free, because a store under load would use those pages again at once.
    pub(crate) fn reclaim(&self) -> Result<bool, rusqlite::Error> {
        let free = self.number("PRAGMA freelist_count")?;
        if self.lock.is_none() || free < WORTH_RECLAIMING || free * 2 < self.number("PRAGMA page_count")? {
            return Ok(false);
        }
        self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({RECLAIM})"))?;
        // Only a checkpoint shortens the file, and so few pages change here that none would come by itself.
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

    const PURPOSE: Purpose = Purpose { name: "test", application_id: 7, versions: &["CREATE TABLE t (a);"] };

    /// No test can cut the power, so this one checks the settings on which SQLite's guarantees depend.
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
