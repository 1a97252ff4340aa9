//! Compares embedded stores as the basis of the journal: redb, fjall and SQLite (in WAL mode), each under the journal's
//! load.
//!
//! Records of 300 bytes with an id are appended in transactions of 1, 64 and 512 records. Each transaction is synced to
//! the disk, and removes the records appended [`IN_FLIGHT`] records before. Then the benchmark measures the size on
//! disk, the time to open, and which records are left after `kill -9`. It is no divan benchmark, because a million
//! records are one sample.
//!
//! `cargo bench -p benches --bench stores [redb|fjall|sqlite-full|sqlite-normal]`
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    ops::Range,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use redb::{ReadableDatabase, ReadableTable};

/// Records without a confirm, as a publisher under load has them.
const IN_FLIGHT: u64 = 1_024;
const BODY: usize = 300;
const ID: &str = "0190a8f1-6a52-7c3e-9d1b-0123456789ab";
/// (records in one transaction, records in all)
const ROUNDS: [(u64, u64); 3] = [(1, 10_000), (64, 200_000), (512, 1_024_000)];
/// Variable with the store and the folder in which a child writes until it is killed.
const CHILD: &str = "STORES_CHILD";

fn main() {
    let chosen: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Ok(folder) = env::var(CHILD) {
        return with_store(&chosen[0], ChildRun(Path::new(&folder)));
    }
    println!(
        "{:14} {:>5} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "store", "batch", "records/s", "µs CPU", "peak MiB", "end MiB", "open ms"
    );
    for name in ["redb", "fjall", "sqlite-full", "sqlite-normal"] {
        if chosen.is_empty() || chosen.iter().any(|wanted| wanted == name) {
            with_store(name, Measure(name));
        }
    }
}

trait Store {
    fn open(folder: &Path) -> Self;
    /// Runs one transaction, which is on the disk when this returns.
    fn commit(&mut self, append: Range<u64>, confirm: Range<u64>);
    /// The stored positions, in order.
    fn left(&self) -> Vec<u64>;
}

trait Run {
    fn run<S: Store>(self);
}

fn with_store(name: &str, run: impl Run) {
    match name {
        "redb" => run.run::<Redb>(),
        "fjall" => run.run::<Fjall>(),
        "sqlite-full" => run.run::<Sqlite<true>>(),
        "sqlite-normal" => run.run::<Sqlite<false>>(),
        other => panic!("there is no store {other:?}"),
    }
}

struct Measure<'a>(&'a str);

impl Run for Measure<'_> {
    fn run<S: Store>(self) {
        for (batch, records) in ROUNDS {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let mut store = S::open(folder.path());
            let (started, cpu_before, mut peak) = (Instant::now(), cpu(), 0);
            for first in (0..records).step_by(batch as usize) {
                let next = first + batch;
                store.commit(first..next, first.saturating_sub(IN_FLIGHT)..next.saturating_sub(IN_FLIGHT));
                if (first / batch).is_multiple_of(64) {
                    peak = peak.max(on_disk(folder.path()));
                }
            }
            let (took, cpu_used) = (started.elapsed(), cpu() - cpu_before);
            store.commit(records..records, records.saturating_sub(IN_FLIGHT)..records);
            drop(store);
            let end = on_disk(folder.path());
            let opening = Instant::now();
            assert!(S::open(folder.path()).left().is_empty());
            let open = opening.elapsed();
            println!(
                "{:14} {batch:5} {:10.0} {:9.2} {:9.1} {:9.1} {:9.1}",
                self.0,
                records as f64 / took.as_secs_f64(),
                cpu_used.as_secs_f64() * 1e6 / records as f64,
                mebibytes(peak.max(end)),
                mebibytes(end),
                open.as_secs_f64() * 1e3,
            );
        }
        kill::<S>(self.0);
    }
}

/// A child appends without confirming, and prints what is durable. It is killed after two seconds.
fn kill<S: Store>(name: &str) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .arg(name)
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let (mut durable, mut killed) = (0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        durable = line.unwrap().parse::<u64>().unwrap();
        if !killed && started.elapsed() > Duration::from_secs(2) {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    let opening = Instant::now();
    let left = S::open(folder.path()).left();
    let open = opening.elapsed();
    let whole = left.iter().copied().eq(0..left.len() as u64) && left.len() as u64 >= durable;
    println!(
        "{name:14} killed: {durable} durable, {} there, in order and whole: {whole}; {:.1} MiB, open and read {:.1} ms",
        left.len(),
        mebibytes(on_disk(folder.path())),
        open.as_secs_f64() * 1e3,
    );
}

struct ChildRun<'a>(&'a Path);

