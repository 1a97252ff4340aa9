//! Declares a topology on the broker.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    Channel, ExchangeKind as LapinExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};

use crate::{
    link::{
        bounded::{OperationError, bounded},
        refusal,
        sanitizer::Peer,
        since,
        unreached::Unreached,
    },
    topology::{
        ArgumentValue, Arguments, Binding, Entity, Exchange, ExchangeKind, Queue, QueueKind, Topology, TopologyError,
        TopologyErrorKind,
    },
};

/// How long the broker may take to answer the declaration of a queue that is there. The other queues wait meanwhile.
const EXISTING_LIMIT: Duration = Duration::from_secs(2);

/// Which part of a topology to declare.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Everything but exclusive queues, because an exclusive queue belongs to the connection that consumes from it, and
    /// but the queues of these names.
    Shared { without: &'a [String] },
    /// The queues of these names and their bindings, and nothing else.
    Queues(&'a [&'a str]),
}

/// Declares exchanges, then queues, then the bindings between exchanges, then the bindings of queues, on a channel of
/// its own, and closes that channel. Declaring an entity that exists with the same properties changes nothing.
///
/// On a refusal the broker closes the channel (AMQP 0-9-1, 1.2.1.1), and for an unknown exchange type the whole
/// connection: `open` must give channels that nothing else uses. The first error ends the declaration. The entities
/// that were declared before the error stay, and declaring again starts over.
///
/// Queues that [cannot be reached](TopologyErrorKind::Unreachable) are left out, and everything else is declared. The
/// result tells of them. If a durable classic queue is there, as `exists` says, and the broker does not answer for it
/// within [`EXISTING_LIMIT`], it counts as not reached, too: RabbitMQ 4.0 looks for the node of such a queue for a
/// minute before it says that the node is down.
///
/// `peer` is the broker: if it is too old for an argument of a queue, nothing is declared.
///
/// `limit` bounds each answer of the broker, the opening of the channel and its closing.
///
/// Cancellation: a caller may drop this future and declare again.
pub(crate) async fn declare(
    topology: &Topology,
    open: impl AsyncFn() -> Result<Channel, lapin::Error>,
    scope: Scope<'_>,
    peer: Option<&Peer>,
    exists: impl Fn(&str) -> bool,
    limit: Duration,
) -> Result<Vec<Unreached>, TopologyError> {
    let queues = queues_in_scope(topology, scope)?;
    match scope {
        Scope::Shared { .. } => topology.validate()?,
        Scope::Queues(_) => topology.validate_queues(&queues)?,
    }
    queues.iter().try_for_each(|queue| since::check(queue, peer))?;
    let exchanges: Vec<&Exchange> = match scope {
        Scope::Shared { .. } => topology.exchanges().collect(),
        Scope::Queues(_) => Vec::new(),
    };
    let open = async || bounded(limit, open()).await.map_err(|error| failed(None, error));
    let mut declaration = Declaration { channel: open().await?, limit };
    for exchange in &exchanges {
        declaration.exchange(exchange).await?;
    }
    let (mut reached, mut unreached) = (Vec::with_capacity(queues.len()), Vec::new());
    for queue in &queues {
        let may_be_away = lives_on_one_node(queue) && exists(queue.name());
        declaration.limit = if may_be_away { limit.min(EXISTING_LIMIT) } else { limit };
        let declared = declaration.queue(queue).await;
        declaration.limit = limit;
        match declared.map_err(|error| unreached_if(may_be_away, error)) {
            Ok(()) => reached.push(queue),
            Err(error) => {
                unreached.push(Unreached::new(queue, error)?);
                declaration.channel = open().await?;
            }
        }
    }
    for exchange in &exchanges {
        for binding in exchange.bindings() {
            declaration.exchange_binding(exchange, binding).await?;
        }
    }
    for queue in reached {
        if let Err(error) = declaration.bindings(queue).await {
            unreached.push(Unreached::new(queue, error)?);
            declaration.channel = open().await?;
        }
    }
    let closed = bounded(limit, declaration.channel.close(200, "topology declared".into())).await;
    closed.map_err(|error| failed(None, error))?;
    let not_reached = unreached.len();
    tracing::debug!(exchanges = exchanges.len(), queues = queues.len(), not_reached, "topology declared");
    Ok(unreached)
}

