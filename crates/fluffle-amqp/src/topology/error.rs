//! The errors of a topology, and what to do about each.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The entity that an error is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Entity {
    /// An exchange, by name.
    Exchange(String),
    /// A queue, by name.
    Queue(String),
    /// A binding, by its ends and its key.
    Binding {
        /// The exchange that messages come from.
        exchange: String,
        /// The queue or exchange that messages go to: [`Entity::Queue`] or [`Entity::Exchange`].
        destination: Box<Entity>,
        /// The binding key; empty for a binding by headers.
        key: String,
    },
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(name) => write!(f, "exchange {name:?}"),
            Self::Queue(name) => write!(f, "queue {name:?}"),
            Self::Binding { exchange, destination, key } => {
                write!(f, "binding of {destination} to exchange {exchange:?} with key {key:?}")
            }
        }
    }
}

/// The first property in which the entity on the broker differs from the declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The property or argument, as the broker names it: `durable`, `type`, `x-message-ttl`…
    pub argument: String,
    /// The value that this application declares; `None` if it leaves the argument out.
    pub declared: Option<String>,
    /// The value on the broker; `None` if the entity there is without the argument.
    pub existing: Option<String>,
}

/// Why a topology cannot be read, is invalid, or could not be declared.
///
/// ```
/// use fluffle_amqp::{Queue, Topology, TopologyErrorKind};
///
/// let error = Topology::new().queue(Queue::quorum("jobs").exclusive()).validate().unwrap_err();
/// assert!(matches!(error.kind(), TopologyErrorKind::Invalid { .. }));
/// assert!(error.is_permanent());
/// assert_eq!(
///     error.to_string(),
///     "queue \"jobs\": a quorum queue cannot be exclusive: make it classic, or remove that property"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct TopologyError(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    kind: TopologyErrorKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl Error for TopologyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The kinds of [`TopologyError`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TopologyErrorKind {
    /// The entity exists with other properties than this application declares (406 PRECONDITION_FAILED). Permanent.
    Conflict {
        /// The exchange or queue.
        entity: Entity,
        /// The difference; `None` if the broker's text could not be parsed.
        difference: Option<Difference>,
        /// The broker's text.
        text: String,
    },
    /// A binding names something that does not exist (404 NOT_FOUND). Permanent.
    NotFound {
        /// The missing end of the binding; `None` if the broker's text could not be parsed.
        missing: Option<Entity>,
        /// The binding that names it.
        referenced_by: Entity,
    },
    /// The user lacks a permission (403 ACCESS_REFUSED). Permanent.
    AccessRefused {
        /// The entity that was being declared.
        entity: Entity,
        /// The broker's text.
        text: String,
    },
    /// Another connection holds the exclusive queue (405 RESOURCE_LOCKED). Transient: after a connection is lost, the
    /// broker may need some time to notice it and to release the queue.
    Locked {
        /// The queue, or its binding.
        entity: Entity,
    },
    /// The description is invalid, or the broker refuses it whatever exists. Permanent.
    Invalid {
        /// The invalid entity.
        entity: Entity,
        /// The reason, and what to do.
        problem: String,
    },
    /// The TOML text could not be read as a topology. Permanent.
    Toml {
        /// The file, if the text came from a file.
        file: Option<PathBuf>,
        /// The line, counted from 1, if it is known.
        line: Option<usize>,
        /// The exchange or queue that the line belongs to, if it is known.
        entity: Option<Entity>,
        /// What is wrong there.
        problem: String,
    },
    /// The broker did not answer in time. Transient.
    Timeout {
        /// What was being declared; `None` while the channel was being opened or closed.
        entity: Option<Entity>,
        /// The limit for this one answer.
        limit: Duration,
    },
    /// The queue exists, and the node of the cluster that holds it is down (404). Transient: nothing else of the
    /// topology is affected, and the queue is declared again until it can be reached.
    ///
    /// A quorum queue goes on without one of its nodes; a classic queue has only one (RabbitMQ, "Clustering Guide").
    Unreachable {
        /// The queue, or a binding of it.
        entity: Entity,
        /// The node, if the broker's text could be parsed.
        node: Option<String>,
        /// The broker's text, or that it did not answer.
        text: String,
    },
    /// The channel or the connection failed for a reason that may pass; see [`source`](std::error::Error::source).
    /// Transient.
    Connection {
        /// What was being declared; `None` while the channel was being opened or closed.
        entity: Option<Entity>,
    },
}

