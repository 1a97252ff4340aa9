//! What both text formats have in common: lines of a name, labels and a value.

use std::fmt::Write;

use crate::{instrument::histogram::Counts, names::Name};

/// The upper bounds of buckets as text, for one rendering: most lines of a text are buckets, and there are few
/// different bounds.
#[derive(Default)]
pub(super) struct Bounds(Vec<(&'static [f64], Vec<String>)>);

impl Bounds {
    fn of(&mut self, bounds: &'static [f64]) -> &[String] {
        let known = self.0.iter().position(|(known, _)| std::ptr::eq(*known, bounds));
        let place = known.unwrap_or_else(|| {
            let each = bounds.iter().copied().chain([f64::INFINITY]);
            self.0.push((bounds, each.map(|bound| Number(bound).to_string()).collect()));
            self.0.len() - 1
        });
        &self.0[place].1
    }
}

/// Writes one line for each value of `counts`: the buckets, summed up as the formats ask, the sum and the count.
/// Buckets without a value are written too, because Prometheus's rates miss the first value of a line that was not
/// there before.
pub(super) fn histogram(text: &mut String, bounds: &mut Bounds, name: &Name, labels: &[Box<str>], counts: &Counts) {
    let labels = rendered(name.labels, labels);
    let comma = if labels.is_empty() { "" } else { "," };
    let begin = format!("{}_bucket{{{labels}{comma}le=\"", name.prometheus);
    let mut up_to = 0;
    for (bound, count) in bounds.of(counts.bounds).iter().zip(&counts.counts) {
        up_to += count;
        text.push_str(&begin);
        text.push_str(bound);
        text.push_str("\"} ");
        match up_to {
            0 => text.push('0'),
            // Writing to a string does not fail.
            up_to => drop(write!(text, "{up_to}")),
        }
        text.push('\n');
    }
    value(text, name.prometheus, "_sum", &labels, &Number(counts.sum));
    value(text, name.prometheus, "_count", &labels, &up_to);
}

/// Writes `name suffix { labels } value`.
pub(super) fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    names: &[&str],
    values: &[Box<str>],
    number: &dyn std::fmt::Display,
) {
    value(text, name, suffix, &rendered(names, values), number);
}

fn value(text: &mut String, name: &str, suffix: &str, labels: &str, number: &dyn std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = match labels {
        "" => writeln!(text, "{name}{suffix} {number}"),
        labels => writeln!(text, "{name}{suffix}{{{labels}}} {number}"),
    };
}

/// The labels as they stand between braces.
fn rendered(names: &[&str], values: &[Box<str>]) -> String {
    let mut labels = String::new();
    for (name, value) in names.iter().zip(values) {
        if !labels.is_empty() {
            labels.push(',');
        }
        labels.push_str(name);
        labels.push_str("=\"");
        escape(&mut labels, value);
        labels.push('"');
    }
    labels
}

/// Both formats ask for a backslash before a backslash, a quote and a line's end.
fn escape(text: &mut String, value: &str) {
    if !value.contains(['\\', '"', '\n']) {
        return text.push_str(value);
    }
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

/// A number as both formats write it.
pub(super) struct Number(pub(super) f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::BATCH_SIZE;

    fn written(counts: Vec<u64>) -> String {
        let mut text = String::new();
        let counts = Counts { bounds: &[1.0, 2.5], counts, sum: 5.0 };
        histogram(&mut text, &mut Bounds::default(), &BATCH_SIZE, &["q".into()], &counts);
        text.replace("fluffle_consume_batch_size", "")
    }

    #[test]
    fn buckets_are_summed_up_and_empty_ones_written_too() {
        let values = [
            "_bucket{queue=\"q\",le=\"1\"} 1",
            "_bucket{queue=\"q\",le=\"2.5\"} 1",
            "_bucket{queue=\"q\",le=\"+Inf\"} 3",
            "_sum{queue=\"q\"} 5",
            "_count{queue=\"q\"} 3",
        ];
        assert_eq!(written(vec![1, 0, 2]).lines().collect::<Vec<_>>(), values);
        assert!(written(vec![0, 0, 0]).starts_with("_bucket{queue=\"q\",le=\"1\"} 0\n"));
    }
}
