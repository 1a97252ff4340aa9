//! The builder of a private node.

// One thought with rabbit.rs: `RabbitMq::builder` gives a `Builder`, and `Builder::start` gives a `RabbitMq`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    HarnessError, RabbitMq,
    install::{Account, Installation},
    keep_folder,
    layout::{LONE_NAME, Layout},
    ports::{free_port, random},
};

/// A cold boot takes 4 to 7 s on two cores. A machine that is busy compiling needs several times that.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// Another process may take a port between the check and the node's bind.
pub(crate) const PORT_ATTEMPTS: u32 = 3;

/// The files for a node that speaks TLS (`amqps://`), in PEM form. They are copied into the node's folder.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificates of the authorities whose client certificates the node accepts, in one file.
    pub ca: PathBuf,
    /// The node's own certificate, for `localhost` or `127.0.0.1`.
    pub cert: PathBuf,
    /// The private key of `cert`.
    pub key: PathBuf,
    /// If `true`, a client must show a certificate signed by `ca`. If `false`, the node asks for none.
    pub verify_peer: bool,
}

/// Builds a private node; see [`RabbitMq::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until start() is called"]
pub struct Builder {
    config: String,
    plugins: Vec<String>,
    tls: Option<TlsFiles>,
    management: bool,
    boot_limit: Duration,
    member: Option<Member>,
}

/// What a node of a cluster has and another one has not.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// The Erlang name.
    pub(crate) name: String,
    /// The cookie that all nodes of the cluster have.
    pub(crate) cookie: String,
    /// More arguments of the node's virtual machine.
    pub(crate) arguments: String,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            config: String::new(),
            plugins: Vec::new(),
            tls: None,
            management: false,
            boot_limit: BOOT_LIMIT,
            member: None,
        }
    }
}

impl Builder {
    /// Adds lines to the node's `rabbitmq.conf`, in its "ini" form:
    /// <https://www.rabbitmq.com/docs/configure>. Default: none.
    ///
    /// Not every setting has a key in that file. For example, use [`RabbitMq::eval`] to set how often channels look for
    /// overdue acks (once a minute by default): `application:set_env(rabbit, channel_tick_interval, 500)`.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Enables a plugin by name, e.g. `rabbitmq_auth_mechanism_ssl`. Default: none, because each plugin makes the boot
    /// longer.
    pub fn plugin(mut self, name: &str) -> Self {
        self.plugins.push(name.to_owned());
        self
    }

    /// Also listens for TLS connections, on [`RabbitMq::amqps_port`]. Default: plain connections only.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Enables the management plugin, with its HTTP API on loopback; see [`RabbitMq::api_url`]. Default: off, because
    /// it makes the boot longer.
    ///
    /// The API's counts are as old as `collect_statistics_interval`, 5 s by default. For a test that waits for them,
    /// add `.config("collect_statistics_interval = 500")`.
    ///
    /// ```no_run
    /// # use fluffle_harness::RabbitMq;
    /// let broker = RabbitMq::builder().management().start()?;
    /// assert!(broker.api_url().is_some_and(|url| url.starts_with("http://127.0.0.1:")));
    /// # Ok::<(), fluffle_harness::HarnessError>(())
    /// ```
    pub fn management(mut self) -> Self {
        self.management = true;
        self
    }

    /// How long a boot may take before it counts as failed. Default: 90 s.
    pub fn boot_limit(mut self, limit: Duration) -> Self {
        self.boot_limit = limit;
        self
    }