impl TopologyError {
    pub(crate) fn new(kind: TopologyErrorKind) -> Self {
        Self(Box::new(Details { kind, source: None }))
    }

    /// An error with a cause, which is an error of the client or the network.
    pub(crate) fn with_source(kind: TopologyErrorKind, source: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(Details { kind, source: Some(Arc::new(source)) }))
    }

    pub(crate) fn invalid(entity: Entity, problem: impl Into<String>) -> Self {
        Self::new(TopologyErrorKind::Invalid { entity, problem: problem.into() })
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        if let TopologyErrorKind::Toml { file, .. } = &mut self.0.kind {
            *file = Some(path.to_owned());
        }
        self
    }

    /// The kind of the error, with the entity that it is about.
    #[must_use]
    pub fn kind(&self) -> &TopologyErrorKind {
        &self.0.kind
    }

    /// Whether declaring again fails until someone changes the description or the broker.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        use TopologyErrorKind as Kind;
        match self.kind() {
            Kind::Conflict { .. }
            | Kind::NotFound { .. }
            | Kind::AccessRefused { .. }
            | Kind::Invalid { .. }
            | Kind::Toml { .. } => true,
            Kind::Locked { .. } | Kind::Timeout { .. } | Kind::Unreachable { .. } | Kind::Connection { .. } => false,
        }
    }
}

impl fmt::Display for TopologyErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { entity, difference: Some(difference), .. } => write!(
                f,
                "{entity} exists with {}, this application declares {} (406): delete or rename it, or \
                 declare it as it is",
                Set(&difference.argument, difference.existing.as_deref()),
                Set(&difference.argument, difference.declared.as_deref()),
            ),
            Self::Conflict { entity, difference: None, text } => write!(
                f,
                "{entity} exists and differs from what this application declares (406): {text}; \
                 delete or rename it, or declare it as it is"
            ),
            Self::NotFound { missing, referenced_by } => {
                match missing {
                    Some(missing) => write!(f, "{referenced_by}: there is no {missing} on the broker")?,
                    None => write!(f, "{referenced_by}: one of its ends is not on the broker")?,
                }
                write!(f, " (404): correct the name, or add it to the topology")
            }
            Self::AccessRefused { entity, text } => write!(
                f,
                "{entity}: the broker refuses access (403): {text}; give the user configure \
                 permission on it, and for bindings write on the destination and read on the source"
            ),
            Self::Locked { entity } => write!(
                f,
                "{entity}: another connection holds the queue exclusively, or the queue exists and is not \
                 exclusive as declared here (405): wait until that connection is gone, or declare the queue as it is"
            ),
            Self::Invalid { entity, problem } => write!(f, "{entity}: {problem}"),
            Self::Toml { file, line, entity, problem } => {
                match file {
                    Some(file) => write!(f, "topology in {}", file.display())?,
                    None => write!(f, "topology")?,
                }
                if let Some(line) = line {
                    write!(f, ", line {line}")?;
                }
                if let Some(entity) = entity {
                    write!(f, ", {entity}")?;
                }
                write!(f, ": {problem}")
            }
            Self::Timeout { entity: Some(entity), limit } => {
                write!(f, "{entity}: the broker did not answer its declaration within {limit:?}")
            }
            Self::Timeout { entity: None, limit } => {
                write!(f, "topology: the broker did not open or close a channel within {limit:?}")
            }
            Self::Unreachable { entity, node: Some(node), .. } => {
                write!(f, "{entity} cannot be reached, because its node {node} is down (404): start that node")
            }
            Self::Unreachable { entity, node: None, text } => {
                write!(f, "{entity} cannot be reached, because its node is down: {text}; start that node")
            }
            Self::Connection { entity: Some(entity) } => {
                write!(f, "{entity}: the connection failed before it was declared")
            }
            Self::Connection { entity: None } => {
                write!(f, "topology: no channel to declare it on")
            }
        }
    }
}

/// Displays an argument with its value, or that it is absent.
struct Set<'a>(&'a str, Option<&'a str>);

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(argument, value) = self;
        match value {
            Some(value) => write!(f, "{argument} = {value}"),
            None => write!(f, "no {argument}"),
        }
    }
}
