//! What both text formats have in common: lines of a name, labels and a value.

use std::fmt::Write;

use crate::{instrument::histogram::Counts, names::Name};

/// Writes one line for each value of `counts`: the buckets, summed up as the formats ask, the sum and the count. A
/// histogram without a value has only the bucket that both formats demand, because most stages of most queues have
/// none, and their zeros would be most of the text.
pub(super) fn histogram(text: &mut String, name: &Name, labels: &[Box<str>], counts: &Counts) {
    let is_empty = counts.count() == 0;
    let mut up_to = 0;
    for (index, count) in counts.counts.iter().enumerate() {
        up_to += count;
        let bound = counts.bounds.get(index).copied().unwrap_or(f64::INFINITY);
        if is_empty && bound.is_finite() {
            continue;
        }
        line(text, name.prometheus, "_bucket", name.labels, labels, Some(bound), &up_to);
    }
    line(text, name.prometheus, "_sum", name.labels, labels, None, &Number(counts.sum));
    line(text, name.prometheus, "_count", name.labels, labels, None, &up_to);
}

/// Writes `name suffix { labels, le="bound" } value`.
pub(super) fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    names: &[&str],
    values: &[Box<str>],
    bound: Option<f64>,
    value: &dyn std::fmt::Display,
) {
    text.push_str(name);
    text.push_str(suffix);
    let mut before = '{';
    let mut label = |text: &mut String, name: &str, value: &str| {
        text.push(before);
        before = ',';
        text.push_str(name);
        text.push_str("=\"");
        escape(text, value);
        text.push('"');
    };
    for (name, value) in names.iter().zip(values) {
        label(text, name, value);
    }
    if let Some(bound) = bound {
        label(text, "le", &Number(bound).to_string());
    }
    if before == ',' {
        text.push('}');
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, " {value}");
}

/// Both formats ask for a backslash before a backslash, a quote and a line's end.
fn escape(text: &mut String, value: &str) {
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
        text.replace("fluffle_consume_batch_size", "").replace("queue=\"q\"", "")
    }

    #[test]
    fn buckets_are_summed_up_and_those_of_an_empty_histogram_left_out() {
        let values = "_bucket{,le=\"1\"} 1\n_bucket{,le=\"2\"} 1\n_bucket{,le=\"+Inf\"} 3\n_sum{} 5\n_count{} 3\n";
        assert_eq!(written(vec![1, 0, 2]), values);
        assert_eq!(written(vec![0, 0, 0]), "_bucket{,le=\"+Inf\"} 0\n_sum{} 5\n_count{} 0\n");
    }
}
