//! The packages for crates.io: made, built, and used by the first service of a new user.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    packages::{self, Package, published, text},
    step::{self, Failure, cargo, timed},
};

const USAGE: &str = "`cargo xtask release --dry-run [--allow-dirty]` makes the packages and tries them. It publishes \
                     nothing: docs/RELEASING.md says how that is done";

/// The name of the service that is made from the packages.
const SERVICE: &str = "first-service";

/// Checks that all packages can be published, and that a service which has them alone passes its test.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let is_known = |argument: &String| argument == "--dry-run" || argument == "--allow-dirty";
    if !arguments.iter().any(|argument| argument == "--dry-run") || !arguments.iter().all(is_known) {
        return Err(Failure(USAGE.to_owned()));
    }
    let is_dirty_allowed = arguments.iter().any(|argument| argument == "--allow-dirty");

    let metadata = packages::metadata(Path::new("."), &["--no-deps"])?;
    let packages = published(&metadata)?;
    // Its own target folder: the packages are built as a user builds them, with the default features of each.
    let target = Path::new(text(&metadata, "target_directory")?).join("release-dry-run");
    let all = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).arg("--target-dir").arg(&target).args(is_dirty_allowed.then_some("--allow-dirty"));
        command.args(packages.iter().flat_map(|package| ["--package", &package.name]));
        command
    };
    step::run("making the packages", &mut all(&["package", "--no-verify", "--quiet"]))?;
    forget_earlier(&packages, &target)?;
    // Builds each from its package, and has dependencies between them found among the packages, as if published.
    step::run("publishing to nowhere, in the order of dependencies", &mut all(&["publish", "--dry-run"]))?;
    let elsewhere = tempfile::tempdir().map_err(|error| Failure(format!("no temporary folder: {error}")))?;
    let folders: Vec<PathBuf> = timed("unpacking the packages", || {
        packages.iter().map(|package| unpack(package, &target, elsewhere.path())).collect()
    })?;
    make_service(&target.join("debug/fluffle"), elsewhere.path(), &packages, &folders)?;
    let service = elsewhere.path().join(SERVICE);
    let test = |what| {
        let mut test = cargo();
        step::run(what, test.arg("test").arg("--target-dir").arg(&target).current_dir(&service))
    };
    test("testing a service that has the packages alone")?;
    only_packages(&packages::metadata(&service, &[])?, elsewhere.path())?;
    change(&service.join("Cargo.toml"), with_one_feature)?;
    test("testing the same service with one feature of the framework")?;
    eprintln!("==> {} packages can be published", packages.len());
    Ok(())
}

/// Removes what Cargo has unpacked and built of these packages in an earlier run. Cargo would take it for the packages
/// of this run, because the versions are the same.
fn forget_earlier(packages: &[Package], target: &Path) -> Result<(), Failure> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"))).unwrap_or_default();
    let registries = folders_in(&home.join("registry/src"));
    let is_ours = |folder: &&PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        packages.iter().any(|package| name.starts_with(&format!("{}-", package.name)))
    };
    let unpacked: Vec<PathBuf> = registries.iter().flat_map(|registry| folders_in(registry)).collect();
    let built = folders_in(&target.join("debug/.fingerprint"));
    for folder in unpacked.iter().chain(&built).filter(is_ours) {
        fs::remove_dir_all(folder).map_err(|error| Failure(format!("{}: {error}", folder.display())))?;
    }
    Ok(())
}

/// What is in a folder; nothing, if there is none.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Unpacks one package to `crates/NAME`, the place in which `fluffle new --in-tree` looks for it.
fn unpack(package: &Package, target: &Path, elsewhere: &Path) -> Result<PathBuf, Failure> {
    let Package { name, version, .. } = package;
    let file = target.join(format!("package/{name}-{version}.crate"));
    let crates = elsewhere.join("crates");
    fs::create_dir_all(&crates).map_err(|error| Failure(format!("{}: {error}", crates.display())))?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&file).arg("-C").arg(&crates);
    let status = tar.status().map_err(|error| Failure(format!("cannot start tar: {error}")))?;
    if !status.success() {
        return Err(Failure(format!("tar could not unpack {} ({status})", file.display())));
    }
    let folder = crates.join(name);
    let unpacked = crates.join(format!("{name}-{version}"));
    fs::rename(&unpacked, &folder).map_err(|error| Failure(format!("{}: {error}", unpacked.display())))?;
    Ok(folder)
}

/// Makes a service with the packaged command, and has it depend on versions, as after a release.
fn make_service(command: &Path, elsewhere: &Path, packages: &[Package], folders: &[PathBuf]) -> Result<(), Failure> {
    let mut new = Command::new(command);
    new.args(["new", SERVICE, "--in-tree"]).arg(elsewhere).current_dir(elsewhere);
    step::run("making a service with the packaged command", &mut new)?;
    change(&elsewhere.join(SERVICE).join("Cargo.toml"), |manifest| on_versions(manifest, packages, folders))
}

