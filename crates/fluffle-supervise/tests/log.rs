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
fn what_is_healthy_is_told_at_debug_what_is_healed_at_warn_and_what_is_not_at_error() {
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
            "DEBUG fluffle_supervise: started path=\"tree\" incarnation=1",
            "DEBUG fluffle_supervise: started path=\"tree/child\" incarnation=1",
            "DEBUG fluffle_supervise: ready path=\"tree/child\"",
            "DEBUG fluffle_supervise: ready path=\"tree\"",
            "DEBUG fluffle_supervise: ended path=\"tree/child\" reason=panicked in a handler: crashed as asked",
            "DEBUG fluffle_supervise: waits before it is started again path=\"tree/child\" delay=0ns attempt=1",
            "WARN fluffle_supervise: ended: it is started again after the delay path=\"tree/child\" \
             reason=\"panicked in a handler: crashed as asked\" delay=0ns attempt=1",
            "DEBUG fluffle_supervise: is started again path=\"tree/child\"",
            "DEBUG fluffle_supervise: started path=\"tree/child\" incarnation=2",
            "DEBUG fluffle_supervise: ready path=\"tree/child\"",
            "DEBUG fluffle_supervise: ended path=\"tree/child\" reason=panicked in a handler: crashed as asked",
            "ERROR fluffle_supervise: gives up on a child and ends: the supervisor above decides whether it is started \
             again path=\"tree\" escalation=tree/child was restarted once in 1s; last: panicked in a handler: crashed \
             as asked",
            "DEBUG fluffle_supervise: ended: it gave up on a child path=\"tree\"",
            "DEBUG fluffle_supervise: over path=\"tree/child\"",
            "DEBUG fluffle_supervise: over path=\"tree\"",
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
    let warning = "WARN fluffle_supervise: posted messages dropped: the child is over and reads none \
                   path=\"posted/child\" lost=2";
    assert!(lines("posted").contains(&warning.to_owned()), "{:?}", lines("posted"));
}

/// The lines at `warn` and `error` about this tree.
fn loud(tree: &str) -> Vec<String> {
    lines(tree).into_iter().filter(|line| !line.starts_with("DEBUG")).collect()
}

/// Lets the child crash this many times in a row, and waits for each restart.
async fn crash(addr: &fluffle_supervise::SupervisedAddr<support::Probe>, times: usize) {
    for _ in 0..times {
        addr.send(Crash).await.unwrap_err();
    }
}

#[test]
fn of_a_row_of_restarts_for_one_reason_the_1st_2nd_4th_and_8th_are_told() {
    listen();
    paused(async {
        let (child, addr) = good("child");
        let tree = SupervisorSpec::new("row").intensity(Intensity::unlimited()).child(child).start();
        Watcher::new(&tree).ready("row").await;
        crash(&addr, 9).await;
        tree.shutdown().await;
    });
    let told = loud("row");
    let attempts: Vec<&str> = told.iter().filter_map(|line| line.rsplit_once("attempt=").map(|(_, it)| it)).collect();
    assert_eq!(attempts, ["1", "2", "4", "8"], "{told:#?}");
    assert_eq!(told.len(), 4, "{told:#?}");
}

#[test]
fn an_exit_that_the_actor_logs_itself_is_told_at_debug_and_the_next_one_at_warn() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    listen();
    static EXITS: AtomicUsize = AtomicUsize::new(0);
    paused(async {
        let (child, addr) = good("child");
        let child = child.logs_exits(|_| EXITS.fetch_add(1, Ordering::SeqCst) == 0);
        let tree = SupervisorSpec::new("own").intensity(Intensity::unlimited()).child(child).start();
        Watcher::new(&tree).ready("own").await;
        crash(&addr, 1).await;
        assert_eq!(loud("own"), Vec::<String>::new());
        crash(&addr, 1).await;
        tree.shutdown().await;
    });
    let told = loud("own");
    assert!(told.len() == 1 && told[0].contains("attempt=2"), "{told:#?}");
}
