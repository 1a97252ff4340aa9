//! Nodes: alarms, limits, and what the cluster says of itself.

use crate::doctor::{
    finding::{Evidence::ToldByTheManagementApi, Fact, Kind, Level, Report},
    json::Object,
    pages,
    snapshot::Snapshot,
};

static DOWN: Kind = Kind {
    id: "node.down",
    level: Level::Error,
    why: "Queues whose only replica is there cannot be used, and a further failure may stop quorum queues.",
    page: pages::CLUSTERING,
};
static PARTITION: Kind = Kind {
    id: "node.partition",
    level: Level::Error,
    why: "The halves of the cluster go on without each other: queues differ, and one half's messages will be dropped.",
    page: pages::PARTITIONS,
};
static MEMORY_ALARM: Kind = Kind {
    id: "node.memory_alarm",
    level: Level::Error,
    why: "Every publisher of the cluster is blocked until memory is below the watermark.",
    page: pages::MEMORY,
};
static DISK_ALARM: Kind = Kind {
    id: "node.disk_alarm",
    level: Level::Error,
    why: "Every publisher of the cluster is blocked until there is more free disk space than the limit.",
    page: pages::DISK,
};
static MEMORY_NEAR: Kind = Kind {
    id: "node.memory_near_watermark",
    level: Level::Warning,
    why: "At the watermark every publisher of the cluster is blocked.",
    page: pages::MEMORY,
};
static DISK_NEAR: Kind = Kind {
    id: "node.disk_near_limit",
    level: Level::Warning,
    why: "At the limit every publisher of the cluster is blocked.",
    page: pages::DISK,
};
static DISK_LIMIT: Kind = Kind {
    id: "node.disk_limit_too_low",
    level: Level::Warning,
    why: "A node may write all its memory to disk. If less than that is free when publishers are stopped, the disk \
          fills up and the node ends, perhaps with damaged files. The default of 50 MB is for development.",
    page: pages::PRODUCTION,
};
static FILES_NEAR: Kind = Kind {
    id: "node.file_descriptors",
    level: Level::Error,
    why: "Without file descriptors the node takes no connections, and queues cannot open their files.",
    page: pages::NETWORKING,
};
static FILES_LIMIT: Kind = Kind {
    id: "node.file_descriptor_limit",
    level: Level::Warning,
    why: "Each connection and each open file of a queue takes one. RabbitMQ recommends 50,000 in production.",
    page: pages::PRODUCTION,
};
static PROCESSES: Kind = Kind {
    id: "node.erlang_processes",
    level: Level::Error,
    why: "Each connection, channel and queue takes several processes. At the limit the node ends.",
    page: pages::CHANNELS,
};
static DRAINED: Kind = Kind {
    id: "node.maintenance",
    level: Level::Warning,
    why: "A node in maintenance mode takes no connections and holds no leaders of queues.",
    page: pages::MAINTENANCE,
};
static TWO: Kind = Kind {
    id: "cluster.two_nodes",
    level: Level::Warning,
    why: "With two nodes, quorum queues stop when either of them is away: that is less available than one node.",
    page: pages::CLUSTERING,
};
static RAM: Kind = Kind {
    id: "node.ram_node",
    level: Level::Warning,
    why: "RAM nodes are deprecated, save little, and lose the definitions if all disc nodes are lost.",
    page: pages::DEPRECATED,
};

pub(super) fn check(snapshot: &Snapshot, report: &mut Report) {
    for node in &snapshot.nodes {
        let entity = format!("node {}", node.text("name"));
        if node.flag("running") == Some(false) {
            let mend = "start it, or take it out of the cluster: rabbitmqctl forget_cluster_node";
            report.find(&DOWN, ToldByTheManagementApi, &entity, "it is not running", mend);
            continue;
        }
        if node.number("mem_limit").is_none() {
            let needs = "the node's statistics: some seconds after its boot, and unless its metrics are switched off";
            report.unknown(format!("memory, disk, file descriptors and alarms of {entity}"), needs);
        }
        tell(node, report);
        check_state(node, &entity, report);
        check_memory(node, &entity, report);
        check_disk(node, &entity, report);
        check_counts(node, &entity, report);
    }
    if snapshot.nodes.len() == 2 {
        let mend = "add a third node, which may be small";
        report.find(&TWO, ToldByTheManagementApi, "cluster", "it has two nodes", mend);
    }
}

