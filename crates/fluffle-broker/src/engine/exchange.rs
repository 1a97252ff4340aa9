//! Exchanges: their declaration, and the bindings that each holds.

use std::{collections::HashMap, fmt, rc::Rc};

use super::{
    QueueKey, arguments,
    binding::{Binding, Destination},
    ring::Ring,
    table::Table,
};

/// How an exchange routes (AMQP 0-9-1 section 3.1.3, and RabbitMQ's `rabbitmq_consistent_hash_exchange`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    Direct,
    Fanout,
    Topic,
    Headers,
    ConsistentHash,
}

impl ExchangeKind {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            "x-consistent-hash" => Self::ConsistentHash,
            _ => return None,
        })
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
        })
    }
}

/// The declaration of an exchange.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeSpec {
    pub(crate) kind: ExchangeKind,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: Rc<str>,
    pub(crate) spec: ExchangeSpec,
    /// Bindings by key or pattern: a direct exchange needs one look-up, and a topic exchange tries each pattern once.
    pub(crate) bindings: HashMap<Rc<[u8]>, Vec<Binding>>,
    /// The numbered bindings of a consistent-hash exchange.
    pub(crate) ring: Ring,
    /// Cache of routes, valid for one generation of the topology.
    pub(crate) routes: HashMap<Rc<[u8]>, Rc<[QueueKey]>>,
    pub(crate) routes_generation: u64,
}

impl Exchange {
    pub(crate) fn new(name: Rc<str>, spec: ExchangeSpec) -> Self {
        Self {
            name,
            spec,
            bindings: HashMap::new(),
            ring: Ring::default(),
            routes: HashMap::new(),
            routes_generation: 0,
        }
    }

    pub(crate) fn alternate(&self) -> Option<Rc<str>> {
        arguments::text(&self.spec.arguments, "alternate-exchange").map(Rc::from)
    }

    /// Adds a binding. A second identical binding has no effect.
    pub(crate) fn bind(&mut self, key: &str, binding: Binding) {
        let known = self.bindings.entry(Rc::from(key.as_bytes())).or_default();
        if !known.iter().any(|other| other.destination == binding.destination && other.arguments == binding.arguments) {
            known.push(binding);
        }
    }

    /// Removes a binding. Returns whether there was one.
    pub(crate) fn unbind(&mut self, key: &str, destination: &Destination, arguments: &Table) -> bool {
        let Some(known) = self.bindings.get_mut(key.as_bytes()) else { return false };
        let before = known.len();
        known.retain(|binding| binding.destination != *destination || binding.arguments != *arguments);
        let removed = known.len() < before;
        if known.is_empty() {
            self.bindings.remove(key.as_bytes());
        }
        if removed {
            self.ring.remove(destination);
        }
        removed
    }

    /// Removes every binding to a destination. Returns whether there was one.
    pub(crate) fn forget(&mut self, destination: &Destination) -> bool {
        let mut removed = false;
        self.ring.remove(destination);
        self.bindings.retain(|_, known| {
            let before = known.len();
            known.retain(|binding| binding.destination != *destination);
            removed |= known.len() < before;
            !known.is_empty()
        });
        removed
    }
}