impl Run for ChildRun<'_> {
    fn run<S: Store>(self) {
        let mut store = S::open(self.0);
        let mut out = std::io::stdout().lock();
        for first in (0..).step_by(64) {
            store.commit(first..first + 64, 0..0);
            // This fails, and ends the child, when nobody reads its output any more.
            if writeln!(out, "{}", first + 64).is_err() {
                return;
            }
        }
    }
}

const REDB: redb::TableDefinition<'static, u64, (&str, &[u8])> = redb::TableDefinition::new("records");

struct Redb(redb::Database);

impl Store for Redb {
    fn open(folder: &Path) -> Self {
        let database = redb::Database::create(folder.join("journal")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(REDB).unwrap();
        transaction.commit().unwrap();
        Self(database)
    }

    fn commit(&mut self, append: Range<u64>, confirm: Range<u64>) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut table = transaction.open_table(REDB).unwrap();
            for position in append {
                table.insert(position, (ID, body(position).as_slice())).unwrap();
            }
            for position in confirm {
                table.remove(position).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn left(&self) -> Vec<u64> {
        let table = self.0.begin_read().unwrap().open_table(REDB).unwrap();
        table.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect()
    }
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Store for Fjall {
    fn open(folder: &Path) -> Self {
        let database = fjall::Database::builder(folder).open().unwrap();
        let records = database.keyspace("records", fjall::KeyspaceCreateOptions::default).unwrap();
        Self(database, records)
    }

    fn commit(&mut self, append: Range<u64>, confirm: Range<u64>) {
        let mut batch = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        for position in append {
            batch.insert(&self.1, position.to_be_bytes(), [ID.as_bytes(), &body(position)].concat());
        }
        for position in confirm {
            batch.remove(&self.1, position.to_be_bytes());
        }
        batch.commit().unwrap();
    }

    fn left(&self) -> Vec<u64> {
        self.1.iter().map(|entry| u64::from_be_bytes((*entry.key().unwrap()).try_into().unwrap())).collect()
    }
}

struct Sqlite<const FULL: bool>(rusqlite::Connection);

impl<const FULL: bool> Store for Sqlite<FULL> {
    fn open(folder: &Path) -> Self {
        let connection = rusqlite::Connection::open(folder.join("journal")).unwrap();
        let synchronous = if FULL { "FULL" } else { "NORMAL" };
        connection
            .execute_batch(&format!(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
                 CREATE TABLE IF NOT EXISTS records
                     (position INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL);"
            ))
            .unwrap();
        Self(connection)
    }

    fn commit(&mut self, append: Range<u64>, confirm: Range<u64>) {
        let transaction = self.0.transaction().unwrap();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3)").unwrap();
            for position in append {
                insert.execute((position as i64, ID, body(position).as_slice())).unwrap();
            }
            let mut remove = transaction.prepare_cached("DELETE FROM records WHERE position = ?1").unwrap();
            for position in confirm {
                remove.execute([position as i64]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn left(&self) -> Vec<u64> {
        let mut select = self.0.prepare("SELECT position FROM records ORDER BY position").unwrap();
        select.query_map([], |row| row.get::<_, i64>(0)).unwrap().map(|position| position.unwrap() as u64).collect()
    }
}

/// Bytes that compression does not make much smaller.
fn body(position: u64) -> [u8; BODY] {
    let mut random = fastrand::Rng::with_seed(position);
    let mut body = [0; BODY];
    random.fill(&mut body);
    body
}

fn on_disk(folder: &Path) -> u64 {
    // A store may delete a file after it was listed.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() {
                    on_disk(&entry.path())
                } else {
                    entry.metadata().map_or(0, |file| file.len())
                }
            },
        )
        .sum()
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The CPU time of all threads of this process, at the kernel's usual 100 ticks a second.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<i64> =
        stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // The state is not a number, so of the remaining fields utime is the eleventh and stime the twelfth (proc(5),
    // fields 14 and 15).
    Duration::from_millis((fields[10] + fields[11]) as u64 * 10)
}
