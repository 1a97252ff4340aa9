//! The state that `kill -9` leaves, under each policy. The killed process is this test binary, started again.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::{
    collections::{HashMap, HashSet},
    env,
    io::{BufRead, BufReader, Lines, Write, stdout},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use common::{left, record};
use fluffle_store::{
    AppendError, AppendErrorKind, Flush, Journal, OpenError, Position, Record, SeenIds, StoreErrorKind, WhenFull,
};

/// Tell the child what to do, and on which path.
const ROLE: &str = "FLUFFLE_STORE_ROLE";
const STORE: &str = "FLUFFLE_STORE_PATH";
const WRITERS: usize = 8;
const ITEMS: [u32; 3] = [0, 1, 700];
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn under_each_a_killed_process_loses_nothing_acknowledged() {
    killed_again_and_again("each");
}

#[test]
fn grouped_a_killed_process_loses_nothing_acknowledged() {
    killed_again_and_again("grouped");
}

#[test]
fn under_an_interval_a_killed_process_loses_nothing_acknowledged() {
    killed_again_and_again("interval");
}

/// Runs several processes one after the other on one journal, and kills each in the middle of its work.
fn killed_again_and_again(policy: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let (mut acknowledged, mut confirmed) = (Vec::new(), HashSet::new());
    for round in 0..6 {
        let mut killed_after = fastrand::usize(100..1_500);
        let (mut child, lines) = start(&format!("{policy} {round}"), &path);
        for line in lines {
            let line = line.unwrap();
            if let Some(id) = line.strip_prefix("acknowledged ") {
                acknowledged.push(id.to_owned());
            } else if let Some(id) = line.strip_prefix("confirming ") {
                confirmed.insert(id.to_owned());
            }
            killed_after = killed_after.saturating_sub(1);
            if killed_after == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert_eq!(killed_after, 0, "the child ended before it was killed");
        check(&path, policy, &acknowledged, &confirmed);
    }
    assert!(acknowledged.len() > 500, "{}: too few to say anything", acknowledged.len());
    assert!(confirmed.len() > 50);
}

fn check(path: &Path, policy: &str, acknowledged: &[String], confirmed: &HashSet<String>) {
    let left = block_on(async {
        let journal = options(policy).open(path).unwrap();
        let left = left(&journal).await;
        journal.close().await.unwrap();
        left
    });
    let there: HashSet<&str> = left.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(there.len(), left.len(), "something is there twice");
    let lost: Vec<&String> =
        acknowledged.iter().filter(|id| !there.contains(id.as_str()) && !confirmed.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} lost, the first {:?}", lost.len(), acknowledged.len(), lost[0]);

    // Each writer waited for one append before the next, and rounds ran one after the other, so both orders must be
    // kept.
    let mut last: HashMap<usize, (usize, usize)> = HashMap::new();
    for entry in &left {
        let parts: Vec<usize> = entry.id.split('-').map(|part| part.parse().unwrap()).collect();
        let place = (parts[0], parts[2]);
        let before = last.insert(parts[1], place);
        assert!(before.is_none_or(|before| before < place), "{} is out of order", entry.id);
    }
}

#[test]
fn an_inserted_id_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.seen");
    let mut inserted = Vec::new();
    for round in 0..3 {
        let (mut child, lines) = start(&format!("seen {round}"), &path);
        let before = inserted.len();
        for line in lines {
            if let Some(id) = line.unwrap().strip_prefix("acknowledged ") {
                inserted.push(id.to_owned());
            }
            if inserted.len() == before + 300 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        block_on(async {
            let seen = SeenIds::options().open(&path).unwrap();
            for id in &inserted {
                assert!(seen.contains(id).await.unwrap(), "{id} is forgotten");
                assert_eq!(seen.contains_items(id, ITEMS).await.unwrap(), [true; 3], "items of {id} are forgotten");
            }
            seen.close().await.unwrap();
        });
    }
}

#[test]
fn another_process_is_named_as_the_owner_and_its_death_frees_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let (mut child, mut lines) = start("hold", &path);
    assert!(lines.any(|line| line.unwrap() == "holding"));
    match Journal::options().open(&path) {
        Err(OpenError::Locked { owner, .. }) => assert_eq!(owner, Some(child.id())),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Journal::options().open(&path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_gives_the_records_back_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(on_a_full_disk("fill", 12_000, &folder.path().join("orders.journal")), ["after"]);
}

/// Records acknowledged before a failed sync may be lost, so no record is acknowledged until a sync succeeds.
#[cfg(target_os = "linux")]
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    assert_eq!(on_a_full_disk("fail-to-sync", 12_000, &path), ["id-0", "id-1", "after"]);
}

/// Records that an earlier process left can be read, and therefore sent, before there is room to write anything.
#[cfg(target_os = "linux")]
#[test]
fn a_journal_is_opened_and_read_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.journal");
    let (mut child, mut lines) = start("leave", &path);
    assert!(lines.any(|line| line.unwrap() == "left"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(on_a_full_disk("reopen", 0, &path), ["left", "after"]);
}

/// Simulates a full disk with a limit on the size of files, in blocks. The limit is lifted when the child reports that
/// it was refused. Returns the ids that the child leaves.
#[cfg(target_os = "linux")]
fn on_a_full_disk(role: &str, blocks: u32, path: &Path) -> Vec<String> {
    let mut shell = Command::new("sh");
    let limited = format!(r#"trap "" XFSZ; ulimit -S -f {blocks}; exec "$0" "$@""#);
    shell.args(["-c", &limited]).arg(env::current_exe().unwrap());
    let (mut child, lines) = spawn(shell, role, path);
    for line in lines {
        if line.unwrap() == "refused" {
            let pid = child.id().to_string();
            let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().unwrap();
            assert!(lifted.success());
        }
    }
    assert!(child.wait().unwrap().success());
    block_on(async {
        let journal = Journal::options().open(path).unwrap();
        let mut left = journal.unconfirmed();
        let mut there = Vec::new();
        while let Some(entry) = left.next().await.unwrap() {
            there.push(entry.id);
        }
        there
    })
}

/// Not a test: the work of a child, when [`start`] starts this binary.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let path = env::var(STORE).unwrap();
    let (role, round) = role.split_once(' ').unwrap_or((&role, ""));
    match role {
        "hold" => {
            let _journal = Journal::options().open(path).unwrap();
            say("holding");
            std::thread::sleep(DEADLINE);
        }
        "leave" => block_on(leave(Path::new(&path))),
        "reopen" => block_on(reopen(Path::new(&path))),
        "fill" => block_on(fill(Path::new(&path))),
        "fail-to-sync" => block_on(fail_to_sync(Path::new(&path))),
        "seen" => block_on(insert(Path::new(&path), round)),
        policy => append(Path::new(&path), policy, round),
    }
}

/// Appends and confirms until it is killed. Reports each confirm before it makes it, because the confirm may be written
/// with the next append.
fn append(path: &Path, policy: &str, round: &str) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let journal = options(policy).open(path).unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (journal, round) = (journal.clone(), round.to_owned());
            writers.spawn(async move {
                for number in 0.. {
                    let id = format!("{round}-{writer}-{number}");
                    let position = journal.append(record(&id)).await.unwrap();
                    say(&format!("acknowledged {id}"));
                    if number % 5 == 0 {
                        say(&format!("confirming {id}"));
                        journal.confirm(position);
                    }
                }
            });
        }
        tokio::time::sleep(DEADLINE).await;
    });
}

