//! What Cargo says of the packages of a folder, and which of them are for crates.io.

use std::path::Path;

use serde_json::Value;

use crate::step::{Failure, cargo};

/// One package for crates.io.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The lowest version of Rust that builds it.
    pub(crate) rust_version: String,
    /// Whether it has a library, and not only programs.
    pub(crate) is_library: bool,
}

/// The packages of the workspace that do not say `publish = false`.
pub(crate) fn published(metadata: &Value) -> Result<Vec<Package>, Failure> {
    let all = metadata["packages"].as_array().into_iter().flatten();
    let ours = all.filter(|package| package["publish"].as_array().is_none_or(|registries| !registries.is_empty()));
    ours.map(|package| {
        Ok(Package {
            name: text(package, "name")?.to_owned(),
            version: text(package, "version")?.to_owned(),
            rust_version: text(package, "rust_version")?.to_owned(),
            is_library: has_library(package),
        })
    })
    .collect()
}

fn has_library(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets.flat_map(|target| target["kind"].as_array().into_iter().flatten()).any(|kind| kind == "lib")
}

/// What Cargo says of the packages of a folder.
pub(crate) fn metadata(folder: &Path, arguments: &[&str]) -> Result<Value, Failure> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1"]).args(arguments).current_dir(folder);
    let output = command.output().map_err(|error| Failure(format!("cannot start cargo: {error}")))?;
    if !output.status.success() {
        return Err(Failure(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Failure(format!("cargo metadata: {error}")))
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, Failure> {
    value[key].as_str().ok_or_else(|| Failure(format!("cargo metadata names no {key}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::published;

    #[test]
    fn what_is_private_is_no_package() {
        let package = |name: &str, publish: Option<[&str; 0]>, kind: &str| {
            let targets = [json!({ "kind": [kind] })];
            json!({ "name": name, "version": "0.1.0", "rust_version": "1.89", "publish": publish, "targets": targets })
        };
        let all =
            [package("fluffle", None, "lib"), package("fluffle-cli", None, "bin"), package("protos", Some([]), "lib")];
        let found = published(&json!({ "packages": all })).unwrap();
        let found: Vec<_> = found.iter().map(|package| (package.name.as_str(), package.is_library)).collect();
        assert_eq!(found, [("fluffle", true), ("fluffle-cli", false)]);
    }
}
