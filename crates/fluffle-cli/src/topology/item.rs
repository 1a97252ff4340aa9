//! One line of a plan: an exchange, a queue or a binding, and what is to be done about it.

use serde::{Deserialize, Serialize};

use crate::topology::model::{Binding, Place};

/// What an item is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entity {
    Exchange { name: String },
    Queue { name: String },
    Binding { from: String, to: String, to_kind: ToKind, key: String, headers: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToKind {
    Exchange,
    Queue,
}

impl From<&Place> for Entity {
    fn from(place: &Place) -> Self {
        match place.clone() {
            Place::Exchange(name) => Self::Exchange { name },
            Place::Queue(name) => Self::Queue { name },
        }
    }
}

impl From<&Binding> for Entity {
    fn from(binding: &Binding) -> Self {
        Self::Binding {
            from: binding.source.clone(),
            to: binding.to.name().to_owned(),
            to_kind: if matches!(binding.to, Place::Queue(_)) { ToKind::Queue } else { ToKind::Exchange },
            key: binding.key.clone(),
            headers: binding.headers(),
        }
    }
}

impl Entity {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Exchange { .. } => "exchange",
            Self::Queue { .. } => "queue",
            Self::Binding { .. } => "binding",
        }
    }

    /// The name; a binding's is `from -> to [key]`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Exchange { name } | Self::Queue { name } => name.clone(),
            Self::Binding { from, to, key, headers, .. } => {
                let label = match (key.is_empty(), headers.is_empty()) {
                    (_, true) => key.clone(),
                    (true, false) => headers.clone(),
                    (false, false) => format!("{key} {headers}"),
                };
                format!("{from} -> {to} [{label}]")
            }
        }
    }
}

/// What is to be done. The names are those of `--json`, and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It differs, and the queue is in use: nobody must replace it before its messages are elsewhere.
    Refused,
    /// It differs in a way that no policy can give: a new queue or exchange is needed.
    New,
    /// A policy can give what the file asks for.
    Policy,
    /// Whether it exists or is equal cannot be known.
    Unknown,
    /// It is missing; `apply` creates it.
    Create,
    /// A binding that may be there. `apply` binds, which changes nothing if it is.
    Bind,
    /// A queue that each process of the service makes for itself.
    Skipped,
    Unchanged,
}

impl Status {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::New => "needs a new one",
            Self::Policy => "by policy",
            Self::Unknown => "unknown",
            Self::Create => "create",
            Self::Bind => "bind",
            Self::Skipped => "not planned",
            Self::Unchanged => "unchanged",
        }
    }

    /// Whether `apply` does it.
    pub(crate) fn is_applied(self) -> bool {
        matches!(self, Self::Create | Self::Bind)
    }

    /// Whether a person has to settle it before `apply` starts.
    pub(crate) fn is_by_hand(self) -> bool {
        matches!(self, Self::Refused | Self::New | Self::Policy | Self::Unknown)
    }
}

/// How a finding is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Known {
    /// The broker's answers over AMQP prove it.
    Amqp,
    /// The management API says so.
    Api,
    /// It cannot be known, the `why` says for which reason.
    Unknown,
}

impl Known {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Amqp => "proved over AMQP",
            Self::Api => "told by the API",
            Self::Unknown => "cannot be known",
        }
    }
}

/// A property in which the broker's entity differs from the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    pub(crate) argument: String,
    /// What the file asks for; `None`: it leaves the argument out.
    pub(crate) wanted: Option<String>,
    /// What is on the broker; `None`: it is without the argument.
    pub(crate) existing: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    #[serde(flatten)]
    pub(crate) entity: Entity,
    pub(crate) status: Status,
    pub(crate) known: Known,
    pub(crate) differences: Vec<Difference>,
    /// Messages that are ready; with the management API also those that consumers have not acknowledged.
    pub(crate) messages: Option<u64>,
    pub(crate) consumers: Option<u64>,
    /// The reason, in a sentence; empty if the status says it all.
    pub(crate) why: String,
    /// What a person does, in order.
    pub(crate) steps: Vec<String>,
}

impl Item {
    pub(crate) fn new(entity: impl Into<Entity>, status: Status, known: Known) -> Self {
        Self {
            entity: entity.into(),
            status,
            known,
            differences: Vec::new(),
            messages: None,
            consumers: None,
            why: String::new(),
            steps: Vec::new(),
        }
    }

    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }
}
