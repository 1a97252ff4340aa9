//! Numbers.

use std::{fmt, marker::PhantomData};

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use super::value::Written;

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
