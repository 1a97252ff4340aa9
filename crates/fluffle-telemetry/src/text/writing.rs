//! What both text formats have in common: lines of a name, labels and a value.

use std::fmt::Write;

use crate::{instrument::histogram::Counts, names::Name};

/// Writes one line for each value of `counts`: the buckets, summed up as the formats ask, the sum and the count. A
/// histogram without a value has only the bucket that both formats demand, because most stages of most queues have
/// none, and their zeros would be most of the text.
pub(super) fn histogram(text: &mut String, name: &Name, labels: &[Box<str>], counts: &Counts) {
    let labels = rendered(name.labels, labels);
    let is_empty = counts.count() == 0;
    let mut up_to = 0;
    for (index, count) in counts.counts.iter().enumerate() {
        up_to += count;
        let bound = counts.bounds.get(index).copied().unwrap_or(f64::INFINITY);
        if is_empty && bound.is_finite() {
            continue;
        }
        let comma = if labels.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}_bucket{{{labels}{comma}le=\"{}\"}} {up_to}", name.prometheus, Number(bound));
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
        histogram(&mut text, &BATCH_SIZE, &["q".into()], &Counts { bounds: &[1.0, 2.0], counts, sum: 5.0 });
        text.replace("fluffle_consume_batch_size", "")
    }

    #[test]
    fn buckets_are_summed_up_and_those_of_an_empty_histogram_left_out() {
        let values = [
            "_bucket{queue=\"q\",le=\"1\"} 1",
            "_bucket{queue=\"q\",le=\"2\"} 1",
            "_bucket{queue=\"q\",le=\"+Inf\"} 3",
            "_sum{queue=\"q\"} 5",
            "_count{queue=\"q\"} 3",
        ];
        assert_eq!(written(vec![1, 0, 2]).lines().collect::<Vec<_>>(), values);
        let empty = ["_bucket{queue=\"q\",le=\"+Inf\"} 0", "_sum{queue=\"q\"} 5", "_count{queue=\"q\"} 0"];
        assert_eq!(written(vec![0, 0, 0]).lines().collect::<Vec<_>>(), empty);
    }
}
