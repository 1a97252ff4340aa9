//! A topology that a service wants, from its TOML, against the broker.

use std::path::Path;

use fluffle::{amqp::ExchangeKind, prelude::Topology};

use crate::{
    common::failure::Failure,
    doctor::{
        conflicts::DIFFERS,
        finding::{Evidence::ToldByTheManagementApi, Kind, Level, Report},
        pages,
        snapshot::Snapshot,
    },
};

static PLUGIN: Kind = Kind {
    id: "topology.plugin_missing",
    level: Level::Error,
    why: "The service does not start: the broker closes the connection over an exchange type that it does not know \
          (503 COMMAND_INVALID).",
    page: pages::PLUGINS,
};
/// The topology of `--topology`.
pub(crate) fn read(file: &Path) -> Result<Topology, Failure> {
    Topology::from_toml_file(file).map_err(|error| Failure::new(format!("--topology {}: {error}", file.display())))
}

/// The queues that have to be there; not those that belong to one connection.
pub(crate) fn queues(topology: &Topology) -> impl Iterator<Item = String> {
    topology.queues().filter(|queue| !queue.is_exclusive()).map(|queue| queue.name().to_owned())
}

pub(crate) fn exchanges(topology: &Topology) -> impl Iterator<Item = String> {
    topology.exchanges().map(|exchange| exchange.name().to_owned())
}

/// The plugin that has this type of exchange, as far as it is known; `None` if the broker itself has it.
fn plugin(kind: &ExchangeKind) -> Option<(String, &'static str)> {
    let plugin = match kind.to_string().as_str() {
        "direct" | "fanout" | "topic" | "headers" | "x-local-random" => return None,
        "x-consistent-hash" => "rabbitmq_consistent_hash_exchange",
        "x-delayed-message" => "rabbitmq_delayed_message_exchange",
        "x-random" => "rabbitmq_random_exchange",
        "x-recent-history" => "rabbitmq_recent_history_exchange",
        "x-modulus-hash" => "rabbitmq_sharding",
        "x-jms-topic" => "rabbitmq_jms_topic_exchange",
        "x-event" => "rabbitmq_event_exchange",
        _ => "<the plugin that has it>",
    };
    Some((kind.to_string(), plugin))
}

/// Says what cannot be known of the topology without the management API.
pub(crate) fn without_api(topology: &Topology, compared: bool, report: &mut Report) {
    if topology.exchanges().any(|exchange| plugin(exchange.kind()).is_some()) {
        report.unknown("whether the plugins for the topology's exchange types are enabled", "--api");
    }
    if !compared {
        report.unknown(
            "whether queues and exchanges are as the topology declares them (else 406 at the start)",
            "a connection over AMQP, or --api",
        );
    }
}

/// Compares plugins; and, if nothing was compared over AMQP, the properties of queues and exchanges that can never be
/// changed.
pub(crate) fn check(topology: &Topology, snapshot: &Snapshot, compared: bool, report: &mut Report) {
    let told = ToldByTheManagementApi;
    let known: Vec<String> =
        snapshot.overview.list("exchange_types").iter().map(|kind| kind.text("name").to_owned()).collect();
    for exchange in topology.exchanges() {
        if let Some((kind, plugin)) = plugin(exchange.kind())
            && !known.contains(&kind)
        {
            let what = format!("it has the type {kind}, which the broker does not know");
            let mend = format!("rabbitmq-plugins enable {plugin}");
            report.find(&PLUGIN, told, format!("exchange {}", exchange.name()), what, mend);
        }
        let is = snapshot.exchanges.iter().find(|other| other.text("name") == exchange.name());
        let Some(is) = is.filter(|_| !compared) else { continue };
        let differences = [
            ("type", exchange.kind().to_string(), is.text("type").to_owned()),
            ("durable", exchange.is_durable().to_string(), is.is("durable").to_string()),
            ("auto_delete", exchange.is_auto_delete().to_string(), is.is("auto_delete").to_string()),
            ("internal", exchange.is_internal().to_string(), is.is("internal").to_string()),
        ];
        differ(&format!("exchange {}", exchange.name()), &differences, report);
    }
    for queue in topology.queues() {
        let is = snapshot.queues.iter().find(|other| other.text("name") == queue.name());
        let Some(is) = is.filter(|_| !compared) else { continue };
        let differences = [
            ("x-queue-type", queue.kind().to_string(), is.text("type").to_owned()),
            ("durable", queue.is_durable().to_string(), is.is("durable").to_string()),
            ("auto_delete", queue.is_auto_delete().to_string(), is.is("auto_delete").to_string()),
        ];
        differ(&format!("queue {}", queue.name()), &differences, report);
    }
}

fn differ(entity: &str, properties: &[(&str, String, String)], report: &mut Report) {
    let different = properties.iter().filter(|(_, wanted, is)| wanted != is);
    let different: Vec<String> =
        different.map(|(name, wanted, is)| format!("{name}: {is} on the broker, {wanted} in the topology")).collect();
    if !different.is_empty() {
        let mend =
            "correct the topology; or make a new queue: `fluffle topology plan` shows the steps and every argument";
        report.find(&DIFFERS, ToldByTheManagementApi, entity, different.join("; "), mend);
    }
}
