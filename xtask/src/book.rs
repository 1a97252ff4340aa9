//! The guide: built by mdBook, which is installed if it is missing.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::step::{self, Failure, cargo};

/// The version with which the guide is written and looked at.
const VERSION: &str = "0.5.4";

/// Where the tools are that a command of ours installs.
const TOOLS: &str = "target/tools";

/// Builds the guide into target/book.
pub(crate) fn build(arguments: &[String]) -> Result<(), Failure> {
    if let Some(other) = arguments.iter().find(|argument| *argument != "--open") {
        return Err(Failure(format!("`cargo xtask book` knows --open, and not {other:?}")));
    }
    let mut build = Command::new(mdbook()?);
    build.args(["build", "book"]).args(arguments);
    step::run("building the guide into target/book", &mut build)
}

/// mdBook in the version that is wanted, whatever other one the user may have.
fn mdbook() -> Result<PathBuf, Failure> {
    let program = Path::new(TOOLS).join("bin/mdbook");
    if !is_of_version(&program) {
        let mut install = cargo();
        // Without its server, which brings half of its dependencies.
        install.args(["install", "mdbook", "--version", VERSION, "--locked", "--root", TOOLS]);
        install.args(["--no-default-features", "--features", "search"]);
        step::run("installing mdbook into target/tools, once", &mut install)?;
    }
    Ok(program)
}

fn is_of_version(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == format!("mdbook v{VERSION}"))
}
