//! Values as people write them in a file or in an environment variable: durations, sizes, numbers, flags.
//!
//! Each error says what was written and what is allowed; the library that reads the file adds the key and the place.
//! Numbers and flags are read from text too, because an environment variable holds nothing else.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::de::{
    self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor,
    value::{MapAccessDeserializer, MapDeserializer},
};

/// A value that is written in another type than the setting has.
pub(crate) trait Written {
    type Value;

    fn value(self) -> Self::Value;
}

/// The value that is written, or else the other one.
pub(crate) fn or<W: Written>(written: Option<W>, otherwise: W::Value) -> W::Value {
    written.map_or(otherwise, W::value)
}

/// Reads fields, and makes of them what they stand for, within its limits.
pub(crate) fn made_from<'de, F, T, D>(deserializer: D) -> Result<T, D::Error>
where
    F: Deserialize<'de>,
    T: TryFrom<F, Error: fmt::Display>,
    D: Deserializer<'de>,
{
    F::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
}

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

/// A whole number from `LEAST` to `MOST`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<N, const LEAST: i64, const MOST: i64 = { i64::MAX }>(N);

impl<N, const LEAST: i64, const MOST: i64> Written for Whole<N, LEAST, MOST> {
    type Value = N;

    fn value(self) -> N {
        self.0
    }
}

impl<'de, N: TryFrom<i64>, const LEAST: i64, const MOST: i64> Deserialize<'de> for Whole<N, LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<N, const LEAST: i64, const MOST: i64>(PhantomData<N>);

        impl<N: TryFrom<i64>, const LEAST: i64, const MOST: i64> Visitor<'_> for Number<N, LEAST, MOST> {
            type Value = Whole<N, LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match MOST {
                    i64::MAX => write!(f, "a whole number of at least {LEAST}"),
                    _ => write!(f, "a whole number from {LEAST} to {MOST}"),
                }
            }

            fn visit_i64<E: de::Error>(self, written: i64) -> Result<Self::Value, E> {
                let fits = Some(written).filter(|number| (LEAST..=MOST).contains(number));
                let number = fits.and_then(|number| N::try_from(number).ok());
                number.map(Whole).ok_or_else(|| E::invalid_value(Unexpected::Signed(written), &self))
            }

            fn visit_u64<E: de::Error>(self, written: u64) -> Result<Self::Value, E> {
                match i64::try_from(written) {
                    Ok(number) => self.visit_i64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(written), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text.trim().parse() {
                    Ok(number) => self.visit_i64(number),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Number(PhantomData))
    }
}

/// A number with a fraction. Its limits are those of the setter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Real(pub(crate) f64);

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Real;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 2 or 0.5")
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Real, E> {
                Ok(Real(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Real, E> {
                Ok(Real(number as f64))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Real, E> {
                Ok(Real(number as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Real, E> {
                text.trim().parse().map(Real).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag(bool);

impl Written for Flag {
    type Value = bool;

    fn value(self) -> bool {
        self.0
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Truth;

        impl Visitor<'_> for Truth {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Flag, E> {
                Ok(Flag(truth))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Flag, E> {
                text.trim().parse().map(Flag).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Truth)
    }
}

/// A choice that is written as a word.
pub(crate) trait Choice: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of a [`Choice`]. An enum of serde would not do: not each library lists what may be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<C>(C);

impl<C> Written for Word<C> {
    type Value = C;

    fn value(self) -> C {
        self.0
    }
}

impl<'de, C: Choice> Deserialize<'de> for Word<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOf<C>(PhantomData<C>);

        impl<C: Choice> Visitor<'_> for OneOf<C> {
            type Value = Word<C>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let words: Vec<String> = C::WORDS.iter().map(|(word, _)| format!("{word:?}")).collect();
                f.write_str(&words.join(" or "))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<C>, E> {
                let choice = C::WORDS.iter().find(|(word, _)| *word == text).map(|(_, choice)| Word(*choice));
                choice.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(OneOf(PhantomData))
    }
}

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

/// Something that can be switched off: `false`, or its settings. `true` stands for an empty table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Switchable<T> {
    Off,
    On(T),
}

impl<T> Switchable<T> {
    /// What is written if anything is, or else what the code says.
    pub(crate) fn over<V>(written: Option<Self>, code: Option<V>, made: impl FnOnce(T, Option<V>) -> V) -> Option<V> {
        match written {
            None => code,
            Some(Self::Off) => None,
            Some(Self::On(settings)) => Some(made(settings, code)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Switchable<T> {
    // Implemented by hand, because serde's untagged enums answer a misspelt key with "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FalseOrTable<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for FalseOrTable<T> {
            type Value = Switchable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("false, or a table with its settings")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Self::Value, E> {
                if !on {
                    return Ok(Switchable::Off);
                }
                let nothing = std::iter::empty::<(&str, &str)>();
                T::deserialize(MapDeserializer::new(nothing)).map(Switchable::On)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text.trim().parse() {
                    Ok(on) => self.visit_bool(on),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Switchable::On)
            }
        }

        deserializer.deserialize_any(FalseOrTable(PhantomData))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The keys that settings know, from the error for one that they do not know.
    pub(crate) fn known_keys<'de, S: Deserialize<'de>>() -> Vec<String> {
        let unknown = [("no such key", "")].into_iter();
        let refused = S::deserialize(MapDeserializer::<_, de::value::Error>::new(unknown)).err().unwrap().to_string();
        let known = refused.split_once("expected").unwrap().1;
        known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// Whether a text in TOML names each key of these settings.
    pub(crate) fn names_all<'de, S: Deserialize<'de>>(text: &str) {
        let table: toml::Table = toml::from_str(text).unwrap();
        let known = known_keys::<S>();
        let left_out: Vec<&String> = known.iter().filter(|key| !table.contains_key(*key)).collect();
        assert!(left_out.is_empty() && known.len() > 1, "the test leaves out {left_out:?}");
    }

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

    #[test]
    fn a_bound_is_shown_in_one_unit() {
        for (milliseconds, text) in [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (3_600_000, "1h"), (YEAR, "365d")] {
            assert_eq!(shortest(milliseconds), text);
        }
    }
}
