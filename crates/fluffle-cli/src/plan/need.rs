//! What a load needs.

use serde::Serialize;

use crate::{
    common::failure::Failure,
    plan::{
        args::{PlanArgs, QueueType},
        table::{Certainty, Cost, Measurements},
    },
};

/// The share of its cores that a node should be busy: the rest is for elections, catching up and the day's peak.
pub(crate) const BUSY: f64 = 0.6;

/// Bytes that a message takes in a batch beside its own.
const FRAMING: f64 = 3.0;

/// The most messages in a batch, as receivers accept it by default.
const MOST_ITEMS: f64 = 10_000.0;

/// What a load needs, and how sure that is. The keys of the JSON are stable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Need {
    pub(crate) messages_per_s: f64,
    pub(crate) message_bytes: f64,
    /// What the broker sees: messages, or batches.
    pub(crate) deliveries_per_s: f64,
    pub(crate) delivery_bytes: f64,
    pub(crate) queue_type: QueueType,
    pub(crate) replicas: u32,
    /// Cores that are busy, of all nodes together.
    pub(crate) broker_cores: f64,
    pub(crate) cores_per_node: u32,
    /// Nodes that are busy to [`BUSY`] at most.
    pub(crate) nodes: u32,
    /// Whether the nodes that were asked about are enough.
    pub(crate) given_nodes_are_enough: Option<bool>,
    /// Queues, because each has one leader.
    pub(crate) queues: u32,
    /// Bytes a second of all nodes together: in, out, and between nodes.
    pub(crate) network_bytes_per_s: f64,
    /// Bytes a second written to disks of all nodes together.
    pub(crate) disk_bytes_per_s: f64,
    pub(crate) certainty: Certainty,
    /// Whether the cost of clients at another node was measured for this kind of queue.
    pub(crate) is_distance_measured: bool,
    pub(crate) machine: String,
}

impl Need {
    /// # Errors
    ///
    /// If the batch has no room for a message, or a classic queue is to have replicas.
    pub(crate) fn of(args: &PlanArgs, measured: &Measurements) -> Result<Self, Failure> {
        let (rate, size) = (args.rate.0 as f64 / 1000.0, args.size.0 as f64);
        let (deliveries, bytes) = deliveries(args, rate, size)?;
        let replicas = replicas(args)?;
        let cost = measured.cost(args.queue_type, replicas, bytes).ok_or_else(|| {
            Failure::new(format!(
                "there are no measurements of {} queues with {replicas} copies",
                args.queue_type.name()
            ))
        })?;
        let (nodes, cores) = nodes(args, &cost, deliveries, replicas);
        let copies = f64::from(replicas);
        Ok(Self {
            messages_per_s: rate,
            message_bytes: size,
            deliveries_per_s: deliveries,
            delivery_bytes: bytes,
            queue_type: args.queue_type,
            replicas,
            broker_cores: cores,
            cores_per_node: args.cores,
            nodes,
            given_nodes_are_enough: args.nodes.map(|given| given >= nodes),
            queues: at_least_one(deliveries / cost.rate),
            network_bytes_per_s: deliveries * bytes * (2.0 + (copies - 1.0)),
            disk_bytes_per_s: deliveries * bytes * copies,
            certainty: cost.certainty,
            is_distance_measured: cost.elsewhere_cpu_us.is_some(),
            machine: measured.machine.clone(),
        })
    }
}

/// Messages or batches a second, and their size.
fn deliveries(args: &PlanArgs, rate: f64, size: f64) -> Result<(f64, f64), Failure> {
    let Some(batch) = args.batch else { return Ok((rate, size)) };
    let items = (batch.0 as f64 / (size + FRAMING)).floor().min(MOST_ITEMS);
    if items < 1.0 {
        return Err(Failure::new(format!(
            "a batch of {batch} has no room for a message of {}: leave out --batch, or make it larger",
            args.size
        )));
    }
    Ok((rate / items, items * (size + FRAMING)))
}

