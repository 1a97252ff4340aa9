//! The drawing in Graphviz's language: <https://graphviz.org/doc/info/lang.html>.

use std::fmt::Write;

use crate::topology::graph::drawing::{EdgeLook, Graph, NodeLook};

pub(super) fn write(graph: &Graph) -> String {
    let mut dot = String::from(
        "digraph topology {\n  rankdir=LR;\n  node [fontname=\"Helvetica\", style=filled];\n  edge \
         [fontname=\"Helvetica\", fontsize=11];\n",
    );
    for (number, node) in graph.nodes.iter().enumerate() {
        let look = match node.look {
            NodeLook::Exchange => "shape=ellipse, fillcolor=\"#dbeafe\"",
            NodeLook::Queue => "shape=box, fillcolor=\"#dcfce7\"",
            NodeLook::Retry => "shape=box, fillcolor=\"#fef9c3\"",
            NodeLook::DeadLetters => "shape=box, fillcolor=\"#fee2e2\"",
            NodeLook::Elsewhere => "shape=box, style=\"dashed\"",
        };
        let label = node.lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\\n");
        // Writing to a string does not fail.
        let _ = writeln!(dot, "  n{number} [label=\"{label}\", {look}];");
    }
    for edge in &graph.edges {
        let look = match edge.look {
            EdgeLook::Binding => "color=\"#1f2937\"",
            EdgeLook::DeadLetter => "color=\"#dc2626\", fontcolor=\"#dc2626\", style=dashed",
            EdgeLook::Retry => "color=\"#b45309\", fontcolor=\"#b45309\", style=dashed",
            EdgeLook::Alternate => "color=\"#6b7280\", fontcolor=\"#6b7280\", style=dashed",
        };
        let _ = writeln!(dot, "  n{} -> n{} [label=\"{}\", {look}];", edge.from, edge.to, escaped(&edge.label));
    }
    dot.push_str("}\n");
    dot
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(escaped(r#"a"]; x -> y; \"#), r#"a\"]; x -> y; \\"#);
    }
}
