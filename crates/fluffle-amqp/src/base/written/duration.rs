//! Durations, as text with a unit.

use std::{fmt, time::Duration};

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::value::Written;

/// A duration with a unit. A bare number is refused, because its unit would be a guess.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurationText(pub(crate) Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration in quotes, such as "500ms", "30s", "5m", "2h" or "1d""#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DurationText, E> {
                let duration = humantime::parse_duration(text).map_err(|error| {
                    E::custom(format!(r#"{text:?} is no duration ({error}); write "500ms", "30s", "5m", "2h" or "1d""#))
                })?;
                Ok(DurationText(duration))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// A year in milliseconds: the longest duration of a setting. A deadline later than the clock can tell would panic.
pub(crate) const YEAR: u64 = 365 * 24 * 3600 * 1000;

/// A duration of `LEAST` to `MOST` milliseconds.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(try_from = "DurationText")]
pub(crate) struct Span<const LEAST: u64 = 0, const MOST: u64 = YEAR>(Duration);

impl<const LEAST: u64, const MOST: u64> TryFrom<DurationText> for Span<LEAST, MOST> {
    type Error = String;

    fn try_from(DurationText(duration): DurationText) -> Result<Self, String> {
        if (Duration::from_millis(LEAST)..=Duration::from_millis(MOST)).contains(&duration) {
            return Ok(Self(duration));
        }
        let written = humantime::format_duration(duration);
        Err(format!("invalid value: {written}, expected a duration from {} to {}", shortest(LEAST), shortest(MOST)))
    }
}

impl<const LEAST: u64, const MOST: u64> Written for Span<LEAST, MOST> {
    type Value = Duration;

    fn value(self) -> Duration {
        self.0
    }
}

/// In the largest unit that needs no fraction: `365d`, where humantime writes `11months 29days 22h …`.
fn shortest(milliseconds: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let fits = |length: &u64| milliseconds >= *length && milliseconds.is_multiple_of(*length);
    match units.into_iter().find(|(_, length)| fits(length)) {
        Some((unit, length)) => format!("{}{unit}", milliseconds / length),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_shown_in_one_unit() {
        for (milliseconds, text) in [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (3_600_000, "1h"), (YEAR, "365d")] {
            assert_eq!(shortest(milliseconds), text);
        }
    }
}