fn queues_in_scope<'a>(topology: &'a Topology, scope: Scope<'_>) -> Result<Vec<&'a Queue>, TopologyError> {
    match scope {
        Scope::Shared { without } => {
            let is_left_out = |queue: &&Queue| queue.is_exclusive() || without.iter().any(|name| name == queue.name());
            Ok(topology.queues().filter(|queue| !is_left_out(queue)).collect())
        }
        Scope::Queues(names) => names.iter().map(|name| named(topology, name)).collect(),
    }
}

fn named<'a>(topology: &'a Topology, name: &str) -> Result<&'a Queue, TopologyError> {
    topology.find_queue(name).ok_or_else(|| {
        let problem = "it is not in the topology: add it there, or correct the name";
        TopologyError::invalid(Entity::Queue(name.to_owned()), problem)
    })
}

/// The channel of one declaration, and the limit for each answer of the broker.
struct Declaration {
    channel: Channel,
    limit: Duration,
}

impl Declaration {
    async fn exchange(&self, exchange: &Exchange) -> Result<(), TopologyError> {
        let entity = exchange.entity();
        let options = ExchangeDeclareOptions {
            passive: false,
            durable: exchange.is_durable(),
            auto_delete: exchange.is_auto_delete(),
            internal: exchange.is_internal(),
            nowait: false,
        };
        let name = short(&entity, exchange.name())?;
        let arguments = fields(&entity, exchange.arguments())?;
        let kind = lapin_kind(exchange.kind());
        let declared = self.channel.exchange_declare(name, kind, options, arguments);
        bounded(self.limit, declared).await.map_err(|error| failed(Some(entity), error))
    }

    async fn queue(&self, queue: &Queue) -> Result<(), TopologyError> {
        let entity = queue.entity();
        let options = QueueDeclareOptions {
            passive: false,
            durable: queue.is_durable(),
            exclusive: queue.is_exclusive(),
            auto_delete: queue.is_auto_delete(),
            nowait: false,
        };
        let name = short(&entity, queue.name())?;
        let arguments = fields(&entity, &queue.arguments())?;
        let declared = self.channel.queue_declare(name, options, arguments);
        bounded(self.limit, declared).await.map(drop).map_err(|error| failed(Some(entity), error))
    }

    async fn exchange_binding(&self, exchange: &Exchange, binding: &Binding) -> Result<(), TopologyError> {
        let entity = binding.entity(exchange.entity());
        let (destination, source) = (short(&entity, exchange.name())?, short(&entity, binding.exchange())?);
        let key = short(&entity, binding.key())?;
        let arguments = fields(&entity, binding.arguments())?;
        let options = ExchangeBindOptions::default();
        let bound = self.channel.exchange_bind(destination, source, key, options, arguments);
        bounded(self.limit, bound).await.map_err(|error| failed(Some(entity), error))
    }

    async fn bindings(&self, queue: &Queue) -> Result<(), TopologyError> {
        for binding in queue.bindings() {
            self.queue_binding(queue, binding).await?;
        }
        Ok(())
    }

    async fn queue_binding(&self, queue: &Queue, binding: &Binding) -> Result<(), TopologyError> {
        let entity = binding.entity(queue.entity());
        let (queue, exchange) = (short(&entity, queue.name())?, short(&entity, binding.exchange())?);
        let key = short(&entity, binding.key())?;
        let arguments = fields(&entity, binding.arguments())?;
        let options = QueueBindOptions::default();
        let bound = self.channel.queue_bind(queue, exchange, key, options, arguments);
        bounded(self.limit, bound).await.map_err(|error| failed(Some(entity), error))
    }
}

