//! Tests of the program `fluffle new`: what it makes is tested as a new user would, in an empty folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// Runs the tests of the made service, too. They compile a new crate against this checkout.
const WITH_CARGO: &str = "FLUFFLE_TEST_NEW";

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fluffle")).arg("new").args(arguments).current_dir(folder).output().unwrap()
}

fn checkout() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_bad_name_and_a_folder_that_exists_are_refused_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("there")).unwrap();
    for (name, why) in [
        ("../up", "is no name for a crate"),
        ("9lives", "must begin with an ASCII letter"),
        ("grün", "ASCII letters"),
        ("async", "has that name"),
        ("fluffle", "has that name"),
        ("", "is no name for a crate"),
        ("there", "exists"),
    ] {
        let run = new(folder.path(), &[name]);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!((run.status.code(), error.contains(why)), (Some(3), true), "{name}: {error}");
    }
    let run = new(folder.path(), &["shop"]);
    assert_eq!(run.status.code(), Some(3), "a release that is not on crates.io cannot be built");
    assert!(String::from_utf8_lossy(&run.stderr).contains("not on crates.io yet"), "{run:?}");
    let run = new(folder.path(), &["shop", "--in-tree", "/nowhere"]);
    assert_eq!(run.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&run.stderr).contains("name a checkout of Fluffle"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(folder.path().join("there")).unwrap().count(), 0);
}

#[test]
fn a_git_repository_is_a_dependency_that_cargo_reads() {
    let folder = tempfile::tempdir().unwrap();
    let run = new(folder.path(), &["my-shop", "--git", "https://git.example.com/fluffle.git", "--rev", "48df1fe"]);
    assert!(run.status.success(), "{run:?}");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--offline", "--no-deps", "--format-version", "1"]);
    let metadata = cargo.current_dir(folder.path().join("my-shop")).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let dependencies = metadata["packages"][0]["dependencies"].as_array().unwrap();
    for name in ["fluffle", "fluffle-build"] {
        let source = dependencies.iter().find(|one| one["name"] == name).unwrap()["source"].as_str().unwrap();
        assert_eq!(source, "git+https://git.example.com/fluffle.git?rev=48df1fe");
    }
}

#[test]
fn every_placeholder_is_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let run = new(folder.path(), &["my-shop", "--in-tree", &checkout()]);
    assert!(run.status.success(), "{run:?}");
    let mut folders = vec![folder.path().join("my-shop")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files += 1;
                assert!(!fs::read_to_string(&path).unwrap().contains("{{"), "{}", path.display());
            }
        }
    }
    assert_eq!(files, 11);
}

/// Only with `FLUFFLE_TEST_NEW=1`: it compiles the libraries again with a new user's profile, 1.5 to 5 minutes on two
/// busy cores, and seconds when that is done.
#[test]
fn what_is_made_passes_its_own_tests() {
    if std::env::var_os(WITH_CARGO).is_none() {
        eprintln!("skipped: {WITH_CARGO} is not set");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = new(folder.path(), &["my-shop", "--in-tree", &checkout()]);
    assert!(run.status.success(), "{run:?}");
    let shop = folder.path().join("my-shop");
    // The versions of this checkout, which are on this machine.
    fs::copy(Path::new(&checkout()).join("Cargo.lock"), shop.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_BIN_EXE_fluffle")).parent().unwrap().parent().unwrap();
    let formatted = Command::new(env!("CARGO")).args(["fmt", "--check"]).current_dir(&shop).output().unwrap();
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stdout));
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(arguments).arg("--offline").current_dir(&shop).env("CARGO_TARGET_DIR", target);
        let output = command.env_remove("AMQP_URL").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    };
    let tests = cargo(&["test"]);
    assert!(tests.contains("an_order_gets_a_receipt_or_is_a_dead_letter ... ok"), "{tests}");
}
