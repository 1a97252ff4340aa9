//! Runs a few short seeds, different ones each time, on the embedded broker. Checks that a breach fails the run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

/// Runs the torture. Its folders are removed with `folder`.
fn torture(arguments: &[&str]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_torture"));
    let output = command.args(arguments).env("TMPDIR", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output, text)
}

#[test]
fn whatever_the_weather_every_promise_is_kept() {
    let first = fastrand::u64(..1 << 32);
    let seeds = format!("{first}..{}", first + 2);
    println!("cargo xtask torture --seeds {seeds} --seconds 3");
    let (output, text) = torture(&["--seeds", &seeds, "--seconds", "3"]);
    assert!(output.status.success());
    let runs: Vec<&str> = text.lines().filter(|line| line.starts_with("torture: seed=")).collect();
    assert_eq!(runs.len(), 3);
    for run in runs {
        let number = |name: &str| -> u64 {
            let word = run.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            word.unwrap().parse().unwrap()
        };
        assert!(
            ["accepted", "foreign", "handled", "undecodable", "faults"].iter().all(|name| number(name) > 0),
            "nothing happened: {run}"
        );
        if cfg!(target_os = "linux") {
            assert!(["disk_full", "unwritten"].iter().all(|name| number(name) > 0), "no disk was full: {run}");
        }
        assert!(["lost", "order_broken", "effects_repeated", "other_breaches"].iter().all(|name| number(name) == 0));
    }
}

#[test]
fn a_breach_is_told_and_is_an_exit_code() {
    // A limit of zero for draining must make the run fail.
    let (output, text) = torture(&["--seed", "1", "--seconds", "1", "--drain-within", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("breach: not drained within 0ns: "), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("torture: seed=1 ") && last.ends_with(" drained_ms=never"), "{last}");
}
