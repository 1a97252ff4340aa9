//! Exchanges, queues and bindings as plain data: what a file asks for, and what a broker has.
//!
//! Not the library's `Topology`, because a broker has entities that the library would refuse to declare.

use std::{collections::BTreeMap, fmt};

use fluffle::amqp::{ArgumentValue, Binding as LibraryBinding, Topology};
use serde::Serialize;

/// Arguments by name.
pub(crate) type Arguments = BTreeMap<String, ArgumentValue>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) bindings: Vec<Binding>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Arguments,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// Exclusive queues belong to a connection of the service, so that nothing but the service can declare them.
    pub(crate) exclusive: bool,
    pub(crate) arguments: Arguments,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Binding {
    pub(crate) source: String,
    pub(crate) to: Place,
    pub(crate) key: String,
    pub(crate) arguments: Arguments,
}

/// An exchange or a queue, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub(crate) enum Place {
    Exchange(String),
    Queue(String),
}

impl Place {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Exchange(name) | Self::Queue(name) => name,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(name) => write!(f, "exchange {name:?}"),
            Self::Queue(name) => write!(f, "queue {name:?}"),
        }
    }
}

impl Exchange {
    pub(crate) fn place(&self) -> Place {
        Place::Exchange(self.name.clone())
    }
}

impl Queue {
    pub(crate) fn place(&self) -> Place {
        Place::Queue(self.name.clone())
    }

    pub(crate) fn text(&self, argument: &str) -> Option<&str> {
        text(&self.arguments, argument)
    }

    /// `classic`, unless the arguments say otherwise.
    pub(crate) fn kind(&self) -> &str {
        self.text("x-queue-type").unwrap_or("classic")
    }
}

impl Binding {
    /// The headers that are compared, if any, as `match=all, region="eu"`.
    pub(crate) fn headers(&self) -> String {
        let pairs = self.arguments.iter().map(|(name, value)| match (name.as_str(), value) {
            ("x-match", ArgumentValue::Text(matching)) => format!("match={matching}"),
            (name, value) => format!("{name}={value}"),
        });
        pairs.collect::<Vec<_>>().join(", ")
    }

    /// The key, or the headers if there is none.
    pub(crate) fn label(&self) -> String {
        match (self.key.is_empty(), self.arguments.is_empty()) {
            (_, true) => self.key.clone(),
            (true, false) => self.headers(),
            (false, false) => format!("{} {}", self.key, self.headers()),
        }
    }
}

pub(crate) fn text<'a>(arguments: &'a Arguments, name: &str) -> Option<&'a str> {
    match arguments.get(name) {
        Some(ArgumentValue::Text(text)) => Some(text),
        _ => None,
    }
}

pub(crate) fn integer(arguments: &Arguments, name: &str) -> Option<i64> {
    match arguments.get(name) {
        Some(ArgumentValue::Int(number)) => Some(*number),
        _ => None,
    }
}

impl From<&Topology> for Model {
    fn from(topology: &Topology) -> Self {
        let exchange = |it: &fluffle::amqp::Exchange| Exchange {
            name: it.name().to_owned(),
            kind: it.kind().to_string(),
            durable: it.is_durable(),
            auto_delete: it.is_auto_delete(),
            internal: it.is_internal(),
            arguments: it.arguments().clone(),
        };
        let queue = |it: &fluffle::amqp::Queue| Queue {
            name: it.name().to_owned(),
            durable: it.is_durable(),
            auto_delete: it.is_auto_delete(),
            exclusive: it.is_exclusive(),
            arguments: it.arguments(),
        };
        let bindings = |to: Place, bindings: &[LibraryBinding]| {
            let binding = |it: &LibraryBinding| Binding {
                source: it.exchange().to_owned(),
                to: to.clone(),
                key: it.key().to_owned(),
                arguments: it.arguments().clone(),
            };
            bindings.iter().map(binding).collect::<Vec<_>>()
        };
        let of_exchanges =
            topology.exchanges().flat_map(|it| bindings(Place::Exchange(it.name().into()), it.bindings()));
        let of_queues = topology.queues().flat_map(|it| bindings(Place::Queue(it.name().into()), it.bindings()));
        Self {
            exchanges: topology.exchanges().map(exchange).collect(),
            queues: topology.queues().map(queue).collect(),
            bindings: of_exchanges.chain(of_queues).collect(),
        }
    }
}
