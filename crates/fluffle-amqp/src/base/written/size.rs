//! Sizes in bytes.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use super::value::Written;

/// A number of bytes from `LEAST` to `MOST`: a plain number, or a text with a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size<const LEAST: u64 = 0, const MOST: u64 = { u64::MAX }>(u64);

/// The units of a size. Those of a thousand are left out, because people mean either by `MB`.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// In the largest unit that needs no fraction.
fn in_unit(bytes: u64) -> String {
    let unit = SIZE_UNITS.into_iter().find(|(_, length)| bytes >= *length && bytes.is_multiple_of(*length));
    unit.map_or_else(|| bytes.to_string(), |(unit, length)| format!("{}{unit}", bytes / length))
}

impl<const LEAST: u64, const MOST: u64> Size<LEAST, MOST> {
    /// As the size of something in memory.
    pub(crate) fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const LEAST: u64, const MOST: u64> Written for Size<LEAST, MOST> {
    type Value = u64;

    fn value(self) -> u64 {
        self.0
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Size<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const LEAST: u64, const MOST: u64>;

        impl<const LEAST: u64, const MOST: u64> Visitor<'_> for Bytes<LEAST, MOST> {
            type Value = Size<LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size in bytes such as 65536, \"64KiB\", \"16MiB\" or \"1GiB\"")?;
                match (LEAST, MOST) {
                    (0, u64::MAX) => Ok(()),
                    (_, u64::MAX) => write!(f, ", of at least {}", in_unit(LEAST)),
                    _ => write!(f, ", from {} to {}", in_unit(LEAST), in_unit(MOST)),
                }
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Self::Value, E> {
                if (LEAST..=MOST).contains(&bytes) {
                    return Ok(Size(bytes));
                }
                Err(E::invalid_value(Unexpected::Unsigned(bytes), &self))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Self::Value, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) => self.visit_u64(bytes),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(bytes), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let trimmed = text.trim();
                let unit = SIZE_UNITS.into_iter().find_map(|(unit, bytes)| Some((trimmed.strip_suffix(unit)?, bytes)));
                let (number, unit) = unit.unwrap_or((trimmed, 1));
                let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
                let in_range = bytes.filter(|bytes| (LEAST..=MOST).contains(bytes));
                in_range.map(Size).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_or_a_text_with_a_unit_that_means_one_thing() {
        #[derive(serde::Deserialize)]
        struct File {
            size: Size<1, 65_536>,
        }
        let size = |text: &str| toml::from_str::<File>(&format!("size = {text}")).map(|file| file.size.value());
        for (written, bytes) in
            [("1", 1), ("65_536", 65_536), ("'64KiB'", 65_536), ("'2 KiB'", 2048), ("' 7 '", 7), ("'7B'", 7)]
        {
            assert_eq!(size(written).unwrap(), bytes, "{written}");
        }
        for written in ["0", "-1", "'65KiB'", "'1MB'", "'1 kb'", "'KiB'", "'99999999999GiB'", "1.5", "'1.5KiB'"] {
            let message = size(written).unwrap_err().message().to_owned();
            assert!(message.ends_with(r#"such as 65536, "64KiB", "16MiB" or "1GiB", from 1B to 64KiB"#), "{message}");
        }
    }
}
