//! Errors of opening and using a store.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(feature = "sqlite")]
use rusqlite::ErrorCode;

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle in this process, has the store open.
    #[error(
        "{} is already open{}: a store belongs to one process at a time; stop that one or use another path",
        path.display(),
        owner.map(|pid| format!(" in process {pid}")).unwrap_or_default()
    )]
    Locked {
        /// The store's path.
        path: PathBuf,
        /// The process that has the store open, if it could be read from the lock file.
        owner: Option<u32>,
    },
    /// The file exists, but its content is damaged. A torn end (after a power cut) is not damage: it is cut off.
    #[error(
        "{path} is damaged: {what}. Move it away together with {path}-wal to start empty; `sqlite3 {path} .recover` \
         reads what is still there",
        path = path.display()
    )]
    Corrupt {
        /// The store's path.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file is a database, but not of this type and version.
    #[error(
        "{} is not a {expected} of this version ({found}): use another path, or the version that wrote it",
        path.display()
    )]
    Foreign {
        /// The store's path.
        path: PathBuf,
        /// The type of store that was expected.
        expected: &'static str,
        /// What the file contains.
        found: String,
    },
    /// The file could not be created, opened, read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(feature = "sqlite")]
impl OpenError {
    /// Converts damage and a lock to their own variants, and any other error to a [`StoreError`].
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path, owner: None },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { path, what: error.to_string() }
            }
            _ => Self::Store(StoreError::from_sqlite(&path, error)),
        }
    }
}

/// Why an operation on an open store failed.
///
/// Many callers may get the same error, because commands that are written together fail together.
#[derive(Debug, Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    path: Arc<Path>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The disk is full. Later calls succeed when there is room again.
    DiskFull,
    /// The operating system failed to read, write or sync.
    Io,
    /// The file is damaged. The error of opening it again says how.
    Corrupt,
    /// One record is not what was written. It stays in the store for inspection; reading continues after it.
    DamagedRecord,
    /// The store was closed, or its thread has ended.
    Closed,
}

impl StoreError {
    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The path of the store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn closed(path: &Arc<Path>) -> Self {
        Self { kind: StoreErrorKind::Closed, path: Arc::clone(path), source: None }
    }

    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let kind = if full { StoreErrorKind::DiskFull } else { StoreErrorKind::Io };
        Self { kind, path: path.into(), source: Some(Arc::new(error)) }
    }

    pub(crate) fn damaged_record(path: &Path, what: String) -> Self {
        Self {
            kind: StoreErrorKind::DamagedRecord,
            path: path.into(),
            source: Some(Arc::from(Box::<dyn Error + Send + Sync>::from(what))),
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreErrorKind::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Io,
        };
        Self { kind, path: path.into(), source: Some(Arc::new(error)) }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            StoreErrorKind::DiskFull => write!(f, "{path}: the disk is full; make room and try again"),
            StoreErrorKind::Io => write!(f, "{path}: the disk failed to read, write or sync"),
            StoreErrorKind::Corrupt => write!(f, "{path} is damaged; stop, and open it again to see how"),
            StoreErrorKind::DamagedRecord => {
                write!(f, "{path}: a record is damaged; it stays in the file, and reading continues after it")
            }
            StoreErrorKind::Closed => write!(f, "{path} is closed, or its thread has died; open it again"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
