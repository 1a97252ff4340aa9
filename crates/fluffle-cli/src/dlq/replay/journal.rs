//! What a replay has sent, in a file, so that the next run can tell if this one is killed.
//!
//! The order for each batch of letters: the batch is written and synced; its copies are published; their confirms are
//! written and synced; the letters are acked. So after a kill a letter that is still in the queue is in the file as
//!
//! - *confirmed*: its copy is in its queue. It is acked and not sent again.
//! - *unknown*: it may have been sent. It is sent again, and may be there twice. It is counted.
//! - not at all: it was never sent.
//!
//! A later batch says that all acks of the one before have arrived: its letters were taken on the same channel, on
//! which the broker answers in order. So only letters of the last batch of each run are open.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::common::failure::Failure;

/// The file is rewritten without what is no longer open once it is larger than this, in bytes.
const LARGEST: u64 = 4 << 20;

/// Most ids of messages that may be there twice that are kept. Further ones are only counted.
const MOST_IDS: usize = 10_000;

/// What is known of the copy of a letter that may still be in the dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Known {
    Confirmed,
    Unknown,
}

/// Why a letter is in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It is sent for the first time.
    New,
    /// It is sent again, because it is unknown whether its copy has arrived.
    Again,
    /// Its copy is in its queue: it is only acked.
    Already,
}

/// What became of the copy of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Confirmed,
    Refused,
    Unknown,
}

/// A letter of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) print: String,
    pub(crate) kind: Kind,
    /// The message id, of letters that are sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// All that the lines before came to.
    State(State),
    /// Letters that are about to be sent. `from`: the line of the first, of a replay from a file.
    Batch { from: u64, letters: Vec<Entry> },
    /// What became of them, in order.
    Verdicts(Vec<Verdict>),
}

/// What a journal has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The id of the replay that ended early; `None` if it has ended in order.
    pub(crate) replay: Option<String>,
    /// Letters whose copies are confirmed.
    pub(crate) replayed: u64,
    /// How many copies were sent although one might have been there.
    pub(crate) again: u64,
    /// The ids of those messages.
    pub(crate) again_ids: Vec<String>,
    /// Letters that may still be in the dead-letter queue, and what is known of their copies.
    pub(crate) open: HashMap<String, Vec<Known>>,
    /// The line from which a replay from a file goes on.
    pub(crate) from: u64,
    #[serde(skip)]
    batch: Vec<Entry>,
    #[serde(skip)]
    verdicts: Vec<Verdict>,
}

impl State {
    fn apply(&mut self, record: Record) {
        match record {
            Record::State(state) => *self = state,
            Record::Batch { from, letters } => {
                self.close_batch();
                self.from = from;
                for entry in &letters {
                    match entry.kind {
                        Kind::New => {}
                        Kind::Already => {
                            let _ = self.forget(&entry.print, Known::Confirmed);
                        }
                        Kind::Again => {
                            // Confirmed, if it has no message id by which it could be told from others.
                            let _ = self.forget(&entry.print, Known::Unknown)
                                || self.forget(&entry.print, Known::Confirmed);
                            self.again += 1;
                            if let Some(id) = entry.id.clone().filter(|_| self.again_ids.len() < MOST_IDS) {
                                self.again_ids.push(id);
                            }
                        }
                    }
                }
                (self.batch, self.verdicts) = (letters, Vec::new());
            }
            Record::Verdicts(verdicts) => {
                let confirmed = |(entry, verdict): &(&Entry, &Verdict)| {
                    entry.kind != Kind::Already && **verdict == Verdict::Confirmed
                };
                self.replayed += self.batch.iter().zip(&verdicts).filter(confirmed).count() as u64;
                self.verdicts = verdicts;
            }
        }
    }

    /// The acks of the batch have arrived.
    fn close_batch(&mut self) {
        let verdicts = std::mem::take(&mut self.verdicts);
        for (at, entry) in std::mem::take(&mut self.batch).into_iter().enumerate() {
            // A letter whose second copy was refused is still in the queue, and its first copy as unknown as before.
            let acked = entry.kind == Kind::Already || verdicts.get(at) == Some(&Verdict::Confirmed);
            if entry.kind == Kind::Again && !acked {
                self.open.entry(entry.print).or_default().push(Known::Unknown);
            }
        }
    }

