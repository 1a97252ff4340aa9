//! Queues: their kind, state, depth and age, and what feeds and empties them.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::doctor::{
    args::DoctorArgs,
    finding::{Evidence, Evidence::ToldByTheManagementApi, Kind, Level, Report},
    json::Object,
    pages,
    routes::{Routes, Way},
    snapshot::{Snapshot, pattern, shell},
};

static TRANSIENT: Kind = Kind {
    id: "queue.transient",
    level: Level::Warning,
    why: "A restart of the node deletes this queue with its messages and bindings, and its consumers stop. Transient \
          queues that are not exclusive are deprecated; later versions of RabbitMQ refuse them.",
    page: pages::DEPRECATED,
};
static STATE: Kind = Kind {
    id: "queue.not_running",
    level: Level::Error,
    why: "Nothing can be published to this queue or consumed from it.",
    page: pages::QUEUES,
};
static REPLICAS_AWAY: Kind = Kind {
    id: "queue.replicas_away",
    level: Level::Error,
    why: "A quorum queue works while more than half of its replicas do. The next failure may stop it.",
    page: pages::QUORUM,
};
static FEW_REPLICAS: Kind = Kind {
    id: "queue.too_few_replicas",
    level: Level::Warning,
    why: "The queue has fewer replicas than the cluster has nodes to give it three (or two, if it has two): it was \
          declared when there were fewer nodes, or with a smaller group. It stops, or is lost, with a single node.",
    page: pages::QUORUM,
};
static NOT_REPLICATED: Kind = Kind {
    id: "queue.not_replicated",
    level: Level::Advice,
    why: "A classic queue lives on one node of the cluster. While that node is away, so are its messages.",
    page: pages::QUORUM,
};
pub(crate) static NO_CONSUMER: Kind = Kind {
    id: "queue.no_consumer",
    level: Level::Error,
    why: "Messages wait, and nobody takes them.",
    page: pages::CONSUMERS,
};
static LETTERS: Kind = Kind {
    id: "queue.letters_wait",
    level: Level::Warning,
    why: "Dead letters are messages that nobody handled. They wait here until a person looks at them.",
    page: pages::DLX,
};
pub(crate) static DEPTH: Kind = Kind {
    id: "queue.too_deep",
    level: Level::Warning,
    why: "Consumers do not keep up. Each message waits as long as all before it take, and a long queue costs memory, \
          disk, and time at a restart.",
    page: pages::QUEUES,
};
static OLD: Kind = Kind {
    id: "queue.oldest_message",
    level: Level::Warning,
    why: "The message at the head of the queue has waited long: consumers do not keep up, or are stuck.",
    page: pages::CONSUMERS,
};
static REDELIVERS: Kind = Kind {
    id: "queue.redelivers",
    level: Level::Error,
    why: "Consumers give the same messages back again and again (nack or reject with requeue, or crashes). That loads \
          the broker, and the messages behind them wait.",
    page: pages::POISON,
};
static LAZY: Kind = Kind {
    id: "queue.lazy_mode",
    level: Level::Advice,
    why: "Since RabbitMQ 3.12 classic queues write to disk by themselves, and x-queue-mode is ignored.",
    page: pages::QUEUES,
};
static PRIORITIES: Kind = Kind {
    id: "queue.many_priorities",
    level: Level::Warning,
    why: "Each priority is a queue of its own inside the broker, with its own memory and CPU time. RabbitMQ recommends \
          at most 5, and 10 as the limit of what is useful.",
    page: pages::PRIORITY,
};
static EXCHANGE_UNBOUND: Kind = Kind {
    id: "exchange.no_binding",
    level: Level::Warning,
    why: "What is published to this exchange reaches no queue. Publishers without `mandatory` are not told.",
    page: pages::UNROUTABLE,
};

/// The replicas that a queue should have, if there are so many nodes: RabbitMQ's default, also of larger clusters.
const REPLICAS: usize = 3;
/// Redeliveries before they are told: fewer may come from one restart of a consumer.
const REDELIVERIES: u64 = 100;

