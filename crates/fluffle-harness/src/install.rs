//! Finds RabbitMQ's programs and the account under which it runs.

use std::{
    env,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::HarnessError;

/// The variable that names a folder with `rabbitmq-server` and `rabbitmqctl`. It is tried before all known places.
const BIN_VAR: &str = "FLUFFLE_RABBITMQ_BIN";

/// Where packages install the scripts that do not switch the user.
const KNOWN_FOLDERS: [&str; 4] =
    ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/opt/homebrew/sbin", "/usr/local/sbin"];

/// The search path of the node's processes, because the `PATH` of the test's process may lack these folders.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs that a node needs, and the account under which it runs.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    pub(crate) server: PathBuf,
    pub(crate) ctl: PathBuf,
    pub(crate) epmd: PathBuf,
    /// If this process is root, the account that RabbitMQ's package created. The node runs under it.
    pub(crate) account: Option<Account>,
}

/// The ids of a user and its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Installation {
    pub(crate) fn find() -> Result<Self, HarnessError> {
        let folder = script_folder().ok_or(HarnessError::NotInstalled { program: "rabbitmq-server" })?;
        let epmd = on_path("epmd").ok_or(HarnessError::NotInstalled { program: "epmd (Erlang)" })?;
        Ok(Self {
            server: folder.join("rabbitmq-server"),
            ctl: folder.join("rabbitmqctl"),
            epmd,
            account: if is_root() { account_of("rabbitmq") } else { None },
        })
    }
}

/// Whether a private node can be started on this machine.
///
/// Looks into `FLUFFLE_RABBITMQ_BIN`, the folders that packages use, and `PATH`. Starts nothing.
#[must_use]
pub fn is_installed() -> bool {
    Installation::find().is_ok()
}

fn script_folder() -> Option<PathBuf> {
    let named = env::var_os(BIN_VAR).map(PathBuf::from);
    let known = KNOWN_FOLDERS.iter().map(PathBuf::from);
    named
        .into_iter()
        .chain(known)
        .chain(path_folders())
        .find(|folder| is_plain_script(&folder.join("rabbitmq-server")) && folder.join("rabbitmqctl").is_file())
}

/// Whether this is RabbitMQ's own script. Debian's `/usr/sbin/rabbitmq-server` is a wrapper that requires root or the
/// user `rabbitmq`, and the system's own folders; the script behind it does not.
fn is_plain_script(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.is_file() && !real.ends_with("rabbitmq-script-wrapper"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    path_folders().map(|folder| folder.join(program)).find(|path| path.is_file())
}

pub(crate) fn path_folders() -> impl Iterator<Item = PathBuf> {
    let own = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&own).chain(env::split_paths(SYSTEM_PATH)).collect();
    folders.into_iter()
}

pub(crate) fn is_root() -> bool {
    id_of("-u", None) == Some(0)
}

pub(crate) fn account_of(user: &str) -> Option<Account> {
    Some(Account { uid: id_of("-u", Some(user))?, gid: id_of("-g", Some(user))? })
}

/// Asks the program `id`, because std cannot look up user ids.
fn id_of(which: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(which).args(user).env("PATH", SYSTEM_PATH).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Sets the account of a command, if there is one to change to.
pub(crate) fn run_as(command: &mut Command, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}
