//! Bindings: which messages of an exchange reach a queue or another exchange.

use std::collections::BTreeMap;

use crate::topology::argument::{self, ArgumentValue, Arguments};
use crate::topology::error::Entity;
use crate::topology::name;

/// How a binding to a headers exchange compares its headers with a message's.
///
/// See the headers exchange in the [AMQP 0-9-1
/// model](https://www.rabbitmq.com/tutorials/amqp-concepts#exchange-headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Every header of the binding must be in the message with the same value.
    All,
    /// At least one header of the binding must be in the message with the same value.
    Any,
}

impl Match {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Any => "any",
        }
    }
}

/// A binding from an exchange to the queue or exchange that lists it.
///
/// Made by [`Queue::bind`](crate::Queue::bind) and [`Queue::bind_headers`](crate::Queue::bind_headers), and by the
/// methods of the same names of [`Exchange`](crate::Exchange).
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    exchange: String,
    key: String,
    arguments: Arguments,
}

impl Binding {
    pub(super) fn by_key(exchange: String, key: String) -> Self {
        Self { exchange, key, arguments: Arguments::new() }
    }

    pub(super) fn by_headers<K, V>(exchange: String, matching: Match, headers: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<ArgumentValue>,
    {
        let headers = headers.into_iter().map(|(key, value)| (key.into(), value.into()));
        let mut arguments: Arguments = headers.collect();
        // Inserted last, so that a header named `x-match` cannot replace the mode.
        arguments.insert("x-match".into(), matching.as_str().into());
        Self { exchange, key: String::new(), arguments }
    }

    /// The exchange that messages come from.
    #[must_use]
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The binding key; empty for a binding by headers.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The headers that a headers exchange compares, with `x-match`, by name; empty for a binding by key.
    ///
    /// ```
    /// use fluffle_amqp::{ArgumentValue, Match, Queue};
    ///
    /// let queue = Queue::quorum("eu").bind_headers("orders", Match::All, [("region", "eu")]);
    /// assert_eq!(queue.bindings()[0].arguments()["x-match"], ArgumentValue::from("all"));
    /// ```
    #[must_use]
    pub fn arguments(&self) -> &BTreeMap<String, ArgumentValue> {
        &self.arguments
    }

    /// How errors name this binding of `destination`.
    pub(crate) fn entity(&self, destination: Entity) -> Entity {
        Entity::Binding { exchange: self.exchange.clone(), destination: Box::new(destination), key: self.key.clone() }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        name::check_bound_exchange(&self.exchange)?;
        name::check_key(&self.key)?;
        argument::check(&self.arguments)?;
        match self.arguments.keys().find(|key| key.starts_with("x-") && *key != "x-match") {
            Some(header) => Err(format!(
                "a binding to exchange {:?} matches header {header:?}, but RabbitMQ does not match headers \
                 that begin with \"x-\": rename the header",
                self.exchange
            )),
            None => Ok(()),
        }
    }
}
