//! The values inside a topology's TOML: durations, dead letters, bindings, arguments.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use toml::Value;

use crate::topology::argument::ArgumentValue;
use crate::topology::binding::{Binding, Match};
use crate::topology::queue_kind::{LeaderLocator, Overflow};

/// Arguments or headers as written.
pub(super) type ArgumentsToml = BTreeMap<String, ArgumentToml>;

/// A value of a type that AMQP has too.
#[derive(serde::Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct ArgumentToml(pub(super) ArgumentValue);

impl TryFrom<Value> for ArgumentToml {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let inner = |value| Self::try_from(value).map(|Self(value)| value);
        Ok(Self(match value {
            Value::Boolean(value) => ArgumentValue::Bool(value),
            Value::Integer(value) => ArgumentValue::Int(value),
            Value::Float(value) => ArgumentValue::Float(value),
            Value::String(value) => ArgumentValue::Text(value),
            Value::Array(values) => ArgumentValue::List(values.into_iter().map(inner).collect::<Result<_, _>>()?),
            Value::Table(table) => {
                let pairs = table.into_iter().map(|(key, value)| Ok((key, inner(value)?)));
                ArgumentValue::Table(pairs.collect::<Result<_, Self::Error>>()?)
            }
            Value::Datetime(_) => return Err("a date is no argument: write it as text, in quotes"),
        }))
    }
}

/// A binding: the exchange, and which messages of it.
#[derive(serde::Deserialize)]
#[serde(try_from = "BindingFields")]
pub(super) struct BindingToml(pub(super) Binding);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingFields {
    exchange: String,
    #[serde(default)]
    key: String,
    #[serde(rename = "match")]
    matching: Option<MatchToml>,
    headers: Option<ArgumentsToml>,
}

impl TryFrom<BindingFields> for BindingToml {
    type Error = &'static str;

    fn try_from(fields: BindingFields) -> Result<Self, Self::Error> {
        match (fields.matching, fields.headers) {
            (None, None) => Ok(Self(Binding::by_key(fields.exchange, fields.key))),
            (Some(matching), Some(headers)) if fields.key.is_empty() => {
                let headers = headers.into_iter().map(|(key, ArgumentToml(value))| (key, value));
                Ok(Self(Binding::by_headers(fields.exchange, matching.into(), headers)))
            }
            (Some(_), Some(_)) => Err("a binding goes by `key` or by `headers`, not by both"),
            (Some(_), None) => Err("`match` needs `headers = { name = value }`"),
            (None, Some(_)) => Err("`headers` needs `match = \"all\"` or `match = \"any\"`"),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum MatchToml {
    All,
    Any,
}

impl From<MatchToml> for Match {
    fn from(matching: MatchToml) -> Self {
        match matching {
            MatchToml::All => Self::All,
            MatchToml::Any => Self::Any,
        }
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OverflowToml {
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

impl From<OverflowToml> for Overflow {
    fn from(overflow: OverflowToml) -> Self {
        match overflow {
            OverflowToml::DropHead => Self::DropHead,
            OverflowToml::RejectPublish => Self::RejectPublish,
            OverflowToml::RejectPublishDlx => Self::RejectPublishDlx,
        }
    }
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum LeaderLocatorToml {
    ClientLocal,
    Balanced,
}

impl From<LeaderLocatorToml> for LeaderLocator {
    fn from(locator: LeaderLocatorToml) -> Self {
        match locator {
            LeaderLocatorToml::ClientLocal => Self::ClientLocal,
            LeaderLocatorToml::Balanced => Self::Balanced,
        }
    }
}

/// `true` for the queue's own dead-letter queue, or the exchange and key for dead letters.
pub(super) enum DeadLetterToml {
    Own(bool),
    To(DeadLetterTarget),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterTarget {
    pub(super) exchange: String,
    #[serde(default)]
    pub(super) key: String,
}

impl<'de> Deserialize<'de> for DeadLetterToml {
    // Implemented by hand, because serde's untagged enums answer a misspelt key with "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrTarget;

        impl<'de> Visitor<'de> for FlagOrTarget {
            type Value = DeadLetterToml;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"true, or a table such as { exchange = "graveyard", key = "orders" }"#)
            }

            fn visit_bool<E: de::Error>(self, own: bool) -> Result<DeadLetterToml, E> {
                Ok(DeadLetterToml::Own(own))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DeadLetterToml, A::Error> {
                let target = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DeadLetterToml::To(target))
            }
        }

        deserializer.deserialize_any(FlagOrTarget)
    }
}
