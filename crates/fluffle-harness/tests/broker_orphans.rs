//! In whatever way its owner dies, a node leaves no process and no folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fluffle_harness::{NODE_VAR, RabbitMq};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_sigkilled_owner_leaves_no_orphan() {
    let (mut owner, folder) = owner_of_a_node();
    let alive = processes_of(&folder);
    for part in ["sh", "epmd", "beam.smp"] {
        assert!(alive.iter().any(|name| name == part), "no {part} among {alive:?}");
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert_nothing_left(&folder);
}

#[test]
fn an_owner_that_returns_from_main_leaves_no_orphan_of_its_shared_node() {
    let (mut owner, folder) = owner_of_a_node();
    drop(owner.stdin.take());
    assert!(owner.wait().unwrap().success());
    assert_nothing_left(&folder);
}

#[test]
fn a_dropped_node_leaves_no_orphan() {
    let broker = RabbitMq::start().unwrap();
    let folder = broker.folder().to_path_buf();
    drop(broker);
    assert_nothing_left(&folder);
}

#[test]
fn a_process_given_a_node_attaches_to_it_and_leaves_it_running() {
    let broker = RabbitMq::start().unwrap();
    let mut guest = private_broker(Some(broker.folder()));
    let (url, _) = announced(&mut guest);
    assert_eq!(url, broker.url());
    drop(guest.stdin.take());
    assert!(guest.wait().unwrap().success());
    broker.wait_ready(LIMIT).unwrap();
}

fn owner_of_a_node() -> (Child, PathBuf) {
    let mut owner = private_broker(None);
    let (_, folder) = announced(&mut owner);
    (owner, folder)
}

fn private_broker(node: Option<&Path>) -> Child {
    Command::new(env!("CARGO_BIN_EXE_private-broker"))
        .env_remove("FLUFFLE_KEEP_BROKER")
        // A variable for the system's broker must not affect a private one.
        .env("RABBITMQ_MNESIA_BASE", "/nonexistent")
        .env(NODE_VAR, node.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The URL and the folder that `private-broker` prints once its node is ready.
fn announced(program: &mut Child) -> (String, PathBuf) {
    let mut lines = BufReader::new(program.stdout.take().unwrap() as ChildStdout).lines();
    let mut line = || lines.next().expect("private-broker ended without a node").unwrap();
    (line(), PathBuf::from(line()))
}

fn assert_nothing_left(folder: &Path) {
    let deadline = Instant::now() + LIMIT;
    while !processes_of(folder).is_empty() || folder.exists() {
        let left = processes_of(folder);
        assert!(Instant::now() < deadline, "left: {left:?}, folder exists: {}", folder.exists());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every living process with the folder's name in its arguments or environment. (A zombie has neither.)
fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let mentions = |path: PathBuf| fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(name));
    fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|process| mentions(process.join("cmdline")) || mentions(process.join("environ")))
        .map(|process| fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned())
        .collect()
}
