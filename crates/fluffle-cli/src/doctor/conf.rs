//! The file `rabbitmq.conf`: settings that no API tells, and those that RabbitMQ recommends.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    common::failure::Failure,
    doctor::{
        finding::{Evidence::ReadFromTheConfiguration, Kind, Level, Report},
        pages,
        rules::broker::{BACKLOG, BUFFERS, NAGLE},
    },
};

static ACK_TIMEOUT: Kind = Kind {
    id: "conf.consumer_timeout",
    level: Level::Warning,
    why: "Below a minute, a slow message ends its consumer. Above a day, a stuck consumer holds its messages, and on a \
          quorum queue the disk space of all that came after them, until a person notices.",
    page: pages::ACK_TIMEOUT,
};
static HEARTBEAT: Kind = Kind {
    id: "conf.heartbeat",
    level: Level::Warning,
    why: "Below 5 s, a busy client or network looks dead, and its connection is closed. With 0, or for long, a dead \
          client keeps its messages and locks.",
    page: pages::HEARTBEATS,
};
static WATERMARK: Kind = Kind {
    id: "conf.memory_watermark",
    level: Level::Warning,
    why: "Below 0.4 publishers are blocked early. Above 0.7 too little is left for garbage collection and the kernel's \
          page cache, and the kernel may end the node.",
    page: pages::MEMORY,
};
static DISK: Kind = Kind {
    id: "conf.disk_limit",
    level: Level::Warning,
    why: "The default of 50 MB is for development: before it blocks publishers, the disk may be full, and then the \
          node ends.",
    page: pages::PRODUCTION,
};
static ACCEPTORS: Kind = Kind {
    id: "conf.few_acceptors",
    level: Level::Warning,
    why: "After an outage all clients come back at once. With few acceptors that takes long, and some give up first.",
    page: pages::NETWORKING,
};
static LEADERS: Kind = Kind {
    id: "conf.leader_locator",
    level: Level::Advice,
    why: "Without `balanced`, the leader of a queue is on the node to which the declaring client is connected: often \
          one node has them all, and with them most of the work.",
    page: pages::QUORUM,
};
static GUEST: Kind = Kind {
    id: "conf.guest_from_anywhere",
    level: Level::Error,
    why: "The user guest, whose password everybody knows, may connect from any machine, as an administrator.",
    page: pages::ACCESS,
};
static CHANNEL_MAX: Kind = Kind {
    id: "conf.channel_max",
    level: Level::Warning,
    why: "Without a limit, one client that leaks channels takes the memory of the node.",
    page: pages::CHANNELS,
};

/// Settings by key: the last line for a key counts.
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(file);
        let text = text.map_err(|error| Failure::new(format!("--conf {}: {error}", file.display())))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let line = line.trim();
            let (key, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
            // A comment may follow the value.
            let value = value.split(" #").next().unwrap_or_default();
            Some((key.trim().to_owned(), value.trim().to_owned()))
        });
        Self(lines.collect())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// In milliseconds.
    pub(crate) fn consumer_timeout(&self) -> Option<u64> {
        self.number("consumer_timeout")
    }
}

