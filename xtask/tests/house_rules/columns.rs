//! The width of a line. rustfmt keeps code to it and leaves comments and texts alone.

use std::fs;

use crate::sources::{place, workspace_sources};

const WIDEST_LINE: usize = 120;

#[test]
fn no_line_is_too_wide() {
    let mut wrong = Vec::new();
    for file in workspace_sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (line, width) in offences(&text) {
            wrong.push(format!("{}:{line}: {width} columns", place(&file)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines are wider than {WIDEST_LINE} columns: break the comment, or split the text with a `\\` at the line's \
         end\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The lines that are too wide, each with its width. A file that a program wrote says so in its first lines
/// (`@generated`) and is left out.
fn offences(text: &str) -> Vec<(usize, usize)> {
    if text.lines().take(3).any(|line| line.contains("@generated")) {
        return Vec::new();
    }
    let widths = text.lines().map(|line| line.chars().count()).enumerate();
    widths.filter(|(_, width)| *width > WIDEST_LINE).map(|(index, width)| (index + 1, width)).collect()
}

#[test]
fn the_rules_see_a_line_that_is_too_wide() {
    let wide = "ü".repeat(WIDEST_LINE);
    assert_eq!(offences(&format!("a\n{wide}\n{wide}x\n")), [(3, WIDEST_LINE + 1)]);
    assert!(offences(&format!("// @generated\n{wide}x\n")).is_empty());
    assert!(workspace_sources().len() > 100, "the rule looks at {} files", workspace_sources().len());
}
