//! What an operator reads in the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    io::{self, Write},
    sync::{Mutex, Once, PoisonError},
    time::Duration,
};

use fluffle_supervise::{Intensity, SupervisorSpec};
use support::{Crash, Watcher, Which, good, paused};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Installs a subscriber for the whole process, because one for a single thread would depend on what the other tests'
/// threads do. Each test therefore gives its tree another name.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(|| Log)
            .init();
    });
}

/// The log lines about this tree.
fn lines(tree: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let log = String::from_utf8(log).unwrap();
    let path = format!("path=\"{tree}");
    let about = |line: &&str| line.contains("fluffle_supervise: ") && line.contains(&path);
    log.lines().filter(about).map(|line| line.trim_start().to_owned()).collect()
}

#[test]
fn what_is_healthy_is_told_at_info_what_is_healed_at_warn_and_what_is_not_at_error() {
    listen();
    paused(async {
        let (child, addr) = good("child");
        let once = Intensity::new(1, Duration::from_secs(1)).unwrap();
        let tree = SupervisorSpec::new("tree").intensity(once).child(child).start();
        Watcher::new(&tree).ready("tree").await;
        addr.send(Crash).await.unwrap_err();
        addr.send(Crash).await.unwrap_err();
        tree.wait().await;
    });
    assert_eq!(
        lines("tree"),
        [
            "INFO fluffle_supervise: started path=\"tree\" incarnation=1",
            "INFO fluffle_supervise: started path=\"tree/child\" incarnation=1",
            "INFO fluffle_supervise: ready path=\"tree/child\"",
            "INFO fluffle_supervise: ready path=\"tree\"",
            "WARN fluffle_supervise: exited path=\"tree/child\" reason=panicked in a handler: crashed as asked",
            "WARN fluffle_supervise: backing off path=\"tree/child\" delay=0ns attempt=1",
            "INFO fluffle_supervise: restarting path=\"tree/child\"",
            "INFO fluffle_supervise: started path=\"tree/child\" incarnation=2",
            "INFO fluffle_supervise: ready path=\"tree/child\"",
            "WARN fluffle_supervise: exited path=\"tree/child\" reason=panicked in a handler: crashed as asked",
            "ERROR fluffle_supervise: escalates path=\"tree\" escalation=tree/child was restarted once in 1s; last: \
             panicked in a handler: crashed as asked",
            "DEBUG fluffle_supervise: exited: it gave up on a child path=\"tree\"",
            "INFO fluffle_supervise: over path=\"tree/child\"",
            "INFO fluffle_supervise: over path=\"tree\"",
        ]
    );
}

#[test]
fn messages_posted_to_a_child_that_ends_for_good_are_counted_in_a_warning() {
    listen();
    let (child, addr) = good("child");
    let posted = SupervisorSpec::new("posted").child(child);
    addr.try_post(Which).unwrap();
    addr.try_post(Which).unwrap();
    drop(posted);
    let warning = "WARN fluffle_supervise: posted messages dropped: the child is over path=\"posted/child\" lost=2";
    assert!(lines("posted").contains(&warning.to_owned()), "{:?}", lines("posted"));
}
