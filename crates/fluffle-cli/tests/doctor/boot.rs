//! A broker in the middle of its boot.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fluffle_harness::RabbitMq;

use crate::run::json;

/// Each subcommand that needs a broker ends with code 3, and says what to do.
pub(crate) fn each_subcommand_says_it_cannot_connect(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let topology = folder.path().join("topology.toml");
    std::fs::write(&topology, "[[queue]]\nname = \"orders\"\ntype = \"quorum\"\n").unwrap();
    let file = topology.to_str().unwrap();
    let subcommands: [&[&str]; 6] = [
        &["tail", "quakes"],
        &["publish", "hello", "--queue", "greetings"],
        &["explain", "id", "--queue", "orders"],
        &["dlq", "list", "orders.dead"],
        &["dlq", "replay", "orders.dead", "--go"],
        &["topology", "plan", file],
    ];
    for arguments in subcommands {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fluffle"));
        command.args(arguments).args(["--url", url, "--connect-within", "2s"]);
        command.env("XDG_STATE_HOME", folder.path()).env_remove("RABBITMQ_API");
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {error}");
        assert!(error.contains("await_startup") && error.contains("fluffle doctor"), "{arguments:?}: {error}");
    }
}

/// Whatever the moment, doctor either names a step of the connection, or the node is up and sound.
#[test]
fn a_node_that_boots_is_examined_at_every_moment_of_its_boot() {
    let broker = RabbitMq::start().unwrap();
    broker.stop().unwrap();
    let up = AtomicBool::new(false);
    let mut seen = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            broker.start_again().unwrap();
            broker.wait_ready(Duration::from_secs(120)).unwrap();
            up.store(true, Ordering::SeqCst);
        });
        while !up.load(Ordering::SeqCst) {
            let report = json(&["--url", &broker.url(), "--connect-within", "2s"]);
            let ids: Vec<String> =
                report.findings().iter().map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
            assert!(report.code == 0 || report.code == 3 && ids[0].starts_with("connect."), "{:#?}", report.list());
            assert!(!ids.contains(&"connect.failed".to_owned()), "{:#?}", report.list());
            seen.extend(ids);
        }
    });
    assert!(seen.contains(&"connect.unreachable".to_owned()), "{seen:?}");
}
