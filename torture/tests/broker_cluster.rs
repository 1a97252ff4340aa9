//! Runs one short seed, a different one each time, on a cluster of three RabbitMQ nodes of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

#[test]
fn whatever_happens_to_nodes_and_processes_every_promise_is_kept_on_a_cluster_too() {
    let seed = fastrand::u64(..1 << 32).to_string();
    println!("cargo xtask torture --broker cluster --seed {seed} --seconds 10");
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    command.args(["--broker", "cluster", "--seed", &seed, "--seconds", "10"]);
    let output = command.output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}
