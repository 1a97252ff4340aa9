//! Draws a topology: where a message goes from each exchange, and where from a queue when it fails or expires.

mod dot;
mod drawing;
mod svg;

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::{
    common::{failure::Failure, output::safe},
    topology::{
        args::Format,
        graph::drawing::{Edge, EdgeLook, Graph, Node, NodeLook},
        model::{Model, Place, Queue, integer, text},
    },
};

/// The most nodes and edges that are laid out: 340 take 1.3 s without optimization of the compiler, 1,000 more than a
/// minute.
const MOST_FOR_SVG: usize = 500;

/// The drawing, as text. Without a format, the name of the output decides.
pub(super) fn draw(model: &Model, format: Option<Format>, output: Option<&Path>) -> Result<String, Failure> {
    let graph = Graph::of(model);
    if graph.nodes.is_empty() {
        return Err(Failure::new("there is nothing to draw: no exchange and no queue"));
    }
    let is_svg = output.and_then(Path::extension).is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
    match format.unwrap_or(if is_svg { Format::Svg } else { Format::Dot }) {
        Format::Dot => Ok(dot::write(&graph)),
        Format::Svg if graph.nodes.len() + graph.edges.len() > MOST_FOR_SVG => Err(Failure::new(format!(
            "{} exchanges and queues with {} ways between them are too many for SVG, of which {MOST_FOR_SVG} take \
             seconds: use --format dot, and Graphviz (`dot -Tsvg`), or give a part of the topology",
            graph.nodes.len(),
            graph.edges.len()
        ))),
        Format::Svg => Ok(svg::write(&graph)),
    }
}

/// Builds a graph; entities that are only named get a node when they are.
struct Builder<'a> {
    model: &'a Model,
    graph: Graph,
    places: BTreeMap<Place, usize>,
}

impl Graph {
    fn of(model: &Model) -> Self {
        let mut builder = Builder { model, graph: Self::default(), places: BTreeMap::new() };
        for exchange in &model.exchanges {
            let lines = vec![safe(&exchange.name), safe(&exchange.kind)];
            builder.add(exchange.place(), Node { lines, look: NodeLook::Exchange });
        }
        for queue in &model.queues {
            let node = Node { lines: vec![safe(&queue.name), safe(&about(queue))], look: builder.look(queue) };
            builder.add(queue.place(), node);
        }
        for binding in &model.bindings {
            let from = builder.place(&Place::Exchange(binding.source.clone()));
            let to = builder.place(&binding.to);
            builder.edge(from, to, &binding.label(), EdgeLook::Binding);
        }
        builder.alternates();
        builder.dead_letters();
        builder.graph
    }
}

impl Builder<'_> {
    fn add(&mut self, place: Place, node: Node) {
        self.places.insert(place, self.graph.nodes.len());
        self.graph.nodes.push(node);
    }

    fn place(&mut self, place: &Place) -> usize {
        if let Some(node) = self.places.get(place) {
            return *node;
        }
        let what = match place {
            Place::Exchange(name) if name.starts_with("amq.") => "exchange of the broker",
            Place::Exchange(_) => "exchange, not declared here",
            Place::Queue(_) => "queue, not declared here",
        };
        let node = Node { lines: vec![safe(place.name()), what.to_owned()], look: NodeLook::Elsewhere };
        self.add(place.clone(), node);
        self.graph.nodes.len() - 1
    }

    /// Several ways between two places, such as bindings with many keys, are one line.
    fn edge(&mut self, from: usize, to: usize, label: &str, look: EdgeLook) {
        let label = safe(label);
        let known = self.graph.edges.iter_mut().find(|it| (it.from, it.to, it.look) == (from, to, look));
        match known {
            Some(known) => {
                known.label.push_str(", ");
                known.label.push_str(&label);
            }
            None => self.graph.edges.push(Edge { from, to, label, look }),
        }
    }

    fn alternates(&mut self) {
        for exchange in &self.model.exchanges {
            if let Some(alternate) = text(&exchange.arguments, "alternate-exchange") {
                let from = self.place(&exchange.place());
                let to = self.place(&Place::Exchange(alternate.to_owned()));
                self.edge(from, to, "unrouted", EdgeLook::Alternate);
            }
        }
    }

    fn dead_letters(&mut self) {
        for queue in &self.model.queues {
            let Some((to, key)) = dead_letter_target(queue) else { continue };
            let from = self.place(&queue.place());
            let to = self.place(&to);
            if let Some(wait) = self.waits(queue) {
                self.edge(from, to, &format!("after {wait}"), EdgeLook::Retry);
            } else {
                let label = if key.is_empty() { "dead".to_owned() } else { format!("dead as {key}") };
                self.edge(from, to, &label, EdgeLook::DeadLetter);
            }
        }
    }

    fn look(&self, queue: &Queue) -> NodeLook {
        let is_target = |other: &Queue| {
            other.name != queue.name
                && self.waits(other).is_none()
                && dead_letter_target(other).is_some_and(|(to, _)| self.leads_to(&to, queue))
        };
        if self.waits(queue).is_some() {
            NodeLook::Retry
        } else if self.model.queues.iter().any(is_target) {
            NodeLook::DeadLetters
        } else {
            NodeLook::Queue
        }
    }

    /// Whether dead letters to `place` come to the queue, itself or over one exchange.
    fn leads_to(&self, place: &Place, queue: &Queue) -> bool {
        *place == queue.place()
            || self
                .model
                .bindings
                .iter()
                .any(|it| Place::Exchange(it.source.clone()) == *place && it.to == queue.place())
    }

    /// How long messages wait in this queue before they go back: in a queue without bindings, whose messages expire to
    /// another queue.
    fn waits(&self, queue: &Queue) -> Option<String> {
        let ms = integer(&queue.arguments, "x-message-ttl").and_then(|ms| u64::try_from(ms).ok())?;
        let is_bound = self.model.bindings.iter().any(|it| it.to == queue.place());
        let goes_back = matches!(dead_letter_target(queue), Some((Place::Queue(_), _)));
        (goes_back && !is_bound).then(|| humantime::format_duration(Duration::from_millis(ms)).to_string())
    }
}

