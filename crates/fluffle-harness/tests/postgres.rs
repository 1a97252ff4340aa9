//! The life of a private PostgreSQL server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fluffle_harness::{HarnessError, Postgres};

const LIMIT: Duration = Duration::from_secs(20);

/// Set for the test's second process, which owns a server until it is killed.
const PART: &str = "FLUFFLE_TEST_OWNS_POSTGRES";

#[test]
fn what_was_committed_survives_a_kill_and_a_stop_and_what_was_not_does_not() {
    let postgres = Postgres::start().unwrap();
    psql(&postgres, "create table kept (n int); insert into kept values (1)");
    let port = postgres.port();

    postgres.kill().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "a killed server takes no connection");
    postgres.start_again().unwrap();
    assert!(log(&postgres).contains("was interrupted"), "it recovered from a crash: {}", log(&postgres));
    psql(&postgres, "insert into kept values (2)");

    postgres.stop().unwrap();
    postgres.start_again().unwrap();
    assert!(!log(&postgres).contains("was interrupted"), "{}", log(&postgres));
    assert_eq!(psql(&postgres, "select n from kept order by n"), "1\n2");
    assert_eq!(postgres.port(), port);
}

#[test]
fn a_running_server_is_not_started_twice_and_a_stopped_one_may_be_stopped() {
    let postgres = Postgres::start().unwrap();
    assert!(matches!(postgres.start_again(), Err(HarnessError::AlreadyRunning)));
    postgres.stop().unwrap();
    assert_eq!(postgres.pid(), None);
    postgres.stop().unwrap();
    postgres.kill().unwrap();
}

#[test]
fn a_server_that_cannot_start_shows_what_it_said() {
    let postgres = Postgres::start().unwrap();
    postgres.stop().unwrap();
    fs::write(postgres.folder().join("data/postgresql.auto.conf"), "no_such_setting = 1\n").unwrap();
    let error = postgres.start_again().unwrap_err();
    let HarnessError::BootFailed { why, log, .. } = error else { panic!("{error}") };
    assert!(why.contains("ended during boot") && log.contains("no_such_setting"), "{why}: {log}");
}

#[test]
fn a_dropped_server_leaves_no_process_and_no_folder() {
    let postgres = Postgres::start().unwrap();
    let folder = postgres.folder().to_path_buf();
    assert!(!processes_of(&folder).is_empty());
    drop(postgres);
    assert_nothing_left(&folder);
}

#[test]
fn a_sigkilled_owner_leaves_no_process_and_no_folder() {
    if std::env::var_os(PART).is_some() {
        let postgres = Postgres::start().unwrap();
        println!("folder={}", postgres.folder().display());
        loop {
            thread::park();
        }
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["a_sigkilled_owner_leaves_no_process_and_no_folder", "--exact", "--nocapture"])
        .env(PART, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let folder = lines.find_map(|line| line.unwrap().split_once("folder=").map(|(_, path)| PathBuf::from(path)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_nothing_left(&folder.expect("it started a server"));
}

fn psql(postgres: &Postgres, sql: &str) -> String {
    let url = postgres.url();
    let output = Command::new("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, &url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn log(postgres: &Postgres) -> String {
    fs::read_to_string(postgres.folder().join("log.txt")).unwrap()
}

fn assert_nothing_left(folder: &Path) {
    let deadline = Instant::now() + LIMIT;
    while !processes_of(folder).is_empty() || folder.exists() {
        let left = processes_of(folder);
        assert!(Instant::now() < deadline, "left: {left:?}, folder exists: {}", folder.exists());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every living process whose working folder is in the folder, or that names the folder in its arguments. (A zombie has
/// neither.)
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let named = |path: PathBuf| fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(name));
    let within = |path: PathBuf| fs::read_link(path).is_ok_and(|cwd| cwd.starts_with(folder));
    fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|process| named(process.join("cmdline")) || within(process.join("cwd")))
        .map(|process| fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned())
        .collect()
}
