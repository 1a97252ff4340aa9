//! The broker as a whole: listeners, the vhost, policies, deprecated features, feature flags.

use crate::doctor::{
    finding::{Evidence::ToldByTheManagementApi, Kind, Level, Report},
    pages,
    snapshot::{Snapshot, shell},
};

static DEFAULT_TYPE: Kind = Kind {
    id: "vhost.default_queue_type",
    level: Level::Advice,
    why: "A client that names no type gets a classic queue, which lives on one node and dead-letters at most once.",
    page: pages::VHOSTS,
};
static MIRRORED: Kind = Kind {
    id: "policy.mirrors_classic_queues",
    level: Level::Error,
    why: "Mirrored classic queues may lose confirmed messages, and RabbitMQ 4.0 has no mirroring: after the upgrade \
          the queues have one replica.",
    page: pages::DEPRECATED,
};
static UNUSED_POLICY: Kind = Kind {
    id: "policy.matches_nothing",
    level: Level::Warning,
    why: "The policy has no effect: mostly its pattern is misspelt, or another policy of the same queues has a higher \
          priority, because only one applies to each.",
    page: pages::POLICIES,
};
static IN_USE: Kind = Kind {
    id: "broker.deprecated_feature",
    level: Level::Warning,
    why: "A later version of RabbitMQ is without this feature, and what uses it stops working after the upgrade.",
    page: pages::DEPRECATED,
};
static FLAGS: Kind = Kind {
    id: "broker.feature_flags",
    level: Level::Warning,
    why: "The next version may demand these feature flags, and then refuses to start.",
    page: pages::FEATURE_FLAGS,
};
pub(crate) static NAGLE: Kind = Kind {
    id: "listener.no_nodelay",
    level: Level::Warning,
    why: "With Nagle's algorithm the kernel holds small frames back, such as confirms and acks, for up to 40 ms.",
    page: pages::NETWORKING,
};
pub(crate) static BACKLOG: Kind = Kind {
    id: "listener.short_backlog",
    level: Level::Advice,
    why: "After an outage all clients come back at once. Connections beyond the backlog are refused, and their clients \
          wait for their next try.",
    page: pages::NETWORKING,
};
pub(crate) static BUFFERS: Kind = Kind {
    id: "listener.small_buffers",
    level: Level::Warning,
    why: "Small TCP buffers limit the throughput of each connection to a buffer for each round trip. RabbitMQ \
          recommends 80 to 192 KiB for throughput; without a setting, Linux grows them by itself.",
    page: pages::NETWORKING,
};

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    check_vhost(snapshot, report);
    check_policies(snapshot, report);
    for feature in &snapshot.deprecated {
        let entity = format!("deprecated feature {}", feature.text("name"));
        let mend = format!("see {}", feature.text("doc_url"));
        report.find(&IN_USE, ToldByTheManagementApi, entity, feature.text("desc"), mend);
    }
    let off =
        |flag: &&crate::doctor::json::Object| flag.text("stability") == "stable" && flag.text("state") == "disabled";
    let disabled: Vec<&str> = snapshot.feature_flags.iter().filter(off).map(|flag| flag.text("name")).collect();
    if !disabled.is_empty() {
        let what = format!("stable feature flags are off: {}", disabled.join(", "));
        let mend = "rabbitmqctl enable_feature_flag all";
        report.find(&FLAGS, ToldByTheManagementApi, "broker", what, mend);
    }
    check_listeners(snapshot, report);
}

fn check_vhost(snapshot: &Snapshot, report: &mut Report) {
    let default = snapshot.about_vhost.text("default_queue_type");
    // RabbitMQ before 3.10 has none.
    if ["classic", "undefined"].contains(&default) {
        let vhost = shell(&snapshot.vhost);
        let mend = if snapshot.version() >= (3, 12) {
            format!("rabbitmqctl update_vhost_metadata {vhost} --default-queue-type quorum")
        } else {
            // Before RabbitMQ 3.12 the type is set when the vhost is made, and never changed.
            "let each declaration name its type (x-queue-type); for a new vhost: rabbitmqctl add_vhost <name> \
             --default-queue-type quorum"
                .to_owned()
        };
        let what = if default == "undefined" { "it has no default queue type" } else { "its default type is classic" };
        let entity = format!("vhost {}", snapshot.vhost);
        let finding = report.find(&DEFAULT_TYPE, ToldByTheManagementApi, entity, what, mend);
        if snapshot.version() >= (3, 13) {
            finding.conf("default_queue_type = quorum");
        }
    }
}

fn check_policies(snapshot: &Snapshot, report: &mut Report) {
    for policy in &snapshot.policies {
        let name = policy.text("name");
        let entity = format!("policy {name}");
        let clear = format!("rabbitmqctl clear_policy{} {}", snapshot.vhost_option(), shell(name));
        if !policy.text("definition/ha-mode").is_empty() {
            let mend = format!("move its queues to quorum queues (`fluffle topology plan`), then {clear}");
            let what = format!("it mirrors classic queues (ha-mode {})", policy.text("definition/ha-mode"));
            report.find(&MIRRORED, ToldByTheManagementApi, &entity, what, mend);
        }
        let mut entities = snapshot.queues.iter().chain(&snapshot.exchanges);
        if !entities.any(|entity| entity.text("policy") == name) {
            let what = format!("its pattern {:?} applies to no queue and no exchange", policy.text("pattern"));
            let mend = format!("correct the pattern or its priority with rabbitmqctl set_policy, or {clear}");
            report.find(&UNUSED_POLICY, ToldByTheManagementApi, &entity, what, mend);
        }
    }
}

/// The listeners for clients: each tells the options of its sockets.
fn check_listeners(snapshot: &Snapshot, report: &mut Report) {
    for listener in snapshot.overview.list("listeners") {
        let protocol = listener.text("protocol");
        if !["amqp", "amqp/ssl"].contains(&protocol) {
            continue;
        }
        let port = listener.number("port").unwrap_or(0);
        let entity = format!("listener {protocol} on port {port} of {}", listener.text("node"));
        if listener.flag("socket_opts/nodelay") == Some(false) {
            let what = "tcp_listen_options.nodelay is off";
            let mend = "take the line out of rabbitmq.conf, or set it, and restart the node";
            report.find(&NAGLE, ToldByTheManagementApi, &entity, what, mend).conf("tcp_listen_options.nodelay = true");
        }
        if let Some(backlog) = listener.number("socket_opts/backlog").filter(|backlog| *backlog < 1024) {
            let what = format!("a backlog of {backlog} connections");
            let mend = "set the line, and net.core.somaxconn of the kernel as high, and restart the node";
            report
                .find(&BACKLOG, ToldByTheManagementApi, &entity, what, mend)
                .conf("tcp_listen_options.backlog = 4096");
        }
        for buffer in ["sndbuf", "recbuf"] {
            let bytes = listener.number(&format!("socket_opts/{buffer}"));
            if let Some(bytes) = bytes.filter(|bytes| *bytes < 65_536) {
                let entity = format!("{entity}, {buffer}");
                let what = format!("{buffer} is {bytes} bytes");
                let mend = "take the line out of rabbitmq.conf, or set it, and restart the node";
                let line = format!("tcp_listen_options.{buffer} = 196608");
                report.find(&BUFFERS, ToldByTheManagementApi, entity, what, mend).conf(line);
            }
        }
    }
}
