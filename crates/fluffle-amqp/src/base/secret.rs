//! A string that never appears in a log or an error.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A password. `Debug` shows `***`, there is no `Display`, and only the connection handshake reads it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub(crate) fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: never pass it to a log or an error.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A secret of a file or of the environment. `None`: what is written is no text.
///
/// Reading it never fails, because the error of a file format may quote the line with the secret. Whoever uses the
/// secret reports that it is missing or wrong.
#[derive(Clone, Debug)]
pub(crate) struct SecretText(pub(crate) Option<Secret>);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Some(Secret::new(text))))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretText, E> {
                Ok(SecretText(None))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretText, E> {
                Ok(SecretText(None))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretText, E> {
                Ok(SecretText(None))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretText, E> {
                Ok(SecretText(None))
            }

            fn visit_unit<E: de::Error>(self) -> Result<SecretText, E> {
                Ok(SecretText(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<SecretText, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(SecretText(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<SecretText, A::Error> {
                while pairs.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(SecretText(None))
            }
        }

        deserializer.deserialize_any(Anything)
    }
}