pub(super) fn check(
    snapshot: &Snapshot,
    graveyards: &BTreeSet<String>,
    routes: &Routes<'_>,
    args: &DoctorArgs,
    report: &mut Report,
) {
    for queue in &snapshot.queues {
        check_kind(snapshot, queue, report);
        check_replicas(snapshot, queue, report);
        check_messages(snapshot, queue, graveyards.contains(queue.text("name")), args, report);
    }
    check_exchanges(snapshot, routes, report);
}

/// The queues to which others dead-letter, and in which messages stay. In a retry queue they expire.
pub(super) fn graveyards(snapshot: &Snapshot, routes: &Routes<'_>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for queue in &snapshot.queues {
        let Some(exchange) = queue.setting_text("dead-letter-exchange") else { continue };
        // The way back from a retry queue leads to a queue that consumers work on.
        if queue.setting_number("message-ttl").is_some() {
            continue;
        }
        if let Way::Queues(queues) = routes.way(&exchange, queue.setting_text("dead-letter-routing-key").as_deref()) {
            all.extend(queues);
        }
    }
    all
}

fn entity(queue: &Object) -> String {
    format!("queue {}", queue.text("name"))
}

fn check_kind(snapshot: &Snapshot, queue: &Object, report: &mut Report) {
    let (told, entity) = (ToldByTheManagementApi, entity(queue));
    if queue.flag("durable") == Some(false) && !queue.is("exclusive") {
        let mend = "declare it durable, or exclusive to its connection: `fluffle topology plan` shows the steps";
        report.find(&TRANSIENT, told, &entity, "neither durable nor exclusive", mend);
    }
    let state = queue.text("state");
    if ["down", "crashed", "stopped", "minority", "terminated"].contains(&state) {
        let mend = format!("start the node {}, or read in its log why the queue ended", queue.text("node"));
        report.find(&STATE, told, &entity, format!("it is {state}"), mend);
    }
    if queue.setting_text("queue-mode").is_some() && snapshot.version() >= (3, 12) {
        let mend = "take x-queue-mode out of its declaration and policies with the next new queue";
        report.find(&LAZY, told, &entity, "it has a queue-mode", mend);
    }
    if let Some(most) = queue.setting_number("max-priority").filter(|most| *most > 10) {
        let mend = "declare it anew with x-max-priority of 5 or less: `fluffle topology plan` shows the steps";
        report.find(&PRIORITIES, told, &entity, format!("x-max-priority is {most}"), mend);
    }
}

/// Counts replicas against all nodes of the cluster, those that are down included: they come back.
fn check_replicas(snapshot: &Snapshot, queue: &Object, report: &mut Report) {
    let (told, entity, nodes) = (ToldByTheManagementApi, entity(queue), snapshot.nodes.len());
    let Some(members) = queue.length("members") else {
        if nodes > 1 && queue.text("type") == "classic" && queue.is("durable") && !queue.is("exclusive") {
            let mend = "move it to a quorum queue: `fluffle topology plan` shows the steps";
            report.find(&NOT_REPLICATED, told, &entity, format!("a classic queue on {nodes} nodes"), mend);
        }
        return;
    };
    if let Some(online) = queue.length("online")
        && online < members
    {
        let mend = "rabbitmqctl cluster_status shows which node is away: start it, or take it out of the cluster with \
                    rabbitmqctl forget_cluster_node";
        report.find(&REPLICAS_AWAY, told, &entity, format!("{online} of its {members} replicas are there"), mend);
    }
    if members < nodes.min(REPLICAS) {
        let what = format!("{members} of {nodes} nodes have a replica");
        report.find(&FEW_REPLICAS, told, &entity, what, grow(snapshot, queue, members));
    }
}

/// The commands that give a queue its missing replicas.
fn grow(snapshot: &Snapshot, queue: &Object, members: usize) -> String {
    let have = queue.texts("members");
    let without = snapshot.nodes.iter().map(|node| node.text("name")).filter(|name| !have.iter().any(|it| it == name));
    let missing = without.take(REPLICAS.saturating_sub(members));
    let commands = missing.map(|node| match queue.text("type") {
        "stream" => {
            let (vhost, name) = (snapshot.vhost_option(), shell(queue.text("name")));
            format!("rabbitmq-streams add_replica{vhost} {name} {}", shell(node))
        }
        _ => format!(
            "rabbitmq-queues grow {} all --vhost-pattern {} --queue-pattern {}",
            shell(node),
            shell(&format!("^{}$", pattern(&snapshot.vhost))),
            shell(&format!("^{}$", pattern(queue.text("name")))),
        ),
    });
    commands.collect::<Vec<_>>().join("; ")
}

