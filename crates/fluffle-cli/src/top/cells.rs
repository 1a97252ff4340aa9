//! The texts of a table of queues, for the view and for print. What cannot be known is a `?`.

use crate::{
    common::output::safe,
    top::look::{Look, Row},
    units,
};

/// The heads of [`numbers`].
pub(crate) const HEADS: [&str; 7] = ["READY", "UNACKED", "CONS", "IN/s", "DELIV/s", "ACK/s", "OLDEST"];
/// What cannot be known.
pub(crate) const UNKNOWN: &str = "?";

/// The numbers of a queue, in the order of [`HEADS`].
pub(crate) fn numbers(row: &Row) -> [String; 7] {
    let whole = |number: Option<u64>| number.map_or_else(|| UNKNOWN.to_owned(), short);
    let rate = |rate: Option<f64>| rate.map_or_else(|| UNKNOWN.to_owned(), speed);
    let oldest = match (row.oldest_seconds, row.ready, row.unacked) {
        (Some(seconds), ..) => age(seconds),
        // There is no message, so there is no age.
        (None, Some(0), Some(0)) => "-".to_owned(),
        (None, ..) => UNKNOWN.to_owned(),
    };
    [
        whole(row.ready),
        whole(row.unacked),
        whole(row.consumers),
        rate(row.in_rate),
        rate(row.delivered_rate),
        rate(row.acked_rate),
        oldest,
    ]
}

/// A number in at most 7 columns: `99,999`, `123k`, `1.23M`.
fn short(number: u64) -> String {
    let about = number as f64;
    match number {
        0..100_000 => units::count(number),
        100_000..1_000_000 => format!("{}k", number / 1000),
        1_000_000..1_000_000_000 => format!("{}M", units::figures(about / 1e6)),
        _ => format!("{}G", units::figures(about / 1e9)),
    }
}

/// Messages a second.
pub(crate) fn speed(rate: f64) -> String {
    match rate {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => short(rate.round() as u64),
    }
}

/// A time in its largest two units: `3m 20s`.
pub(crate) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{}d {hours}h", units::count(days)),
    }
}

/// The name of a queue, and what is wrong with it, safe for a terminal.
pub(crate) fn name(row: &Row) -> String {
    match &row.problem {
        Some(problem) => format!("{}: {}", safe(&row.name), safe(problem)),
        None => safe(&row.name),
    }
}

/// Why there are `?`, in a sentence; empty if there is no reason that holds for all queues.
pub(crate) fn why_unknown(look: &Look) -> &'static str {
    match look.unknown.len() {
        0 => "",
        3 => "?: this broker counts no rates (rates_mode or disable_stats)",
        _ => "?: not known over AMQP; --api tells it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_no_zero() {
        assert_eq!(numbers(&Row::default()), ["?"; 7]);
        let empty = Row { ready: Some(0), unacked: Some(0), in_rate: Some(0.0), ..Row::default() };
        assert_eq!(numbers(&empty), ["0", "0", "?", "0", "?", "?", "-"]);
    }

    #[test]
    fn numbers_fit_into_their_columns() {
        for (number, text) in [(99_999, "99,999"), (123_456, "123k"), (1_234_567, "1.23M"), (25_000_000_000, "25.0G")] {
            assert_eq!(short(number), text);
        }
        assert_eq!([age(59), age(200), age(7260), age(90_000)], ["59s", "3m 20s", "2h 1m", "1d 1h"]);
    }
}
