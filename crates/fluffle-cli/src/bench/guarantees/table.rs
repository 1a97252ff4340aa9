//! The comparison on a terminal.

use std::fmt::Write;

use comfy_table::CellAlignment;

use crate::{
    bench::guarantees::{
        report::{Comparison, Measured},
        ways::WAYS,
    },
    common::output::{safe, table},
    units::count,
};

pub(crate) fn render(comparison: &Comparison) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(comparison, &mut out);
    out
}

fn write(comparison: &Comparison, out: &mut String) -> std::fmt::Result {
    let mut rows = table(&["WAY", "MSG/S", "RATIO", "GUARANTEE"]);
    for (column, alignment) in [(1, CellAlignment::Right), (2, CellAlignment::Right)] {
        if let Some(column) = rows.column_mut(column) {
            column.set_cell_alignment(alignment);
        }
    }
    for way in &comparison.ways {
        rows.add_row([way.name.to_owned(), rate(way), ratio(way), guarantee(way)]);
    }
    writeln!(out, "fluffle bench {} on {}", comparison.version, safe(&comparison.broker))?;
    writeln!(out, "{rows}")?;
    writeln!(
        out,
        "MSG/S: handled, over {} s each; messages of {}; one producer, one queue;",
        comparison.seconds, comparison.size
    )?;
    writeln!(out, "all verified. RATIO: to the first line. A line is one sample: other work on the")?;
    writeln!(out, "machines changes it.")?;
    for way in &comparison.ways {
        for problem in &way.problems {
            writeln!(out, "{}: {}", way.name, safe(problem))?;
        }
    }
    if comparison.interrupted {
        writeln!(out, "interrupted after {} of {}", comparison.ways.len(), WAYS.len())?;
    }
    Ok(())
}

fn rate(way: &Measured) -> String {
    way.per_s.map_or("-".to_owned(), |per_s| count(per_s.round() as u64))
}

fn ratio(way: &Measured) -> String {
    way.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// What is guaranteed, or, if it was not kept, that.
fn guarantee(way: &Measured) -> String {
    match (way.ok, way.per_s) {
        (true, _) => way.guarantee.to_owned(),
        (false, Some(_)) => format!("BROKEN: {}", way.guarantee),
        (false, None) => "could not be run, see below".to_owned(),
    }
}
