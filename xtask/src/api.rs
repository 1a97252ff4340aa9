//! The public items of each library for crates.io, listed in a file, so that a review sees a change of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use public_api::Builder;
use serde_json::Value;

use crate::{
    packages::{metadata, published, text},
    step::{self, Failure, cargo, timed},
};

/// Where the listings are.
const LISTINGS: &str = "docs/api";

/// Compares the listings with the code; with `--bless` it writes them anew.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let is_blessed = !arguments.is_empty();
    if let Some(other) = arguments.iter().find(|argument| *argument != "--bless") {
        return Err(Failure(format!("`cargo xtask api` knows --bless, and not {other:?}")));
    }
    let metadata = metadata(Path::new("."), &["--no-deps"])?;
    let packages = published(&metadata)?;
    let libraries: Vec<&str> = packages.iter().filter(|one| one.is_library).map(|one| one.name.as_str()).collect();
    // Its own target folder: with the variable below, most dependencies are built anew.
    let target = Path::new(text(&metadata, "target_directory")?).join("api");
    step::run("describing the libraries, with all features", &mut describe(&libraries, &target))?;
    let listings = if is_blessed { PathBuf::from(LISTINGS) } else { target.join("listings") };
    timed("listing their public items", || list(&libraries, &target.join("doc"), &listings))?;
    if is_blessed {
        eprintln!("==> {} libraries are listed in {LISTINGS}: the change there belongs to the commit", libraries.len());
        return Ok(());
    }
    let mut compare = Command::new("git");
    compare.args(["--no-pager", "diff", "--no-index", "--exit-code", LISTINGS]).arg(&listings);
    step::run("comparing them with docs/api", &mut compare).map_err(|Failure(why)| {
        Failure(format!("{why}. If the change is meant, `cargo xtask api --bless` writes the listings anew"))
    })
}

/// rustdoc's description of the libraries, as JSON.
fn describe(libraries: &[&str], target: &Path) -> Command {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--lib", "--no-deps", "--all-features", "--target-dir"]).arg(target);
    command.args(libraries.iter().flat_map(|library| ["--package", library]));
    command.env("RUSTDOCFLAGS", "-Z unstable-options --output-format json");
    // The JSON is not stable, so only nightly toolchains write it, and others under this variable. With it, no second
    // toolchain must be installed. It is set for this one process: what we release is never built under it.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Writes one file for each library, and removes the files of an earlier run.
fn list(libraries: &[&str], described: &Path, listings: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure(format!("{}: {error}", path.display()));
    if listings.exists() {
        fs::remove_dir_all(listings).map_err(|error| failed(listings, error))?;
    }
    fs::create_dir_all(listings).map_err(|error| failed(listings, error))?;
    for library in libraries {
        let description = described.join(library.replace('-', "_")).with_extension("json");
        let items = Builder::from_rustdoc_json(&description)
            // They follow from what is listed, and would be most of the list.
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .map_err(|error| Failure(unreadable(&description, &error)))?;
        let listing = listings.join(library).with_extension("txt");
        fs::write(&listing, items.to_string()).map_err(|error| failed(&listing, error))?;
    }
    Ok(())
}

/// Says which format the description has, because the usual reason is a toolchain that public-api does not know.
fn unreadable(description: &Path, error: &public_api::Error) -> String {
    let json = fs::read(description).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let format = json.map_or("unknown".to_owned(), |json| json["format_version"].to_string());
    format!(
        "{}: {error}. The format of this JSON is {format}. It changes with the toolchain: take the version of \
         public-api (Cargo.toml) that reads it",
        description.display()
    )
}
