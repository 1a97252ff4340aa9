//! The drawing as SVG, laid out by layout-rs.

use layout::{
    backends::svg::SVGWriter,
    core::{
        base::Orientation,
        color::Color,
        geometry::Point,
        style::{LineStyleKind, StyleAttr},
    },
    std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind},
    topo::layout::VisualGraph,
};

use crate::topology::graph::drawing::{EdgeLook, Graph, NodeLook};

const FONT: usize = 15;

/// From so many nodes and lines on, lines are not untangled: the time for that grows with more than their square.
const LARGE: usize = 200;

/// Labels lie on their lines: a white edge around the letters keeps them readable.
const STYLE: &str = "<style>\nsvg { background: #ffffff; }\ntext { paint-order: stroke; stroke: #ffffff; stroke-width: \
                     4px; stroke-linejoin: round; }";

pub(super) fn write(graph: &Graph) -> String {
    let mut drawing = VisualGraph::new(Orientation::LeftToRight);
    let nodes: Vec<_> = graph
        .nodes
        .iter()
        .map(|node| {
            let text = node.lines.join("\n");
            let widest = node.lines.iter().map(|line| line.chars().count()).max().unwrap_or(1);
            let size = Point::new(widest as f64 * 9. + 24., node.lines.len() as f64 * 20. + 24.);
            let (fill, shape) = match node.look {
                NodeLook::Exchange => (0xdbea_feff, ShapeKind::Circle(text)),
                NodeLook::Queue => (0xdcfc_e7ff, ShapeKind::Box(text)),
                NodeLook::Retry => (0xfef9_c3ff, ShapeKind::Box(text)),
                NodeLook::DeadLetters => (0xfee2_e2ff, ShapeKind::Box(text)),
                NodeLook::Elsewhere => (0xf3f4_f6ff, ShapeKind::Box(text)),
            };
            let style = StyleAttr::new(Color::new(0x1f29_37ff), 1, Some(Color::new(fill)), 6, FONT);
            drawing.add_node(Element::create(shape, style, Orientation::LeftToRight, size))
        })
        .collect();
    for edge in &graph.edges {
        let (colour, line) = match edge.look {
            EdgeLook::Binding => (0x1f29_37ff, LineStyleKind::Normal),
            EdgeLook::DeadLetter => (0xdc26_26ff, LineStyleKind::Dashed),
            EdgeLook::Retry => (0xb453_09ff, LineStyleKind::Dashed),
            EdgeLook::Alternate => (0x6b72_80ff, LineStyleKind::Dashed),
        };
        let style = StyleAttr::new(Color::new(colour), 2, None, 0, FONT);
        let (from, to) = (LineEndKind::None, LineEndKind::Arrow);
        let arrow = Arrow::new(from, to, line, &edge.label, &style, &None, &None);
        drawing.add_edge(arrow, nodes[edge.from], nodes[edge.to]);
    }
    let mut svg = SVGWriter::new();
    let is_large = graph.nodes.len() + graph.edges.len() > LARGE;
    drawing.do_it(false, is_large, false, &mut svg);
    svg.finalize().replacen("<style>", STYLE, 1)
}
