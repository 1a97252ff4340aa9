//! The settings of a wire, as a file or the environment writes them: gzip, and the limits on sizes.

use std::fmt;

use fluffle_wire::{Gzip, Level, Limits};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer};

use super::{
    choice::{Choice, Word},
    number::Whole,
    size::Size,
    value::{Written, made_from, or},
};

/// `"off"`, `"on"` or `"auto"`, or a table with level and smallest size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GzipWritten(Gzip);

impl Written for GzipWritten {
    type Value = Gzip;

    fn value(self) -> Gzip {
        self.0
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct GzipFields {
    mode: Word<GzipMode>,
    level: Option<Whole<u32, 1, 9>>,
    min_size: Option<Size>,
}

#[derive(Clone, Copy)]
enum GzipMode {
    Off,
    On,
    Auto,
}

impl Choice for GzipMode {
    const WORDS: &'static [(&'static str, Self)] = &[("off", Self::Off), ("on", Self::On), ("auto", Self::Auto)];
}

impl TryFrom<GzipFields> for GzipWritten {
    type Error = String;

    fn try_from(GzipFields { mode, level, min_size }: GzipFields) -> Result<Self, String> {
        let level = match level {
            Some(level) => Level::new(level.value()).map_err(|error| error.to_string())?,
            None => Level::default(),
        };
        match mode.value() {
            GzipMode::Auto => {
                Ok(Self(Gzip::Auto { min_size: min_size.map_or(Gzip::AUTO_MIN_SIZE, Size::in_memory), level }))
            }
            _ if min_size.is_some() => {
                Err("`min_size` goes with mode = \"auto\" only: remove it, or change `mode`".to_owned())
            }
            GzipMode::On => Ok(Self(Gzip::On(level))),
            GzipMode::Off => Ok(Self(Gzip::Off)),
        }
    }
}

impl<'de> Deserialize<'de> for GzipWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModeOrTable;

        impl<'de> Visitor<'de> for ModeOrTable {
            type Value = GzipWritten;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""off", "on" or "auto", or a table such as { mode = "auto", level = 1 }"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GzipWritten, E> {
                match text {
                    "off" => Ok(GzipWritten(Gzip::Off)),
                    "on" => Ok(GzipWritten(Gzip::on())),
                    "auto" => Ok(GzipWritten(Gzip::auto())),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GzipWritten, A::Error> {
                made_from::<GzipFields, _, _>(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(ModeOrTable)
    }
}

/// The fields of [`Limits`].
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with encoded, decompressed, ratio, batch_items")]
pub(crate) struct LimitsWritten {
    encoded: Option<Size>,
    decompressed: Option<Size>,
    ratio: Option<Whole<usize, 0>>,
    batch_items: Option<Whole<usize, 0>>,
}

impl LimitsWritten {
    /// `code` with what is written here.
    pub(crate) fn over(self, code: Limits) -> Limits {
        // Neither side with `..`: a limit without a setting does not compile.
        let Self { encoded, decompressed, ratio, batch_items } = self;
        Limits {
            encoded: encoded.map_or(code.encoded, Size::in_memory),
            decompressed: decompressed.map_or(code.decompressed, Size::in_memory),
            ratio: or(ratio, code.ratio),
            batch_items: or(batch_items, code.batch_items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_a_word_or_a_table() {
        #[derive(serde::Deserialize)]
        struct File {
            gzip: GzipWritten,
        }
        let gzip = |text: &str| toml::from_str::<File>(&format!("gzip = {text}")).map(|file| file.gzip.value());
        for (text, wanted) in [
            ("'off'", Gzip::Off),
            ("'on'", Gzip::on()),
            ("'auto'", Gzip::auto()),
            ("{ mode = 'off' }", Gzip::Off),
            ("{ mode = 'on', level = 9 }", Gzip::On(Level::SMALLEST)),
            ("{ mode = 'auto', level = 6 }", Gzip::Auto { min_size: 1024, level: Level::BALANCED }),
            ("{ mode = 'auto', min_size = '2KiB' }", Gzip::Auto { min_size: 2048, level: Level::FASTEST }),
        ] {
            assert_eq!(gzip(text).unwrap(), wanted, "{text}");
        }
        for (text, wanted) in [
            ("'fast'", r#"expected "off", "on" or "auto", or a table such as { mode = "auto", level = 1 }"#),
            ("{ mode = 'on', level = 10 }", "integer `10`, expected a whole number from 1 to 9"),
            ("{ mode = 'on', min_size = 1 }", "`min_size` goes with mode = \"auto\" only"),
            ("{ level = 1 }", "missing field `mode`"),
            ("{ mode = 'fast' }", r#"string "fast", expected "off" or "on" or "auto""#),
        ] {
            let message = gzip(text).unwrap_err().message().to_owned();
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }
}
