//! Settings that `false` switches off.

use std::{fmt, marker::PhantomData};

use serde::de::{
    self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor,
    value::{MapAccessDeserializer, MapDeserializer},
};

/// Something that can be switched off: `false`, or its settings. `true` stands for an empty table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Switchable<T> {
    Off,
    On(T),
}

impl<T> Switchable<T> {
    /// The written setting, or the one in code if nothing is written.
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