fn check_messages(snapshot: &Snapshot, queue: &Object, is_graveyard: bool, args: &DoctorArgs, report: &mut Report) {
    let told = ToldByTheManagementApi;
    let name = queue.text("name");
    let (ready, consumers) = (queue.number("messages_ready").unwrap_or(0), queue.number("consumers").unwrap_or(0));
    // Messages leave a retry queue by time. Those of a stream stay, and its consumers are not counted here.
    let leaves_by_time = queue.setting_number("message-ttl").is_some();
    let is_stream = queue.text("type") == "stream";
    if ready > 0 && consumers == 0 && !leaves_by_time && !is_stream {
        if is_graveyard {
            let what = format!("{ready} dead letters");
            report.find(&LETTERS, told, entity(queue), what, format!("fluffle dlq groups {}", shell(name)));
        } else {
            find_no_consumer(report, told, name, ready);
        }
    }
    if ready > args.depth && !is_stream {
        find_too_deep(report, told, name, ready, consumers);
    }
    if let Some(age) = oldest(queue).filter(|age| *age > args.age && !is_graveyard) {
        let what = format!("its oldest message is {} old", humantime::format_duration(age));
        let mend = format!("see what its consumers do: fluffle tail {}, and their logs", shell(name));
        report.find(&OLD, told, entity(queue), what, mend);
    }
    let again = queue.number("message_stats/redeliver").unwrap_or(0);
    let done = queue.number("message_stats/ack").unwrap_or(0);
    if again >= REDELIVERIES && again > done {
        let mend = match queue.text("type") {
            "quorum" => snapshot.policy(name, r#"{"delivery-limit":20,"dead-letter-exchange":"<exchange>"}"#),
            _ => "reject without requeue, into a dead-letter exchange; or a quorum queue with a delivery limit".into(),
        };
        let what = format!("{again} redeliveries and {done} acks");
        report.find(&REDELIVERS, told, entity(queue), what, mend);
    }
}

/// Messages wait on a queue without consumers.
pub(crate) fn find_no_consumer(report: &mut Report, evidence: Evidence, name: &str, ready: u64) {
    let mend = "start its consumer, and look into its log for why it ended";
    report.find(&NO_CONSUMER, evidence, format!("queue {name}"), format!("{ready} messages and no consumer"), mend);
}

/// A queue is longer than `--depth`.
pub(crate) fn find_too_deep(report: &mut Report, evidence: Evidence, name: &str, ready: u64, consumers: u64) {
    let mend = match consumers {
        0 => "start its consumer".to_owned(),
        _ => format!("see which side is slow: fluffle top; then more consumers, or a larger prefetch, for {name}"),
    };
    let what = format!("{ready} messages wait for {consumers} consumers");
    report.find(&DEPTH, evidence, format!("queue {name}"), what, mend);
}

/// The age of the message at the head. Known only if publishers set the property `timestamp`, and not for every type.
fn oldest(queue: &Object) -> Option<Duration> {
    let since = UNIX_EPOCH + Duration::from_secs(queue.number("head_message_timestamp")?);
    SystemTime::now().duration_since(since).ok().map(|age| Duration::from_secs(age.as_secs()))
}

fn check_exchanges(snapshot: &Snapshot, routes: &Routes<'_>, report: &mut Report) {
    if snapshot.bindings.is_empty() && !snapshot.queues.is_empty() {
        // The bindings could not be read: each queue has one to the default exchange.
        return;
    }
    for exchange in &snapshot.exchanges {
        let name = exchange.text("name");
        if name.is_empty() || name.starts_with("amq.") || exchange.is("internal") {
            continue;
        }
        if routes.way(name, None) == Way::Queues(BTreeSet::new()) {
            let mend = format!(
                "rabbitmqadmin{} declare binding source={} destination=<queue> routing_key=<key>; or delete it",
                snapshot.vhost_option(),
                shell(name)
            );
            let what = "no binding leads from it to a queue";
            report.find(&EXCHANGE_UNBOUND, ToldByTheManagementApi, format!("exchange {name}"), what, mend);
        }
    }
}