    /// Starts the node and waits until it takes connections.
    ///
    /// Blocks for the boot, 4 to 7 s on two cores.
    ///
    /// # Errors
    ///
    /// [`HarnessError::NotInstalled`], [`HarnessError::BootFailed`] with the end of the node's log,
    /// [`HarnessError::BadSetting`] for an invalid plugin name or TLS files that cannot be read.
    pub fn start(self) -> Result<RabbitMq, HarnessError> {
        let installation = Installation::find()?;
        self.check_plugin_names()?;
        let mut attempt = 1;
        loop {
            let started = self.start_once(installation.clone());
            match started {
                Err(HarnessError::BootFailed { why, log, .. })
                    if attempt < PORT_ATTEMPTS && lost_a_port(&why, &log) =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn start_once(&self, installation: Installation) -> Result<RabbitMq, HarnessError> {
        let rabbit = self.stopped(installation)?;
        rabbit.start_again()?;
        Ok(rabbit)
    }

    /// Makes the node a part of a cluster.
    pub(crate) fn member(mut self, member: Member) -> Self {
        self.member = Some(member);
        self
    }

    /// A node with its folder and its epmd, before its first boot.
    pub(crate) fn stopped(&self, installation: Installation) -> Result<RabbitMq, HarnessError> {
        let (folder, layout) = self.furnish(&installation)?;
        let arguments = self.member.as_ref().map(|member| member.arguments.clone()).unwrap_or_default();
        RabbitMq::stopped(folder, layout, installation, self.boot_limit, arguments)
    }

    /// Makes the node's folder with every file that the node reads, owned by the node's account.
    fn furnish(&self, installation: &Installation) -> Result<(TempDir, Layout), HarnessError> {
        let mut folder = tempfile::Builder::new()
            .prefix("fluffle-")
            .tempdir()
            .map_err(HarnessError::io("make a folder for the node"))?;
        folder.disable_cleanup(keep_folder());
        let layout = Layout {
            folder: folder.path().to_path_buf(),
            name: self.member.as_ref().map_or(LONE_NAME, |member| &member.name).to_owned(),
            port: free_port()?,
            amqps_port: self.tls.as_ref().map(|_| free_port()).transpose()?,
            management_port: self.management.then(free_port).transpose()?,
            epmd_port: free_port()?,
        };
        check_socket_path(&layout)?;
        for part in [layout.home(), layout.data(), layout.logs()] {
            fs::create_dir(&part).map_err(HarnessError::io(format!("make the folder {}", part.display())))?;
        }
        if let Some(tls) = &self.tls {
            copy_tls(tls, &layout)?;
        }
        write(&layout.config(), &self.config_text(&layout))?;
        let management = self.management.then_some("rabbitmq_management");
        let plugins: Vec<&str> = self.plugins.iter().map(String::as_str).chain(management).collect();
        write(&layout.plugins(), &format!("[{}].\n", plugins.join(",")))?;
        let cookie = layout.home().join(".erlang.cookie");
        write(&cookie, &self.member.as_ref().map_or_else(fresh_cookie, |member| member.cookie.clone()))?;
        fs::set_permissions(&cookie, Permissions::from_mode(0o400)).map_err(HarnessError::io("protect the cookie"))?;
        layout.save()?;
        if let Some(account) = installation.account {
            give(folder.path(), account).map_err(HarnessError::io("give the node's folder to its account"))?;
        }
        Ok((folder, layout))
    }

    fn config_text(&self, layout: &Layout) -> String {
        let mut text = format!("listeners.tcp.1 = 127.0.0.1:{}\n", layout.port);
        // A nearly full disk must not block the publishers of a test.
        text.push_str("disk_free_limit.absolute = 1MB\n");
        if let (Some(tls), Some(port)) = (&self.tls, layout.amqps_port) {
            let folder = layout.home();
            let verify = if tls.verify_peer { "verify_peer" } else { "verify_none" };
            text.push_str(&format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\n\
                 ssl_options.cacertfile = {0}/ca.pem\n\
                 ssl_options.certfile = {0}/cert.pem\n\
                 ssl_options.keyfile = {0}/key.pem\n\
                 ssl_options.verify = {verify}\n\
                 ssl_options.fail_if_no_peer_cert = {1}\n",
                folder.display(),
                tls.verify_peer,
            ));
        }
        if let Some(port) = layout.management_port {
            text.push_str(&format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"));
        }
        text.push_str(&self.config);
        text
    }

    /// Checks the names of plugins, because they are written into an Erlang term.
    pub(crate) fn check_plugin_names(&self) -> Result<(), HarnessError> {
        let is_atom = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        match self.plugins.iter().find(|name| !is_atom(name)) {
            None => Ok(()),
            Some(name) => Err(HarnessError::BadSetting {
                name: "plugin",
                why: format!("{name:?} is not a plugin name; plugin names look like rabbitmq_auth_mechanism_ssl"),
            }),
        }
    }
}

pub(crate) fn lost_a_port(why: &str, log: &str) -> bool {
    log.contains("eaddrinuse") || why.contains("epmd")
}

pub(crate) fn fresh_cookie() -> String {
    format!("{:016x}{:016x}", random(), random())
}

/// The address of a Unix socket has room for 108 bytes.
fn check_socket_path(layout: &Layout) -> Result<(), HarnessError> {
    let path = layout.control_socket();
    if path.as_os_str().len() < 108 {
        return Ok(());
    }
    Err(HarnessError::BadSetting {
        name: "TMPDIR",
        why: format!("{} is too long for a socket: choose a folder with a shorter path", path.display()),
    })
}

fn copy_tls(tls: &TlsFiles, layout: &Layout) -> Result<(), HarnessError> {
    for (from, name) in [(&tls.ca, "ca.pem"), (&tls.cert, "cert.pem"), (&tls.key, "key.pem")] {
        fs::copy(from, layout.home().join(name)).map_err(|error| HarnessError::BadSetting {
            name: "TlsFiles",
            why: format!("{} cannot be copied: {error}", from.display()),
        })?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), HarnessError> {
    fs::write(path, text).map_err(HarnessError::io(format!("write {}", path.display())))
}

pub(crate) fn give(path: &Path, account: Account) -> std::io::Result<()> {
    chown(path, Some(account.uid), Some(account.gid))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), account)?;
        }
    }
    Ok(())
}
