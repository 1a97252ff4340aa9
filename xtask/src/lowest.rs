//! The lowest versions that our manifests allow, of dependencies and of Rust: with them, a user's service must build.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::{
    packages::{metadata, published, text},
    step::{self, Failure, cargo, timed},
};

/// Builds each package for crates.io with the lowest versions of its direct dependencies. This is done in a copy,
/// because these versions are written into Cargo.lock.
pub(crate) fn dependencies() -> Result<(), Failure> {
    let metadata = metadata(Path::new("."), &["--no-deps"])?;
    let packages = published(&metadata)?;
    let copy = tempfile::tempdir().map_err(|error| Failure(format!("no temporary folder: {error}")))?;
    timed("copying the workspace", || copy_to(copy.path()))?;
    let mut lower = cargo();
    // Of direct dependencies alone: the lowest versions that other people's manifests allow often do not build.
    lower.args(["update", "--quiet", "-Z", "direct-minimal-versions"]).current_dir(copy.path());
    // Only nightly toolchains know that option, and others under this variable. It is set for this one process, which
    // compiles nothing.
    lower.env("RUSTC_BOOTSTRAP", "1");
    step::run("choosing the lowest versions of direct dependencies", &mut lower)?;
    let mut check = cargo();
    check.args(["check", "--quiet", "--keep-going", "--locked", "--all-features"]).current_dir(copy.path());
    check.args(packages.iter().flat_map(|package| ["--package", &package.name]));
    check.arg("--target-dir").arg(Path::new(text(&metadata, "target_directory")?).join("minimal-versions"));
    step::run("building the packages with them", &mut check)?;
    eprintln!("==> {} packages build with the lowest versions that they allow", packages.len());
    Ok(())
}

/// Builds each package for crates.io with the Rust that its manifest names as the lowest.
pub(crate) fn rust() -> Result<(), Failure> {
    let metadata = metadata(Path::new("."), &["--no-deps"])?;
    let target = Path::new(text(&metadata, "target_directory")?).join("msrv");
    let mut by_version: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in published(&metadata)? {
        by_version.entry(package.rust_version).or_default().push(package.name);
    }
    for (version, packages) in &by_version {
        let mut install = Command::new("rustup");
        install.args(["toolchain", "install", "--no-self-update", "--profile", "minimal", version]);
        step::run(&format!("installing Rust {version} with rustup, once"), &mut install)?;
        let mut check = Command::new("rustup");
        check.args(["run", version, "cargo", "check", "--quiet", "--locked", "--all-features"]);
        check.args(packages.iter().flat_map(|package| ["--package", package]));
        check.arg("--target-dir").arg(target.join(version));
        step::run(&format!("building {} with Rust {version}", packages.join(", ")), &mut check)?;
    }
    eprintln!("==> each package builds with the lowest Rust that it names");
    Ok(())
}

/// Copies the files that are, or would be, under version control.
fn copy_to(folder: &Path) -> Result<(), Failure> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = list.output().map_err(|error| Failure(format!("cannot start git: {error}")))?;
    if !output.status.success() {
        return Err(Failure(format!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    // A file that is removed and not committed is listed all the same.
    for name in names.split_terminator('\0').map(Path::new).filter(|name| name.exists()) {
        let to = folder.join(name);
        let copied = fs::create_dir_all(to.parent().unwrap_or(folder)).and_then(|()| fs::copy(name, &to));
        copied.map_err(|error| Failure(format!("{}: {error}", name.display())))?;
    }
    Ok(())
}
