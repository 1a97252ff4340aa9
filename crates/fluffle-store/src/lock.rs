//! Gives a path one owner on this machine: a lock file beside the store, held by the operating system's own lock.
//!
//! The lock ends when the process ends, in whatever way, so no stale lock is left. The file stays, because deleting it
//! would let a third process lock a new file while a second one still holds the old file.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use crate::{OpenError, StoreError};

/// The lock on a path, held for as long as this value exists.
#[derive(Debug)]
pub(crate) struct PathLock {
    file: File,
}

impl PathLock {
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Store(StoreError::io(path, error));
        let lock = beside(path, "-lock");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(lock).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { path: path.to_path_buf(), owner: owner(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let name = format!("{}\n", std::process::id());
        let named = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(name.as_bytes()));
        if named.is_err() {
            // The disk may be full. The store can still be read, so the lock is taken even if the file cannot name its
            // owner.
            let _unnamed = file.set_len(0);
        }
        Ok(Self { file })
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Unlocks explicitly, because closing alone would not free the lock while a child that was just forked still
        // shares the file.
        let _closed_then = self.file.unlock();
    }
}

/// `path` with `suffix` at its end. SQLite names the files beside a database in the same way.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The process that holds the lock, if the file can be read. On some systems it cannot be read while it is locked.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let lock = PathLock::take(&path).unwrap();
        // Duplicates the open file, as fork does with every open file.
        let _shared = lock.file.try_clone().unwrap();
        assert!(matches!(PathLock::take(&path), Err(OpenError::Locked { .. })));
        drop(lock);
        PathLock::take(&path).unwrap();
    }
}