async fn insert(path: &Path, round: &str) {
    let seen = SeenIds::options().open(path).unwrap();
    let started = Instant::now();
    for number in 0.. {
        let id = format!("{round}-{number}");
        let (itself, items) = tokio::join!(seen.insert(&id), seen.insert_items(&id, ITEMS));
        assert!(itself.unwrap() && items.unwrap() == [true; 3]);
        say(&format!("acknowledged {id}"));
        assert!(started.elapsed() < DEADLINE);
    }
}

/// Leaves a record and waits to be killed.
async fn leave(path: &Path) {
    let journal = options("each").open(path).unwrap();
    let _position = journal.append(large("left")).await.unwrap();
    say("left");
    tokio::time::sleep(DEADLINE).await;
}

/// Finds the record that [`leave`] wrote, and can write when there is room.
async fn reopen(path: &Path) {
    let journal = options("each").open(path).unwrap();
    let left = journal.unconfirmed().next().await.unwrap().unwrap();
    assert_eq!((left.id.as_str(), left.bytes), ("left", large("left").bytes));
    refused_by_the_disk(journal.append(large("id")).await.unwrap_err(), "id");
    let (lost, heard) = std::sync::mpsc::channel();
    journal.on_lost(move |record| lost.send(record.id.clone()).unwrap());
    drop(journal.post(large("posted")).await.unwrap());
    assert_eq!(heard.recv_timeout(Duration::from_secs(30)).unwrap(), "posted", "nobody else hears of it");
    say("refused");
    let _position = succeeds(&journal, "after").await;
    assert!(heard.try_recv().is_err(), "neither of the one that was appended nor of the one that was written");
    journal.close().await.unwrap();
}

