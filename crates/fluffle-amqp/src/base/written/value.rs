//! The value of a setting, as it is written in a file or a variable.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};

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

#[cfg(test)]
pub(crate) mod tests {
    use serde::de::value::MapDeserializer;

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
}
