//! A node's folder and ports: everything that another process needs to reach it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{HarnessError, install::SYSTEM_PATH};

/// The name of a node outside of a cluster. Nodes may share it, because every node has an epmd of its own.
pub(crate) const LONE_NAME: &str = "rabbit@localhost";

const DESCRIPTION: &str = "node.txt";

/// The folder of a node, and the ports on which it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) folder: PathBuf,
    /// The Erlang name, e.g. `rabbit@localhost`.
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) amqps_port: Option<u16>,
    pub(crate) management_port: Option<u16>,
    pub(crate) epmd_port: u16,
}

impl Layout {
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("rabbitmq.conf")
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.join("enabled_plugins")
    }

    /// The home folder, which also holds the node's Erlang cookie.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The log of what the node prints. A failure before RabbitMQ's logging starts shows only here.
    pub(crate) fn console(&self) -> PathBuf {
        self.logs().join("console.log")
    }

    /// The socket on which the node evaluates expressions of the harness; see `remote.rs`.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    pub(crate) fn url(&self, vhost: &str) -> String {
        self.url_at(self.port, vhost)
    }

    /// The node's URL through a proxy on this port.
    pub(crate) fn url_at(&self, port: u16, vhost: &str) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/{}", percent_encode(vhost))
    }

    /// The environment of the node and of `rabbitmqctl`. Nothing else is inherited, so that a `RABBITMQ_*` variable of
    /// the caller cannot direct a private node to another data folder.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("PATH", SYSTEM_PATH.into()),
            ("LANG", "C.UTF-8".into()),
            ("HOME", path(self.home())),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("ERL_EPMD_PORT", self.epmd_port.to_string()),
            ("RABBITMQ_NODENAME", self.name.clone()),
            ("RABBITMQ_CONFIG_FILE", path(self.config())),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path(self.plugins())),
            ("RABBITMQ_MNESIA_BASE", path(self.data())),
            ("RABBITMQ_LOG_BASE", path(self.logs())),
            ("RABBITMQ_PID_FILE", path(self.folder.join("pid"))),
            // A file that does not exist, so that the system's rabbitmq-env.conf is not read.
            ("RABBITMQ_CONF_ENV_FILE", path(self.folder.join("no-such-file"))),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path(self.folder.join("advanced.config"))),
        ]
    }

    /// Writes the name and the ports into the folder, so that another process can attach with the folder's path alone.
    pub(crate) fn save(&self) -> Result<(), HarnessError> {
        let amqps = self.amqps_port.unwrap_or(0);
        let management = self.management_port.unwrap_or(0);
        let text = format!("{} {} {amqps} {management} {}\n", self.name, self.port, self.epmd_port);
        fs::write(self.folder.join(DESCRIPTION), text).map_err(HarnessError::io("write the node's description"))
    }

    /// Reads what [`Layout::save`] wrote.
    pub(crate) fn load(folder: &Path) -> Result<Self, HarnessError> {
        let unusable = |why: String| HarnessError::BadSetting { name: crate::NODE_VAR, why };
        let file = folder.join(DESCRIPTION);
        let text = fs::read_to_string(&file)
            .map_err(|error| unusable(format!("there is no node in that folder ({}: {error})", file.display())))?;
        let (name, ports) = text.split_once(' ').unwrap_or_default();
        let ports: Vec<u16> = ports.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        let [port, amqps, management, epmd_port] = ports[..] else {
            return Err(unusable(format!("{} does not hold a name and four ports", file.display())));
        };
        let [amqps_port, management_port] = [amqps, management].map(|port| Some(port).filter(|port| *port != 0));
        Ok(Self { folder: folder.to_path_buf(), name: name.to_owned(), port, amqps_port, management_port, epmd_port })
    }
}

/// Percent-encodes everything except RFC 3986's unreserved characters. The default vhost `/` becomes `%2f`.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_layout_loads_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let plain = Layout {
            folder: folder.path().into(),
            name: LONE_NAME.to_owned(),
            port: 20_001,
            amqps_port: None,
            management_port: None,
            epmd_port: 20_004,
        };
        let full = Layout { amqps_port: Some(20_002), management_port: Some(20_003), ..plain.clone() };
        for layout in [plain, full] {
            layout.save().unwrap();
            assert_eq!(Layout::load(folder.path()).unwrap(), layout);
        }
    }

    #[test]
    fn a_folder_without_a_node_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Layout::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }

    #[test]
    fn a_vhost_is_percent_encoded_in_the_url() {
        let layout = Layout {
            folder: "/".into(),
            name: LONE_NAME.to_owned(),
            port: 1,
            amqps_port: None,
            management_port: None,
            epmd_port: 2,
        };
        assert_eq!(layout.url("/"), "amqp://guest:guest@127.0.0.1:1/%2f");
        assert_eq!(layout.url("a b"), "amqp://guest:guest@127.0.0.1:1/a%20b");
    }
}