fn tell(node: &Object, report: &mut Report) {
    let of = |used: &str, total: &str| Some((node.number(used)?, node.number(total)?));
    let memory = of("mem_used", "mem_limit").map(|(used, limit)| format!("memory {} of {}", mb(used), mb(limit)));
    let disk = of("disk_free", "disk_free_limit")
        .map(|(free, limit)| format!("{} of disk free, blocks at {}", mb(free), mb(limit)));
    let files = of("fd_used", "fd_total").map(|(used, total)| format!("{used} of {total} file descriptors"));
    let parts: Vec<String> = [memory, disk, files].into_iter().flatten().collect();
    if !parts.is_empty() {
        let value = format!("{}: {}", node.text("name"), parts.join("; "));
        report.facts.push(Fact { name: "node", value, evidence: ToldByTheManagementApi });
    }
}

fn check_state(node: &Object, entity: &str, report: &mut Report) {
    let told = ToldByTheManagementApi;
    let partitions = node.texts("partitions");
    if !partitions.is_empty() {
        let mend = "choose the half to keep, and restart the nodes of the other one; rabbitmq-diagnostics \
                    cluster_status shows the halves";
        let what = format!("it has lost sight of {}", partitions.join(", "));
        report.find(&PARTITION, told, entity, what, mend).conf("cluster_partition_handling = pause_minority");
    }
    if node.is("being_drained") {
        report.find(&DRAINED, told, entity, "it is in maintenance mode", "rabbitmq-upgrade revive");
    }
    if node.text("type") == "ram" {
        let mend = "rabbitmqctl stop_app, change_cluster_node_type disc, start_app";
        report.find(&RAM, told, entity, "it is a RAM node", mend);
    }
}

fn check_memory(node: &Object, entity: &str, report: &mut Report) {
    let (used, limit) = (node.number("mem_used"), node.number("mem_limit"));
    let mend = "rabbitmq-diagnostics memory_breakdown shows what takes it; empty or limit long queues, close unused \
                connections, or give the node more memory";
    let what = || match (used, limit) {
        (Some(used), Some(limit)) => format!("it uses {}, the watermark is at {}", mb(used), mb(limit)),
        _ => "memory is above the watermark".to_owned(),
    };
    if node.is("mem_alarm") {
        report
            .find(&MEMORY_ALARM, ToldByTheManagementApi, entity, what(), mend)
            .conf("vm_memory_high_watermark.relative = 0.6");
    } else if let (Some(used), Some(limit)) = (used, limit)
        && used.saturating_mul(10) > limit.saturating_mul(8)
    {
        report
            .find(&MEMORY_NEAR, ToldByTheManagementApi, entity, what(), mend)
            .conf("vm_memory_high_watermark.relative = 0.6");
    }
}

fn check_disk(node: &Object, entity: &str, report: &mut Report) {
    let told = ToldByTheManagementApi;
    let (Some(free), Some(limit)) = (node.number("disk_free"), node.number("disk_free_limit")) else { return };
    let what = format!("{} free, the limit is {}", mb(free), mb(limit));
    let mend = format!("free space at {}: old logs first; then empty queues", node.text("db_dir"));
    if node.is("disk_free_alarm") {
        report.find(&DISK_ALARM, told, entity, what, mend);
    } else if free < limit.saturating_add(limit / 2) {
        report.find(&DISK_NEAR, told, entity, what, mend);
    }
    if let Some(memory) = node.number("mem_limit")
        && limit < memory
    {
        let what = format!("disk_free_limit is {}, less than the memory watermark of {}", mb(limit), mb(memory));
        let mend = format!("rabbitmqctl set_disk_free_limit {memory} until the next restart, and the line for good");
        report.find(&DISK_LIMIT, told, entity, what, mend).conf(format!("disk_free_limit.absolute = {memory}"));
    }
}

fn check_counts(node: &Object, entity: &str, report: &mut Report) {
    let told = ToldByTheManagementApi;
    let raise = "raise the limit of the service: systemctl edit rabbitmq-server, [Service] LimitNOFILE=65536; then \
                 restart the node";
    if let (Some(used), Some(total)) = (node.number("fd_used"), node.number("fd_total")) {
        let what = format!("{used} of {total} file descriptors are in use");
        if used.saturating_mul(10) > total.saturating_mul(8) {
            report.find(&FILES_NEAR, told, entity, what, raise);
        } else if total < 4096 {
            report.find(&FILES_LIMIT, told, entity, format!("it may open {total} files"), raise);
        }
    }
    if let (Some(used), Some(total)) = (node.number("proc_used"), node.number("proc_total"))
        && used.saturating_mul(10) > total.saturating_mul(8)
    {
        let mend = "find the clients that leak channels (rabbitmqctl list_connections name channels), and close them";
        report.find(&PROCESSES, told, entity, format!("{used} of {total} Erlang processes are in use"), mend);
    }
}

/// Bytes as people read them.
fn mb(bytes: u64) -> String {
    match bytes {
        0..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}
