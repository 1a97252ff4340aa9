//! Backoffs and restart intensities as a file or the environment writes them.

use std::fmt;

use fluffle_supervise::{Backoff, Intensity, PolicyError};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer};

use super::{
    duration::Span,
    flag::Flag,
    number::{Real, Whole},
    value::{Written, made_from, or},
};

/// `"none"`, or the arguments of [`Backoff::exponential`] and of its setters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackoffWritten(Backoff);

/// `"unlimited"`, or the arguments of [`Intensity::new`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntensityWritten(Intensity);

impl Written for BackoffWritten {
    type Value = Backoff;

    fn value(self) -> Backoff {
        self.0
    }
}

impl Written for IntensityWritten {
    type Value = Intensity;

    fn value(self) -> Intensity {
        self.0
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffFields {
    min: Span<1>,
    max: Span<1>,
    factor: Option<Real>,
    reset_after: Option<Span>,
    first_at_once: Option<Flag>,
}

impl TryFrom<BackoffFields> for BackoffWritten {
    type Error = PolicyError;

    fn try_from(fields: BackoffFields) -> Result<Self, PolicyError> {
        // Without `..`: a field that nothing reads does not compile.
        let BackoffFields { min, max, factor, reset_after, first_at_once } = fields;
        let mut backoff = Backoff::exponential(min.value(), max.value())?;
        if let Some(Real(factor)) = factor {
            backoff = backoff.factor(factor)?;
        }
        if let Some(healthy) = reset_after {
            backoff = backoff.reset_after(healthy.value());
        }
        Ok(Self(if or(first_at_once, false) { backoff.first_at_once() } else { backoff }))
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct IntensityFields {
    max_restarts: Whole<u32, 0>,
    within: Span<1>,
}

impl TryFrom<IntensityFields> for IntensityWritten {
    type Error = PolicyError;

    fn try_from(IntensityFields { max_restarts, within }: IntensityFields) -> Result<Self, PolicyError> {
        Intensity::new(max_restarts.value(), within.value()).map(Self)
    }
}

impl<'de> Deserialize<'de> for BackoffWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoneOrTable;

        impl<'de> Visitor<'de> for NoneOrTable {
            type Value = BackoffWritten;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""none", or a table such as { min = "100ms", max = "10s" }"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BackoffWritten, E> {
                match text {
                    "none" => Ok(BackoffWritten(Backoff::none())),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BackoffWritten, A::Error> {
                made_from::<BackoffFields, _, _>(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(NoneOrTable)
    }
}

impl<'de> Deserialize<'de> for IntensityWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UnlimitedOrTable;

        impl<'de> Visitor<'de> for UnlimitedOrTable {
            type Value = IntensityWritten;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""unlimited", or a table such as { max_restarts = 3, within = "5s" }"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IntensityWritten, E> {
                match text {
                    "unlimited" => Ok(IntensityWritten(Intensity::unlimited())),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IntensityWritten, A::Error> {
                made_from::<IntensityFields, _, _>(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(UnlimitedOrTable)
    }
}