/// Finds settings that differ from what RabbitMQ recommends.
pub(crate) fn check(settings: &Settings, report: &mut Report) {
    let mut find = |kind: &'static Kind, entity: &str, what: String, line: &str| {
        let mend = "set the line, and restart the node";
        report.find(kind, ReadFromTheConfiguration, format!("setting {entity}"), what, mend).conf(line);
    };
    let told = |key: &str| settings.text(key).unwrap_or_default();
    if let Some(timeout) = settings.consumer_timeout().filter(|ms| !(60_000..=86_400_000).contains(ms)) {
        find(&ACK_TIMEOUT, "consumer_timeout", format!("it is {timeout} ms"), "consumer_timeout = 1800000");
    }
    if let Some(seconds) = settings.number("heartbeat").filter(|seconds| !(5..=120).contains(seconds)) {
        find(&HEARTBEAT, "heartbeat", format!("it is {seconds} s"), "heartbeat = 60");
    }
    let relative = told("vm_memory_high_watermark.relative").parse::<f64>().ok();
    if let Some(part) = relative.filter(|part| !(0.4..=0.7).contains(part)) {
        let key = "vm_memory_high_watermark.relative";
        find(&WATERMARK, key, format!("it is {part}"), "vm_memory_high_watermark.relative = 0.6");
    }
    let has_limit = ["disk_free_limit.absolute", "disk_free_limit.relative"].map(|key| settings.text(key).is_some());
    if has_limit == [false, false] {
        let what = "it is not set: 50 MB, RabbitMQ's default".to_owned();
        find(&DISK, "disk_free_limit", what, "disk_free_limit.relative = 1.0");
    } else if let Some(part) = told("disk_free_limit.relative").parse::<f64>().ok().filter(|part| *part < 1.0) {
        let what = format!("it is {part} of the memory");
        find(&DISK, "disk_free_limit.relative", what, "disk_free_limit.relative = 1.0");
    }
    for key in ["num_acceptors.tcp", "num_acceptors.ssl"] {
        if let Some(number) = settings.number(key).filter(|number| *number < 10) {
            find(&ACCEPTORS, key, format!("{number} acceptors"), &format!("{key} = 10"));
        }
    }
    if told("queue_leader_locator") != "balanced" {
        let what = match settings.text("queue_leader_locator") {
            None => "it is not set".to_owned(),
            Some(other) => format!("it is {other}"),
        };
        find(&LEADERS, "queue_leader_locator", what, "queue_leader_locator = balanced");
    }
    if told("loopback_users") == "none" || told("loopback_users.guest") == "false" {
        find(&GUEST, "loopback_users", "guest is not limited to loopback".to_owned(), "loopback_users.guest = true");
    }
    if settings.number("channel_max") == Some(0) {
        find(&CHANNEL_MAX, "channel_max", "it is 0, which is no limit".to_owned(), "channel_max = 2047");
    }
    check_sockets(settings, &mut find);
}

fn check_sockets(settings: &Settings, find: &mut impl FnMut(&'static Kind, &str, String, &str)) {
    if settings.text("tcp_listen_options.nodelay") == Some("false") {
        let key = "tcp_listen_options.nodelay";
        find(&NAGLE, key, "it is off".to_owned(), "tcp_listen_options.nodelay = true");
    }
    if let Some(backlog) = settings.number("tcp_listen_options.backlog").filter(|backlog| *backlog < 1024) {
        let key = "tcp_listen_options.backlog";
        find(&BACKLOG, key, format!("it is {backlog}"), "tcp_listen_options.backlog = 4096");
    }
    for buffer in ["sndbuf", "recbuf"] {
        let key = format!("tcp_listen_options.{buffer}");
        if let Some(bytes) = settings.number(&key).filter(|bytes| *bytes < 65_536) {
            find(&BUFFERS, &key, format!("it is {bytes} bytes"), &format!("{key} = 196608"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&'static str, String)> {
        let mut report = Report::default();
        check(&Settings::parse(text), &mut report);
        report.findings.into_iter().map(|finding| (finding.id, finding.entity)).collect()
    }

    const SOUND: &str = "# a comment = 1\ndisk_free_limit.relative = 1.5\nqueue_leader_locator=balanced\n\
                         heartbeat = 30 # seconds\nconsumer_timeout = 900000\n\
                         vm_memory_high_watermark.relative = 0.5\n";

    #[test]
    fn each_setting_out_of_its_range_is_found_and_no_other() {
        assert_eq!(found(SOUND), []);
        for (line, id, key) in [
            ("consumer_timeout = 5000", "conf.consumer_timeout", "consumer_timeout"),
            ("consumer_timeout = 86400001", "conf.consumer_timeout", "consumer_timeout"),
            ("heartbeat = 0", "conf.heartbeat", "heartbeat"),
            ("vm_memory_high_watermark.relative = 0.9", "conf.memory_watermark", "vm_memory_high_watermark.relative"),
            ("disk_free_limit.relative = 0.1", "conf.disk_limit", "disk_free_limit.relative"),
            ("num_acceptors.ssl = 1", "conf.few_acceptors", "num_acceptors.ssl"),
            ("queue_leader_locator = client-local", "conf.leader_locator", "queue_leader_locator"),
            ("loopback_users = none", "conf.guest_from_anywhere", "loopback_users"),
            ("channel_max = 0", "conf.channel_max", "channel_max"),
            ("tcp_listen_options.nodelay = false", "listener.no_nodelay", "tcp_listen_options.nodelay"),
            ("tcp_listen_options.backlog = 128", "listener.short_backlog", "tcp_listen_options.backlog"),
            ("tcp_listen_options.recbuf = 4096", "listener.small_buffers", "tcp_listen_options.recbuf"),
        ] {
            assert_eq!(found(&format!("{SOUND}{line}\n")), [(id, format!("setting {key}"))], "{line}");
        }
        assert_eq!(found("queue_leader_locator = balanced"), [("conf.disk_limit", "setting disk_free_limit".into())]);
    }
}
