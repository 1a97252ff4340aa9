//! Quantities in the forms that people write on a command line and read in a report.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

/// A number of bytes: `1000`, `64KiB`, `1.5MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) usize);

const BYTE_UNITS: [(&str, f64); 6] =
    [("kib", 1024.0), ("mib", 1048576.0), ("kb", 1000.0), ("mb", 1000000.0), ("k", 1000.0), ("b", 1.0)];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_lowercase();
        let (number, factor) = BYTE_UNITS
            .iter()
            .find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, *factor)))
            .unwrap_or((&lower, 1.0));
        let bytes = number.trim().parse::<f64>().map(|number| number * factor);
        match bytes {
            Ok(bytes) if (0.0..1e12).contains(&bytes) && bytes.fract() == 0.0 => Ok(Self(bytes as usize)),
            _ => Err(format!("`{text}` is not a number of bytes: write 1000, 64KiB or 1.5MB")),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} B", count(bytes as u64)),
        }
    }
}

/// The sizes of messages: `1000`, or `100-2000` for every size in that range with equal probability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sizes(pub(crate) RangeInclusive<usize>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = match text.split_once('-') {
            Some((least, most)) => (least.parse::<Bytes>()?.0, most.parse::<Bytes>()?.0),
            None => {
                let size = text.parse::<Bytes>()?.0;
                (size, size)
            }
        };
        if least > most {
            return Err(format!("the range {least}-{most} is empty: write the smaller size first, `{most}-{least}`"));
        }
        Ok(Self(least..=most))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = (Bytes(*self.0.start()), Bytes(*self.0.end()));
        if least == most { write!(f, "{least}") } else { write!(f, "{least} to {most}") }
    }
}

/// Parses a time with its unit, at most a year: `30s`, `500ms`, `2m 30s`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let wrong = |why: &dyn fmt::Display| format!("{why}; write a time with its unit: 30s, 500ms, 2m");
    match humantime::parse_duration(text) {
        Ok(time) if time <= Duration::from_secs(365 * 24 * 3600) => Ok(time),
        Ok(_) => Err(wrong(&"that is more than a year")),
        Err(error) => Err(wrong(&error)),
    }
}

/// Parses a time above zero.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("the time must be above zero".to_owned()),
        time => Ok(time),
    }
}

/// A number with its thousands separated: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time in nanoseconds with about three significant figures and a unit: `850 ns`, `1.24 ms`, `12.4 s`.
pub(crate) fn nanos(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{} {unit}", figures(value))
}

/// A number with about three significant figures.
pub(crate) fn figures(value: f64) -> String {
    match value.abs() {
        v if v < 0.005 => "0".to_owned(),
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => count(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_units_of_both_kinds() {
        for (text, bytes) in
            [("0", 0), ("1000", 1000), ("64KiB", 65536), ("1.5MB", 1_500_000), ("2 k", 2000), ("7B", 7)]
        {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for wrong in ["", "many", "-1", "1.5", "1e30", "5 apples", "NaN"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_one_or_a_range_with_both_its_ends() {
        assert_eq!("1000".parse(), Ok(Sizes(1000..=1000)));
        assert_eq!("100-2KiB".parse(), Ok(Sizes(100..=2048)));
        let backwards = "200-100".parse::<Sizes>().unwrap_err();
        assert!(backwards.contains("`100-200`"), "{backwards}");
    }

    #[test]
    fn a_time_has_a_unit_and_an_end() {
        assert_eq!(time("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(time("30").is_err() && time("2000years").is_err());
        assert!(some_time("0s").is_err());
    }

    #[test]
    fn figures_are_three_and_thousands_stand_apart() {
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        let shown = [850.0, 1_240.0, 12_400_000.0, 999e9].map(nanos);
        assert_eq!(shown, ["850 ns", "1.24 µs", "12.4 ms", "999 s"]);
    }
}