    /// The run has ended before it could know that the acks of the batch have arrived.
    fn carry_batch(&mut self) {
        let verdicts = std::mem::take(&mut self.verdicts);
        for (at, entry) in std::mem::take(&mut self.batch).into_iter().enumerate() {
            let known = match (entry.kind, verdicts.get(at)) {
                (Kind::Already, _) | (_, Some(Verdict::Confirmed)) => Known::Confirmed,
                (Kind::New, Some(Verdict::Refused)) => continue,
                _ => Known::Unknown,
            };
            self.open.entry(entry.print).or_default().push(known);
        }
    }

    /// Says whether there was one.
    fn forget(&mut self, print: &str, known: Known) -> bool {
        let Some(all) = self.open.get_mut(print) else { return false };
        let Some(at) = all.iter().position(|one| *one == known) else { return false };
        all.swap_remove(at);
        if all.is_empty() {
            self.open.remove(print);
        }
        true
    }
}

/// The file, which this process alone has.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    _lock: File,
    pub(crate) state: State,
}

impl Journal {
    /// Reads what an earlier run has left, and begins a run.
    pub(crate) fn open(path: &Path, new_id: impl FnOnce() -> String) -> Result<(Self, bool), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("the journal {}: {error}; --journal names another file", path.display()))
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed(&error))?;
        }
        let lock = path.with_extension("lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(lock).map_err(|error| failed(&error))?;
        lock.try_lock().map_err(|_| failed(&"another replay uses it now: wait for its end"))?;
        let mut state = match fs::read(path) {
            Ok(bytes) => read(&bytes).map_err(|why| failed(&why))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(failed(&error)),
        };
        state.carry_batch();
        let resumed = state.replay.is_some();
        if !resumed {
            // Letters of a replay that has ended in order, and were never seen again, are kept in mind.
            state = State { replay: Some(new_id()), open: state.open, ..State::default() };
        }
        let file = rewrite(path, &state).map_err(|error| failed(&error))?;
        Ok((Self { path: path.to_owned(), file, bytes: 0, _lock: lock, state }, resumed))
    }

    /// What is known of the copy of a letter that looks like this, if `before` letters of the batch look the same. Of
    /// letters that look the same, those with confirmed copies count first.
    pub(crate) fn known(&self, print: &str, before: usize) -> Option<Known> {
        let mut all = self.state.open.get(print)?.clone();
        all.sort_by_key(|known| *known != Known::Confirmed);
        all.get(before).copied()
    }

    /// Writes which letters are about to be sent.
    pub(crate) fn batch(&mut self, from: u64, letters: Vec<Entry>) -> Result<(), Failure> {
        if self.bytes > LARGEST {
            self.state.close_batch();
            self.file = rewrite(&self.path, &self.state).map_err(|error| self.failed(&error))?;
            self.bytes = 0;
        }
        self.append(Record::Batch { from, letters })
    }

    /// Writes what became of them.
    pub(crate) fn verdicts(&mut self, verdicts: Vec<Verdict>) -> Result<(), Failure> {
        self.append(Record::Verdicts(verdicts))
    }

    /// The run has ended in order: the broker has acted upon all acks. What was not seen again is kept in mind.
    pub(crate) fn finish(mut self, over: bool) -> Result<(), Failure> {
        self.state.close_batch();
        if over {
            self.state.replay = None;
        }
        if over && self.state.open.is_empty() {
            let removed = fs::remove_file(&self.path).and_then(|()| fs::remove_file(self.path.with_extension("lock")));
            return removed.map_err(|error| self.failed(&error));
        }
        rewrite(&self.path, &self.state).map(|_| ()).map_err(|error| self.failed(&error))
    }

    fn append(&mut self, record: Record) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(|error| self.failed(&error))?;
        self.bytes += line.len() as u64;
        self.state.apply(record);
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot write the journal {}: {error}", self.path.display()))
    }
}