/// Whether the queue is on one node and stays there while the node is down. Any other queue is declared before its
/// connection is up, however long that takes: if it is gone with its bindings, what is published then would miss it.
fn lives_on_one_node(queue: &Queue) -> bool {
    queue.kind() == QueueKind::Classic && queue.is_durable() && !queue.is_auto_delete()
}

/// An unanswered declaration of a queue whose node may be down says that the queue cannot be reached.
fn unreached_if(may_be_away: bool, error: TopologyError) -> TopologyError {
    match error.kind() {
        TopologyErrorKind::Timeout { entity: Some(entity), limit } if may_be_away => {
            let text = format!("the broker did not answer its declaration within {limit:?}");
            TopologyError::new(TopologyErrorKind::Unreachable { entity: entity.clone(), node: None, text })
        }
        _ => error,
    }
}

/// The error of one operation on `entity`; `None` stands for the channel itself.
fn failed(entity: Option<Entity>, error: OperationError) -> TopologyError {
    match (error, entity) {
        (OperationError::Failed(error), Some(entity)) => refusal::read(entity, error),
        (OperationError::Failed(error), None) => {
            TopologyError::with_source(TopologyErrorKind::Connection { entity: None }, error)
        }
        (OperationError::Unanswered(limit), entity) => TopologyError::new(TopologyErrorKind::Timeout { entity, limit }),
    }
}

/// A name or key as AMQP's short string. lapin's `From` conversion panics if the text has more than 255 bytes; this
/// gives an error.
fn short(entity: &Entity, text: &str) -> Result<ShortString, TopologyError> {
    ShortString::try_new(text).map_err(|error| TopologyError::invalid(entity.clone(), error.to_string()))
}

/// The arguments of `entity` as lapin sends them.
fn fields(entity: &Entity, arguments: &Arguments) -> Result<FieldTable, TopologyError> {
    table(arguments).map_err(|problem| TopologyError::invalid(entity.clone(), problem))
}

/// Arguments as lapin sends them. The error says which name is too long for AMQP.
pub(crate) fn table(values: &BTreeMap<String, ArgumentValue>) -> Result<FieldTable, String> {
    let mut table = FieldTable::default();
    for (name, value) in values {
        let name = ShortString::try_new(name.as_str()).map_err(|error| error.to_string())?;
        table.insert(name, field(value)?);
    }
    Ok(table)
}

fn field(value: &ArgumentValue) -> Result<AMQPValue, String> {
    Ok(match value {
        ArgumentValue::Bool(value) => AMQPValue::Boolean(*value),
        ArgumentValue::Int(value) => AMQPValue::LongLongInt(*value),
        ArgumentValue::Float(value) => AMQPValue::Double(*value),
        ArgumentValue::Text(value) => AMQPValue::LongString(value.as_str().into()),
        ArgumentValue::List(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(field).collect();
            AMQPValue::FieldArray(FieldArray::from(values?))
        }
        ArgumentValue::Table(values) => AMQPValue::FieldTable(table(values)?),
    })
}

fn lapin_kind(kind: &ExchangeKind) -> LapinExchangeKind {
    match kind {
        ExchangeKind::Direct => LapinExchangeKind::Direct,
        ExchangeKind::Fanout => LapinExchangeKind::Fanout,
        ExchangeKind::Topic => LapinExchangeKind::Topic,
        ExchangeKind::Headers => LapinExchangeKind::Headers,
        ExchangeKind::ConsistentHash => LapinExchangeKind::Custom(kind.to_string()),
        ExchangeKind::Custom(name) => LapinExchangeKind::Custom(name.clone()),
    }
}

// Beside the other tests, but part of the crate, because these tests name lapin's types, which are not in the public
// API.
#[cfg(test)]
#[path = "../../tests/topology_broker/mod.rs"]
mod broker_tests;
