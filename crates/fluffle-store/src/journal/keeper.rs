//! The work of the journal's thread: groups waiting commands into transactions and reports the result of each.

use std::{
    path::Path,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::{
    Flush, Position,
    command::{Append, Command},
    shared::Shared,
    table::Table,
};
use crate::{StoreError, writer::Work};

/// How long a confirm waits for a record with which it can share a transaction. Without this, a publisher that sends
/// one message after the other would wait for two syncs for each.
const CONFIRM_DELAY: Duration = Duration::from_millis(50);
/// After a failed write that no caller waits for, the time until the next try.
const RETRY: Duration = Duration::from_secs(1);
/// The most bytes that `Flush::Interval` leaves unsynced. It bounds the size of the log.
const UNSYNCED: u64 = 8 << 20;

pub(super) struct Keeper {
    table: Table,
    shared: Arc<Shared>,
    flush: Flush,
    path: Arc<Path>,
    /// When the waiting confirms are written if no record is appended before.
    confirms_due: Option<Instant>,
    unsynced: Unsynced,
    /// The database still has free pages to give back to the file system.
    reclaiming: bool,
}

/// What `Flush::Interval` has committed but not synced.
#[derive(Default)]
struct Unsynced {
    bytes: u64,
    due: Option<Instant>,
    /// Set after a failed sync, until one succeeds. Records written before it may be lost, so appends fail until then.
    failed: Option<StoreError>,
}

impl Keeper {
    pub(super) fn new(table: Table, shared: Arc<Shared>, flush: Flush, path: Arc<Path>) -> Self {
        Self { table, shared, flush, path, confirms_due: None, unsynced: Unsynced::default(), reclaiming: false }
    }

    /// Writes these records and all confirms so far in one transaction. Returns the position of the first record.
    fn commit(&mut self, appends: &[Append]) -> Result<i64, StoreError> {
        if let Some(failed) = self.unsynced.failed.clone().filter(|_| !appends.is_empty()) {
            return Err(failed);
        }
        let confirmed = self.shared.take_confirmed();
        let (first, removed) = match self.table.commit(appends.iter().map(|append| &*append.record), &confirmed) {
            Ok(done) => done,
            Err(error) => {
                self.confirms_due = (!confirmed.is_empty()).then(|| Instant::now() + RETRY);
                self.shared.put_back(confirmed);
                return Err(StoreError::from_sqlite(&self.path, error));
            }
        };
        self.confirms_due = None;
        let bytes: u64 = appends.iter().map(|append| u64::from(append.size)).sum();
        let counts = &self.shared.counts;
        counts.transactions.fetch_add(1, Relaxed);
        counts.appended.fetch_add(appends.len() as u64, Relaxed);
        for (position, _) in confirmed.iter().zip(removed).filter(|(_, removed)| *removed) {
            counts.confirmed.fetch_add(1, Relaxed);
            counts.records.fetch_sub(1, Relaxed);
            counts.bytes.fetch_sub(u64::from(position.size), Relaxed);
            self.shared.release(position.size);
        }
        match self.flush {
            Flush::Each | Flush::Grouped => _ = counts.syncs.fetch_add(1, Relaxed),
            Flush::Interval(interval) => {
                self.unsynced.bytes += bytes;
                self.unsynced.due.get_or_insert_with(|| Instant::now() + interval);
            }
        }
        Ok(first)
    }

    fn append(&mut self, appends: Vec<Append>) {
        match self.commit(&appends) {
            Ok(first) => {
                for (number, append) in (first..).zip(appends) {
                    let position = Position { number, size: append.size };
                    // If the caller left while its record was written, the record is removed again, because nobody will
                    // publish it.
                    let keep = append.keep;
                    if let Err(Ok(position)) = append.reply.send(Ok(position))
                        && !keep
                    {
                        self.shared.confirm(position);
                    }
                }
                self.shared.appended.notify_waiters();
            }
            Err(error) => {
                for append in appends {
                    self.shared.give_up(append.size);
                    let (id, keep) = (append.record.id.clone(), append.keep);
                    if let Some(tell) = self.shared.lost.get().filter(|_| keep) {
                        tell(&append.record);
                    }
                    if append.reply.send(Err(error.clone())).is_err() && keep {
                        let (path, error) = (self.path.display(), &error as &dyn std::error::Error);
                        tracing::error!(%path, id, error, "journal: a posted record was not written; no caller waits");
                    }
                }
            }
        }
    }

    /// Writes the confirms if they have waited long enough, or if a caller waits for the room they free.
    fn write_confirms(&mut self, at_once: bool) -> Result<(), StoreError> {
        if !self.shared.has_confirmed() {
            return Ok(());
        }
        let now = Instant::now();
        let due = *self.confirms_due.get_or_insert(now + CONFIRM_DELAY);
        if at_once || due <= now || self.shared.waiting.load(Relaxed) > 0 {
            self.commit(&[])?;
        }
        Ok(())
    }

    /// Syncs what `Flush::Interval` has left unsynced, if it is due or `at_once` is set.
    fn sync(&mut self, at_once: bool) -> Result<(), StoreError> {
        let Some(due) = self.unsynced.due else { return Ok(()) };
        if !at_once && due > Instant::now() && self.unsynced.bytes < UNSYNCED {
            return Ok(());
        }
        if let Err(error) = self.table.database.sync() {
            let error = StoreError::from_sqlite(&self.path, error);
            self.unsynced.failed = Some(error.clone());
            self.unsynced.due = Some(Instant::now() + RETRY);
            self.unsynced.bytes = 0;
            return Err(error);
        }
        self.shared.counts.syncs.fetch_add(1, Relaxed);
        self.unsynced = Unsynced::default();
        Ok(())
    }

    fn write_due(&mut self) -> Result<(), StoreError> {
        self.write_confirms(false)?;
        self.sync(false)
    }

    fn write_all(&mut self) -> Result<(), StoreError> {
        self.write_confirms(true)?;
        self.sync(true)
    }

    /// Logs an error, because some of this work has no caller that would get it.
    fn note(&self, outcome: &Result<(), StoreError>) {
        if let Err(error) = outcome {
            let error = error as &dyn std::error::Error;
            tracing::warn!(path = %self.path.display(), error, "journal: the disk failed; the write is tried again");
        }
    }
}

impl Work for Keeper {
    type Command = Command;

    fn work(&mut self, commands: Vec<Command>) {
        let (mut appends, mut pages, mut flushes) = (Vec::new(), Vec::new(), Vec::new());
        for command in commands {
            match command {
                Command::Append(append) if append.reply.is_closed() && !append.keep => self.shared.give_up(append.size),
                Command::Append(append) => appends.push(append),
                Command::Page { after, last, reply } => pages.push((after, last, reply)),
                Command::Flush(reply) => flushes.push(reply),
            }
        }
        if self.flush == Flush::Each {
            appends.into_iter().for_each(|append| self.append(vec![append]));
        } else if !appends.is_empty() {
            self.append(appends);
        }
        let outcome = if flushes.is_empty() { self.write_due() } else { self.write_all() };
        self.note(&outcome);
        for reply in flushes {
            let _gone = reply.send(outcome.clone());
        }
        for (after, last, reply) in pages {
            let _gone = reply.send(self.table.page(&self.path, after, last));
        }
        if self.shared.oldest.is_wanted.swap(false, Relaxed) {
            match self.table.oldest_id() {
                Ok(id) => {
                    let found = id.map(|id| (id, Instant::now()));
                    *self.shared.oldest.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
                }
                Err(error) => self.note(&Err(StoreError::from_sqlite(&self.path, error))),
            }
        }
        self.reclaiming = self.table.database.reclaim().unwrap_or_else(|error| {
            self.note(&Err(StoreError::from_sqlite(&self.path, error)));
            false
        });
    }

    fn patience(&self) -> Option<Duration> {
        let due = [self.confirms_due, self.unsynced.due].into_iter().flatten().min();
        match due {
            _ if self.reclaiming => Some(Duration::ZERO),
            due => due.map(|due| due.saturating_duration_since(Instant::now())),
        }
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let outcome = self.write_all();
        self.note(&outcome);
        outcome
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.room.close();
    }
}