/// Reads the whole lines. What came after the last was never acted upon, because it was not synced.
fn read(bytes: &[u8]) -> Result<State, String> {
    let mut state = State::default();
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for (number, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let damaged = |error| format!("it is damaged in line {}: {error}", number + 1);
        state.apply(serde_json::from_slice(line).map_err(damaged)?);
    }
    Ok(state)
}

/// Replaces the file by one that holds this state, whole or not at all.
fn rewrite(path: &Path, state: &State) -> std::io::Result<File> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    let mut line = serde_json::to_vec(&Record::State(state.clone()))?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(print: &str, kind: Kind) -> Entry {
        Entry { print: print.into(), kind, id: Some(format!("id of {print}")) }
    }

    /// A run that is killed after it has done `act`, and the state that the next one finds.
    fn killed(path: &Path, act: impl FnOnce(&mut Journal)) -> State {
        let (mut journal, _) = Journal::open(path, || "r1".into()).unwrap();
        act(&mut journal);
        drop(journal);
        let (journal, resumed) = Journal::open(path, || "r2".into()).unwrap();
        assert!(resumed);
        journal.state.clone()
    }

    #[test]
    fn after_a_kill_only_the_last_batch_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.journal");
        let state = killed(&path, |journal| {
            journal.batch(0, vec![entry("a", Kind::New)]).unwrap();
            journal.verdicts(vec![Verdict::Confirmed]).unwrap();
            journal.batch(0, vec![entry("b", Kind::New), entry("c", Kind::New), entry("d", Kind::New)]).unwrap();
            journal.verdicts(vec![Verdict::Confirmed, Verdict::Refused, Verdict::Unknown]).unwrap();
        });
        let open = HashMap::from([("b".into(), vec![Known::Confirmed]), ("d".into(), vec![Known::Unknown])]);
        assert_eq!((state.open, state.replayed, state.again), (open, 2, 0));
        assert_eq!(state.replay.as_deref(), Some("r1"));

        let state = killed(&path, |journal| {
            assert_eq!(journal.known("b", 0), Some(Known::Confirmed));
            assert_eq!(journal.known("b", 1), None, "the second letter that looks like it was never sent");
            assert_eq!(journal.known("d", 0), Some(Known::Unknown));
            journal.batch(0, vec![entry("b", Kind::Already), entry("d", Kind::Again), entry("e", Kind::New)]).unwrap();
        });
        // Killed before the confirms.
        let open = HashMap::from([
            ("b".into(), vec![Known::Confirmed]),
            ("d".into(), vec![Known::Unknown]),
            ("e".into(), vec![Known::Unknown]),
        ]);
        assert_eq!((state.open, state.replayed, state.again), (open, 2, 1));
        assert_eq!(state.again_ids, ["id of d"]);
    }

    #[test]
    fn a_torn_line_was_never_acted_upon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.journal");
        let state = killed(&path, |journal| {
            journal.batch(0, vec![entry("a", Kind::New)]).unwrap();
            journal.file.write_all(b"{\"verdicts\":[\"conf").unwrap();
        });
        assert_eq!(state.open, HashMap::from([("a".into(), vec![Known::Unknown])]));
        fs::write(&path, "rubbish\n").unwrap();
        let error = Journal::open(&path, String::new).err().unwrap().to_string();
        assert!(error.contains("line 1") && error.contains("--journal"), "{error}");
    }

    #[test]
    fn a_journal_is_used_by_one_replay_at_a_time_and_gone_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.journal");
        let (journal, resumed) = Journal::open(&path, || "r1".into()).unwrap();
        assert!(!resumed);
        let error = Journal::open(&path, String::new).err().unwrap().to_string();
        assert!(error.contains("another replay"), "{error}");
        journal.finish(true).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_long_journal_is_rewritten_and_forgets_nothing_that_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.journal");
        let state = killed(&path, |journal| {
            journal.batch(0, vec![entry("a", Kind::New)]).unwrap();
            journal.verdicts(vec![Verdict::Confirmed]).unwrap();
            journal.bytes = LARGEST + 1;
            journal.batch(0, vec![entry("b", Kind::New)]).unwrap();
            assert_eq!(read(&fs::read(&path).unwrap()).unwrap().replayed, 1);
        });
        assert_eq!(state.open, HashMap::from([("b".into(), vec![Known::Unknown])]));
    }
}