fn replicas(args: &PlanArgs) -> Result<u32, Failure> {
    let is_classic = args.queue_type == QueueType::Classic;
    match args.replicas.as_deref() {
        Some("3") if is_classic => Err(Failure::new(
            "a classic queue has one copy of each message: choose --queue-type quorum or stream for more",
        )),
        Some("3") => Ok(3),
        None if !is_classic && args.nodes.is_none_or(|nodes| nodes >= 3) => Ok(3),
        _ => Ok(1),
    }
}

/// Nodes, and busy cores of all of them. Clients of *n* nodes are at a queue's leader in one of *n* cases, so the cost
/// depends on the number of nodes, and is looked for from the smallest number on.
fn nodes(args: &PlanArgs, cost: &Cost, deliveries: f64, replicas: u32) -> (u32, f64) {
    let cores = |nodes: u32| {
        let near = 1.0 / f64::from(nodes);
        let elsewhere = cost.elsewhere_cpu_us.unwrap_or(cost.cpu_us);
        deliveries * (cost.cpu_us * near + elsewhere * (1.0 - near)) / 1e6
    };
    let of_a_node = f64::from(args.cores) * BUSY;
    let most = at_least_one(cores(u32::MAX) / of_a_node).max(replicas);
    let nodes = (replicas..most).find(|&nodes| cores(nodes) <= of_a_node * f64::from(nodes)).unwrap_or(most);
    (nodes, cores(nodes))
}

fn at_least_one(number: f64) -> u32 {
    number.ceil().max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    const DOCUMENT: &str = include_str!("../../../../docs/SCALING.md");

    fn plan(arguments: &str) -> Result<Need, String> {
        let all = ["fluffle", "plan"].into_iter().chain(arguments.split_whitespace());
        let Command::Plan(args) = Cli::try_parse_from(all).unwrap().command else { panic!("not a plan") };
        Need::of(&args, &Measurements::read().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn replicas_and_distance_cost_more_and_batches_cost_less() {
        let cores = |arguments: &str| plan(arguments).unwrap().broker_cores;
        let one = cores("--rate 10000 --replicas 1");
        assert!(cores("--rate 10000 --replicas 3") > 1.5 * one);
        assert!(cores("--rate 10000 --replicas 1 --batch") < one / 20.0);
        assert!((cores("--rate 20000 --replicas 1") / one - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_cluster_that_is_too_small_is_told_so() {
        assert_eq!(plan("--rate 1000 --nodes 3").unwrap().given_nodes_are_enough, Some(true));
        assert_eq!(plan("--rate 10000000 --nodes 3").unwrap().given_nodes_are_enough, Some(false));
        assert_eq!(plan("--rate 1000").unwrap().given_nodes_are_enough, None);
        let alone = plan("--rate 1000 --nodes 1").unwrap();
        assert_eq!((alone.replicas, alone.nodes), (1, 1));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        assert!(plan("--rate 1 --queue-type classic --replicas 3").unwrap_err().contains("--queue-type quorum"));
        assert!(plan("--rate 1 --size 1MiB --batch 64KiB").unwrap_err().contains("leave out --batch"));
    }

    /// The rows of the document's table "A million messages a second".
    #[test]
    fn the_document_has_the_answers_for_a_million_messages_a_second() {
        let mut expected = Vec::new();
        for batch in ["", " --batch 64KiB"] {
            for kind in ["classic", "quorum --replicas 1", "quorum", "stream"] {
                let command = format!("--rate 1000000 --size 100{batch} --queue-type {kind} --cores 16");
                let need = plan(&command).unwrap();
                expected.push(format!(
                    "| `{command}` | {:.0} | {:.1} | {} | {} | {:.1} | {} |",
                    need.deliveries_per_s,
                    need.broker_cores,
                    need.nodes,
                    need.queues,
                    need.network_bytes_per_s * 8.0 / 1e9,
                    need.certainty.name()
                ));
            }
        }
        let found: Vec<_> = DOCUMENT.lines().filter(|line| line.starts_with("| `--rate ")).collect();
        assert_eq!(found, expected, "docs/SCALING.md should have\n{}", expected.join("\n"));
    }
}
