//! The report as text.

use std::fmt::Write as _;

use crate::{
    common::{
        exit::Exit,
        output::{Colour, OutputArgs, safe, table},
    },
    doctor::finding::{Finding, Level, Report},
};

/// Findings of one kind whose entities are printed; `--json` has all.
const ENTITIES: usize = 5;
/// Text that is not on a terminal has lines of this width, and on a terminal at least and at most these.
const WIDTH: usize = 80;
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;

/// The width of the text.
pub(crate) fn width() -> usize {
    let terminal = table(&[]).width().map_or(WIDTH, usize::from);
    terminal.clamp(*WIDTHS.start(), *WIDTHS.end())
}

pub(crate) fn text(report: &Report, output: &OutputArgs, width: usize) -> String {
    let mut text = String::new();
    for fact in &report.facts {
        paragraph(&mut text, &format!("{:<8}", fact.name), &safe(&fact.value), width);
    }
    let mut rest = report.findings.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|finding| finding.id == first.id).count();
        let (group, others) = rest.split_at(same);
        rest = others;
        text.push('\n');
        findings(&mut text, group, first, output, width);
    }
    let mut rest = report.unknown.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|unknown| unknown.needs == first.needs).count();
        let (group, others) = rest.split_at(same);
        rest = others;
        let _ = writeln!(text, "\n{}", output.paint(Colour::Bold, "NOT KNOWN"));
        for unknown in group {
            paragraph(&mut text, "  - ", &safe(&unknown.what), width);
        }
        let _ = writeln!(text, "  takes {}", safe(&first.needs));
    }
    let _ = writeln!(text, "\n{}", summary(report, output));
    text
}

/// The findings of one kind: what of each entity, once why, and each way to mend them.
fn findings(text: &mut String, group: &[Finding], first: &Finding, output: &OutputArgs, width: usize) {
    let (label, colour) = match first.level {
        Level::Error => ("ERROR", Colour::Red),
        Level::Warning => ("WARNING", Colour::Yellow),
        Level::Advice => ("ADVICE", Colour::Cyan),
    };
    let _ = writeln!(text, "{} {}", output.paint(colour, label), output.paint(Colour::Bold, first.id));
    for finding in group.iter().take(ENTITIES) {
        let line = format!("{}: {}", safe(&finding.entity), safe(&finding.what));
        paragraph(text, "  ", &line, width);
    }
    if group.len() > ENTITIES {
        let _ = writeln!(text, "  and {} more, which --json lists", group.len() - ENTITIES);
    }
    paragraph(text, "  why   ", first.why, width);
    let mut mends: Vec<&str> = Vec::new();
    for finding in group.iter().take(ENTITIES) {
        if !mends.contains(&finding.mend.as_str()) {
            mends.push(&finding.mend);
        }
    }
    for mend in mends {
        // Not broken into lines, so that it can be copied.
        let _ = writeln!(text, "  mend  {}", safe(mend));
    }
    for line in first.conf.iter().flat_map(|lines| lines.lines()) {
        let _ = writeln!(text, "  conf  {}", safe(line));
    }
    let _ = writeln!(text, "  page  {}", first.page);
    let _ = writeln!(text, "  known {}", output.paint(Colour::Dim, first.evidence.text()));
}

fn summary(report: &Report, output: &OutputArgs) -> String {
    let count = |level| report.findings.iter().filter(|finding| finding.level == level).count();
    let counts = format!(
        "{} errors, {} warnings, {} advice; {} not known",
        count(Level::Error),
        count(Level::Warning),
        count(Level::Advice),
        report.unknown.len()
    );
    match report.exit() {
        Exit::Clean => output.paint(Colour::Green, &counts),
        Exit::Attention => output.paint(Colour::Yellow, &counts),
        Exit::NotCarriedOut => {
            let counts = format!("{counts}; the examination is not complete: no connection over AMQP");
            output.paint(Colour::Red, &counts)
        }
        Exit::Bad => output.paint(Colour::Red, &counts),
    }
}

/// Words in lines of at most `width`, indented below the end of the head.
fn paragraph(text: &mut String, head: &str, words: &str, width: usize) {
    let indent = head.chars().count();
    let mut line = head.to_owned();
    let mut column = indent;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width {
            let _ = writeln!(text, "{line}");
            line = " ".repeat(indent);
            column = indent;
        }
        if column > indent {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += length;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_keeps_its_width_and_its_indent() {
        let mut text = String::new();
        paragraph(&mut text, "why   ", "one two three four a-very-long-word five", 16);
        assert_eq!(text, "why   one two\n      three four\n      a-very-long-word\n      five\n");
    }
}
