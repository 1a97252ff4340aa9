//! Installs RabbitMQ 4 on a machine whose packages have RabbitMQ 3: the version of Debian 13, in its own folder.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    broker,
    step::{self, Failure},
};

/// Debian 13 has RabbitMQ 4.0.
const RELEASE: &str = "trixie";

/// Runs a program from the folder in a mount namespace of its own, as the calling user. The temporary folder, which
/// holds the data of private nodes, has the same path inside. Each step replaces its process, so the caller's child is
/// the node itself.
const WRAPPER: &str = r#"#!/bin/sh
exec unshare --user --map-root-user --mount sh -c '
    root=$1; temp=$2; here=$3; shift 3
    mkdir -p "$root$temp" && mount --rbind "$temp" "$root$temp" && mount --rbind /proc "$root/proc" || exit 1
    exec chroot "$root" sh -c "cd \"\$1\" 2>/dev/null || cd /; shift; exec \"\$@\"" chroot "$here" "$@"
' rabbitmq4 'ROOT' 'TEMP' "$PWD" "/usr/lib/rabbitmq/bin/${0##*/}" "$@"
"#;

/// Installs it into the folder in `arguments`, by default `target/rabbitmq4`, unless it is already there.
pub(crate) fn install(arguments: &[String]) -> Result<(), Failure> {
    let io = |what: &'static str| move |error| Failure(format!("cannot {what}: {error}"));
    let folder = PathBuf::from(arguments.first().map_or("target/rabbitmq4", String::as_str));
    fs::create_dir_all(folder.join("bin")).map_err(io("make the folder"))?;
    let folder = folder.canonicalize().map_err(io("find the folder"))?;
    let root = folder.join("root");
    if !root.join("usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
        bootstrap(&root)?;
    }
    for program in ["rabbitmq-server", "rabbitmqctl"] {
        let file = folder.join("bin").join(program);
        let (root, temp) = (root.display().to_string(), env::temp_dir().display().to_string());
        fs::write(&file, WRAPPER.replace("ROOT", &root).replace("TEMP", &temp)).map_err(io("write a wrapper"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(io("make a wrapper executable"))?;
    }
    println!("RabbitMQ 4 is in {}. To run anything on it, for instance:\n", root.display());
    println!("    FLUFFLE_RABBITMQ_BIN={}/bin cargo xtask test -p conformance -p fluffle", folder.display());
    Ok(())
}

fn bootstrap(root: &Path) -> Result<(), Failure> {
    broker::ensure_debootstrap()?;
    let words = broker::as_root().ok_or_else(|| Failure("debootstrap takes root: become it, or have sudo".into()))?;
    let mut words = words.iter().copied().chain(["env", "debootstrap"]);
    let mut command = Command::new(words.next().unwrap_or("env"));
    command.args(words).args(["--variant=minbase", "--include=rabbitmq-server", RELEASE]).arg(root);
    step::run("installing Debian 13 with rabbitmq-server, some 400 MB", &mut command)
}
