//! Where the workspace's files, packages and crates are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::krate::Krate;

/// The folders that hold Rust files of the workspace.
const FOLDERS: [&str; 9] =
    ["crates", "book", "proto", "examples", "benches", "interop", "torture", "conformance", "xtask"];

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A path as a failure message shows it: relative to the workspace.
pub(crate) fn place(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files(folder).into_iter().filter(is_rust).collect()
}

/// Every file below a folder, sorted. Build results and hidden files are left out.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let is_left_out = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "target" || name.starts_with('.')
    };
    let kept = entries.into_iter().filter(|path| !is_left_out(path));
    kept.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every Rust file of the workspace, tests and examples included.
pub(crate) fn workspace_sources() -> Vec<PathBuf> {
    FOLDERS.iter().flat_map(|folder| rust_files(&root().join(folder))).collect()
}

/// Every source of every library crate, except files that are test modules as a whole.
pub(crate) fn library_sources() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let is_tests = |file: &PathBuf| file.iter().any(|part| part == "tests" || part == "tests.rs");
    crates.flat_map(|source| rust_files(&source)).filter(|file| !is_tests(file)).collect()
}

/// What Cargo says of the workspace's packages.
pub(crate) fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

pub(crate) fn is_in_crates(package: &Value) -> bool {
    Path::new(package["manifest_path"].as_str().unwrap()).starts_with(root().join("crates"))
}

/// Every library and every program of the workspace, parsed, without its tests.
pub(crate) fn all_crates() -> Vec<Krate> {
    packages().iter().flat_map(|package| crates_of(package, &["lib", "bin"])).collect()
}

/// The libraries in `crates/`, parsed, without their tests.
pub(crate) fn library_crates() -> Vec<Krate> {
    packages().iter().filter(|package| is_in_crates(package)).flat_map(|package| crates_of(package, &["lib"])).collect()
}

fn crates_of(package: &Value, kinds: &[&str]) -> Vec<Krate> {
    let name = package["name"].as_str().unwrap();
    let targets = package["targets"].as_array().unwrap().iter();
    let is_wanted = |target: &&Value| kinds.iter().any(|kind| target["kind"][0] == *kind);
    let roots = targets.filter(is_wanted).map(|target| place(Path::new(target["src_path"].as_str().unwrap())));
    roots.map(|file| Krate::read(name, &file, &|path| fs::read_to_string(root().join(path)).ok())).collect()
}