/// Appends until the disk is full, confirms all records while it is, and continues when there is room.
async fn fill(path: &Path) {
    const ROOM: usize = 32 << 20;
    let options = Journal::options().max_bytes(ROOM as u64).when_full(WhenFull::Error);
    let journal = options.open(path).unwrap();
    let mut positions = Vec::new();
    let refused = loop {
        match journal.append(large("id")).await {
            Ok(position) => positions.push(position),
            Err(refused) => break refused,
        }
    };
    refused_by_the_disk(refused, "id");
    assert!(positions.len() > 10);
    positions.into_iter().for_each(|position| journal.confirm(position));
    for _ in 0..30 {
        refused_by_the_disk(journal.append(large("id")).await.unwrap_err(), "id");
    }
    say("refused");
    let after = succeeds(&journal, "after").await;
    assert_eq!(journal.stats().unconfirmed, 1, "confirms were lost on the full disk");
    // The refused records kept no room.
    let rest = ROOM - journal.stats().bytes as usize - 32;
    journal.confirm(journal.append(Record::new("", vec![7; rest])).await.unwrap());
    journal.close().await.unwrap();
    drop(after);
}

/// Appends records that still fit into the log but no longer into the database.
async fn fail_to_sync(path: &Path) {
    let journal = options("interval").open(path).unwrap();
    let half = |id: &str| Record::new(id, vec![7; 4_000_000]);
    let _position = journal.append(half("id-0")).await.unwrap();
    journal.flush().await.unwrap();
    let _position = journal.append(half("id-1")).await.unwrap();
    journal.flush().await.unwrap_err();
    refused_by_the_disk(journal.append(large("refused")).await.unwrap_err(), "refused");
    say("refused");
    let _position = succeeds(&journal, "after").await;
    journal.close().await.unwrap();
}

fn large(id: &str) -> Record {
    Record::new(id, vec![7; 100_000])
}

fn refused_by_the_disk(refused: AppendError, id: &str) {
    assert_eq!(refused.record, large(id));
    let AppendErrorKind::Store(error) = refused.kind else { panic!("{:?}", refused.kind) };
    assert!(matches!(error.kind(), StoreErrorKind::DiskFull | StoreErrorKind::Io), "{error:?}");
}

async fn succeeds(journal: &Journal, id: &str) -> Position {
    let started = Instant::now();
    loop {
        match journal.append(large(id)).await {
            Ok(position) => return position,
            Err(refused) => refused_by_the_disk(refused, id),
        }
        assert!(started.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn options(policy: &str) -> fluffle_store::JournalOptions {
    Journal::options().flush(match policy {
        "each" => Flush::Each,
        "grouped" => Flush::Grouped,
        "interval" => Flush::Interval(Duration::from_secs(3600)),
        other => panic!("{other}"),
    })
}

/// Writes the line in one write, so that a killed process never leaves half a line.
fn say(line: &str) {
    stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn start(role: &str, path: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    spawn(Command::new(env::current_exe().unwrap()), role, path)
}

fn spawn(mut command: Command, role: &str, path: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role).env(STORE, path).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