/// Where dead letters of the queue go, and with which key. Over the default exchange the key names a queue.
fn dead_letter_target(queue: &Queue) -> Option<(Place, String)> {
    let exchange = queue.text("x-dead-letter-exchange")?;
    let key = queue.text("x-dead-letter-routing-key").unwrap_or_default();
    Some(match (exchange.is_empty(), key.is_empty()) {
        (true, false) => (Place::Queue(key.to_owned()), String::new()),
        (true, true) => (Place::Exchange(String::new()), String::new()),
        (false, _) => (Place::Exchange(exchange.to_owned()), key.to_owned()),
    })
}

/// The kind of the queue, and its limits.
fn about(queue: &Queue) -> String {
    let mut words = vec![queue.kind().to_owned()];
    if queue.exclusive {
        words.push("exclusive".to_owned());
    }
    let number = |name| integer(&queue.arguments, name);
    let time = |ms: i64| humantime::format_duration(Duration::from_millis(ms.unsigned_abs())).to_string();
    words.extend(number("x-message-ttl").map(|ms| format!("ttl {}", time(ms))));
    words.extend(number("x-max-length").map(|most| format!("at most {most}")));
    words.extend(number("x-delivery-limit").map(|most| format!("{most} deliveries")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluffle::amqp::Topology;

    #[test]
    fn ways_of_retries_and_dead_letters_are_told_from_bindings() {
        let toml = r#"
            [[exchange]]
            name = "orders"
            type = "topic"
            alternate = "unrouted"
            [[queue]]
            name = "work"
            type = "quorum"
            dead_letter = true
            [[queue.binding]]
            exchange = "orders"
            key = "a"
            [[queue.binding]]
            exchange = "orders"
            key = "b"
            [[queue]]
            name = "work.retry.5000"
            type = "classic"
            message_ttl = "5s"
            dead_letter = { exchange = "", key = "work" }
        "#;
        let topology = Topology::from_toml(toml).unwrap_or_default();
        let graph = Graph::of(&Model::from(&topology));
        let name = |node: usize| graph.nodes[node].lines[0].as_str();
        let edges: Vec<_> =
            graph.edges.iter().map(|it| (name(it.from), name(it.to), it.label.as_str(), it.look)).collect();
        let expected = [
            ("orders", "work", "a, b", EdgeLook::Binding),
            ("orders", "unrouted", "unrouted", EdgeLook::Alternate),
            ("work", "work.dead", "dead", EdgeLook::DeadLetter),
            ("work.retry.5000", "work", "after 5s", EdgeLook::Retry),
        ];
        assert_eq!(edges, expected);
        let looks: Vec<_> = graph.nodes.iter().map(|it| (it.lines[0].as_str(), it.look)).collect();
        assert!(looks.contains(&("work.dead", NodeLook::DeadLetters)), "{looks:?}");
        assert!(looks.contains(&("work.retry.5000", NodeLook::Retry)), "{looks:?}");
        assert!(looks.contains(&("unrouted", NodeLook::Elsewhere)), "{looks:?}");
    }
}