/// Writes a file anew.
fn change(file: &Path, new: impl FnOnce(&str) -> Result<String, Failure>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(file).map_err(failed)?;
    fs::write(file, new(&text)?).map_err(failed)
}

/// The manifest of a service that uses the embedded broker, and no other feature of `fluffle`.
fn with_one_feature(manifest: &str) -> Result<String, Failure> {
    let on_version = manifest.lines().find_map(|line| Some((line, line.strip_prefix("fluffle = ")?)));
    let Some((line, version)) = on_version.filter(|(_, version)| version.starts_with('"')) else {
        return Err(Failure(format!("no `fluffle = \"…\"` in the service's manifest:\n{manifest}")));
    };
    let table = format!("{{ version = {version}, default-features = false, features = [\"embedded\"] }}");
    Ok(manifest.replace(line, &format!("fluffle = {table}")))
}

/// The manifest with versions in place of paths, and with a table that says where those versions are.
fn on_versions(manifest: &str, packages: &[Package], folders: &[PathBuf]) -> Result<String, Failure> {
    let mut changed = String::new();
    for line in manifest.lines() {
        let dependency = line.split_once(" = { path = ").map(|(name, _)| name);
        match dependency.and_then(|name| packages.iter().find(|package| package.name == name)) {
            Some(package) => changed.push_str(&format!("{} = {:?}", package.name, package.version)),
            None => changed.push_str(line),
        }
        changed.push('\n');
    }
    if changed == manifest || changed.contains("path = ") {
        return Err(Failure(format!("`fluffle new` writes dependencies in a way that is not known here:\n{manifest}")));
    }
    changed.push_str("\n[patch.crates-io]\n");
    for (package, folder) in packages.iter().zip(folders) {
        changed.push_str(&format!("{} = {{ path = {folder:?} }}\n", package.name));
    }
    Ok(changed)
}

/// Checks that a package without a registry, thus with a path, is below `folder`.
fn only_packages(metadata: &Value, folder: &Path) -> Result<(), Failure> {
    let local = metadata["packages"].as_array().into_iter().flatten().filter(|package| package["source"].is_null());
    let mut seen = 0;
    for package in local {
        let manifest = Path::new(text(package, "manifest_path")?);
        if !manifest.starts_with(folder) {
            return Err(Failure(format!("the service used {}, which is no package", manifest.display())));
        }
        seen += 1;
    }
    // The service itself is one of them.
    if seen < 2 { Err(Failure("the service used none of the packages".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use serde_json::json;

    use super::{Package, on_versions, only_packages, with_one_feature};

    fn fluffle() -> Package {
        let (name, version, rust_version) = ("fluffle".into(), "0.1.0".into(), "1.89".into());
        Package { name, version, rust_version, is_library: true }
    }

    #[test]
    fn the_service_depends_on_versions() {
        let made = "[dependencies]\nfluffle = { path = \"/away/crates/fluffle\" }\nprost = \"0.14\"\n";
        let folder = PathBuf::from("/away/crates/fluffle");
        let changed = on_versions(made, &[fluffle()], &[folder]).unwrap();
        assert!(changed.starts_with("[dependencies]\nfluffle = \"0.1.0\"\nprost = \"0.14\"\n\n[patch.crates-io]\n"));
        assert!(changed.ends_with("fluffle = { path = \"/away/crates/fluffle\" }\n"));
    }

    #[test]
    fn a_dependency_that_stays_a_path_is_told() {
        let made = "fluffle = { path = \"/away/crates/fluffle\" }\nother = { path = \"/checkout/other\" }\n";
        assert!(on_versions(made, &[fluffle()], &[PathBuf::from("/away")]).is_err());
        assert!(on_versions("fluffle = { git = \"…\" }\n", &[fluffle()], &[PathBuf::from("/away")]).is_err());
    }

    #[test]
    fn the_service_gets_one_feature() {
        let patch = "[patch.crates-io]\nfluffle = { path = \"/away\" }\n";
        let changed = with_one_feature(&format!("[dependencies]\nfluffle = \"0.1.0\"\n{patch}")).unwrap();
        let expected = "fluffle = { version = \"0.1.0\", default-features = false, features = [\"embedded\"] }";
        assert_eq!(changed, format!("[dependencies]\n{expected}\n{patch}"));
        assert!(with_one_feature(patch).is_err());
    }

    #[test]
    fn a_service_that_used_the_checkout_is_told() {
        let used = |path: &str| {
            let service = json!({ "source": null, "manifest_path": "/away/first-service/Cargo.toml" });
            let from_registry = json!({ "source": "registry", "manifest_path": "/home/registry/actix/Cargo.toml" });
            let ours = json!({ "source": null, "manifest_path": path });
            only_packages(&json!({ "packages": [service, from_registry, ours] }), Path::new("/away"))
        };
        assert!(used("/away/crates/fluffle/Cargo.toml").is_ok());
        assert!(used("/checkout/crates/fluffle/Cargo.toml").is_err());
        let service = json!({ "source": null, "manifest_path": "/away/first-service/Cargo.toml" });
        assert!(only_packages(&json!({ "packages": [service] }), Path::new("/away")).is_err());
    }
}
