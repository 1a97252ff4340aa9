//! The answer in words.

use crate::{
    plan::{
        need::{BUSY, Need},
        table::{Certainty, Measurements},
    },
    units::figures,
};

pub(crate) fn text(need: &Need, measured: &Measurements) -> String {
    let mut lines = vec![title(need), String::new()];
    lines.extend(numbers(need).into_iter().map(|(name, value)| format!("  {name:<10} {value}")));
    lines.push(String::new());
    lines.extend(doubts(need, measured));
    lines.join("\n") + "\n"
}

fn title(need: &Need) -> String {
    let kind = format!("{} queues with {}", need.queue_type.name(), copies(need.replicas));
    let messages = format!("{} messages/s of {} B", figures(need.messages_per_s), figures(need.message_bytes));
    if need.deliveries_per_s < need.messages_per_s {
        let (batches, bytes) = (figures(need.deliveries_per_s), figures(need.delivery_bytes));
        return format!("{messages} in {batches} batches/s of {bytes} B, through {kind}");
    }
    format!("{messages}, through {kind}")
}

fn copies(replicas: u32) -> &'static str {
    if replicas == 1 { "one copy" } else { "three copies" }
}

fn numbers(need: &Need) -> Vec<(&'static str, String)> {
    let gigabits = |bytes: f64| format!("{} Gbit/s", figures(bytes * 8.0 / 1e9));
    let enough = match need.given_nodes_are_enough {
        Some(true) => "; those given are enough",
        Some(false) => "; those given are NOT enough",
        None => "",
    };
    vec![
        ("cores", format!("{} of the brokers, busy, all nodes together", figures(need.broker_cores))),
        (
            "nodes",
            format!("{} of {} cores, busy to {:.0} % at most{enough}", need.nodes, need.cores_per_node, BUSY * 100.0),
        ),
        ("queues", format!("{} at least on the measured machine, because a queue has one leader", need.queues)),
        ("network", format!("{}, to, from and between all nodes", gigabits(need.network_bytes_per_s))),
        ("disks", format!("{} MB/s, all nodes together", figures(need.disk_bytes_per_s / 1e6))),
    ]
}

fn doubts(need: &Need, measured: &Measurements) -> Vec<String> {
    let size = match need.certainty {
        Certainty::Measured => "this size was measured",
        Certainty::Interpolated => "this size is between two that were measured",
        Certainty::Extrapolated => "this size is beyond those that were measured",
    };
    let mut lines = vec![
        format!("How sure: {} ({size}), on {}.", need.certainty.name(), measured.machine),
        "Calculated, not measured: that cores of other machines are as fast, and that CPU time adds up over nodes."
            .into(),
        "Not in it: waiting messages, which cost memory and disk; confirms between zones; your handlers.".into(),
    ];
    if !need.is_distance_measured && need.nodes > 1 {
        lines.push(
            "Clients at another node than the leader cost more; for this kind of queue that was not measured.".into(),
        );
    }
    lines.push("Measure your own: fluffle bench --url … (docs/SCALING.md).".into());
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn said(arguments: &[&str]) -> String {
        let all = ["fluffle", "plan"].iter().chain(arguments);
        let Command::Plan(args) = Cli::try_parse_from(all).unwrap().command else { panic!("not a plan") };
        let measured = Measurements::read().unwrap();
        text(&Need::of(&args, &measured).unwrap(), &measured)
    }

    #[test]
    fn the_answer_says_how_sure_it_is_and_of_what_machine() {
        let text = said(&["--rate", "1000", "--size", "2KiB", "--queue-type", "stream"]);
        assert!(text.contains("interpolated") && text.contains("RabbitMQ 3.10.8"), "{text}");
        assert!(text.contains("was not measured"), "{text}");
        assert!(said(&["--rate", "1000", "--size", "10MB"]).contains("extrapolated"));
    }

    #[test]
    fn too_few_nodes_are_loud() {
        assert!(said(&["--rate", "10000000", "--nodes", "3"]).contains("NOT enough"));
    }
}
