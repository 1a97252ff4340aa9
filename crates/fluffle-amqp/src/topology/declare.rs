//! Makes a topology exist on the broker.

use std::future::Future;
use std::time::Duration;

use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind as LapinExchangeKind};

use crate::topology::Topology;
use crate::topology::argument::{self, Arguments};
use crate::topology::binding::Binding;
use crate::topology::error::{Entity, TopologyError, TopologyErrorKind};
use crate::topology::exchange::{Exchange, ExchangeKind};
use crate::topology::queue::Queue;
use crate::topology::refusal;

/// What part of a topology to declare.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// Everything but exclusive queues: those belong to the connection that consumes them.
    Shared,
    /// The queues of these names and their bindings, nothing else.
    Exclusive(&'a [&'a str]),
}

impl Topology {
    /// Declares exchanges, then queues, then the bindings between exchanges, then those of queues, on
    /// a channel of its own, and closes it. Declaring what exists alike changes nothing.
    ///
    /// The broker closes the channel on the first refusal (AMQP 0-9-1, 1.2.1.1), and the whole
    /// connection for an unknown exchange type: `open` must not hand out a channel that others use.
    /// The first error ends the declaration; what was declared before it stays, and declaring again
    /// starts over. So may a caller that drops this future.
    ///
    /// `limit` bounds each answer of the broker, and the opening and closing of the channel.
    pub(crate) async fn declare(
        &self,
        open: impl AsyncFnOnce() -> Result<Channel, lapin::Error>,
        scope: Scope<'_>,
        limit: Duration,
    ) -> Result<(), TopologyError> {
        self.validate()?;
        let queues = self.in_scope(scope)?;
        let exchanges = match scope {
            Scope::Shared => self.exchanges.as_slice(),
            Scope::Exclusive(_) => &[],
        };
        let channel = bounded(limit, None, open()).await?;
        let declaration = Declaration { channel: &channel, limit };
        for exchange in exchanges {
            declaration.exchange(exchange).await?;
        }
        for queue in &queues {
            declaration.queue(queue).await?;
        }
        for exchange in exchanges {
            for binding in exchange.bindings() {
                declaration.exchange_binding(exchange.name(), binding).await?;
            }
        }
        for queue in &queues {
            for binding in queue.bindings() {
                declaration.queue_binding(queue.name(), binding).await?;
            }
        }
        bounded(limit, None, channel.close(200, "topology declared".into())).await?;
        tracing::debug!(exchanges = exchanges.len(), queues = queues.len(), "topology declared");
        Ok(())
    }

    fn in_scope(&self, scope: Scope<'_>) -> Result<Vec<&Queue>, TopologyError> {
        match scope {
            Scope::Shared => Ok(self.queues().filter(|queue| !queue.is_exclusive()).collect()),
            Scope::Exclusive(names) => names.iter().map(|name| self.named(name)).collect(),
        }
    }

    fn named(&self, name: &str) -> Result<&Queue, TopologyError> {
        self.find_queue(name).ok_or_else(|| {
            let problem = "it is not in the topology: add it there, or correct the name";
            TopologyError::invalid(Entity::Queue(name.to_owned()), problem)
        })
    }
}

/// The channel of one declaration, and how long it waits for each answer.
struct Declaration<'a> {
    channel: &'a Channel,
    limit: Duration,
}

impl Declaration<'_> {
    async fn exchange(&self, exchange: &Exchange) -> Result<(), TopologyError> {
        let entity = Entity::Exchange(exchange.name().to_owned());
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
        bounded(self.limit, Some(entity), declared).await
    }

    async fn queue(&self, queue: &Queue) -> Result<(), TopologyError> {
        let entity = Entity::Queue(queue.name().to_owned());
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
        bounded(self.limit, Some(entity), declared).await.map(drop)
    }

    async fn exchange_binding(&self, name: &str, binding: &Binding) -> Result<(), TopologyError> {
        let entity = binding.entity(Entity::Exchange(name.to_owned()));
        let (destination, source) = (short(&entity, name)?, short(&entity, binding.exchange())?);
        let key = short(&entity, binding.key())?;
        let arguments = fields(&entity, binding.arguments())?;
        let options = ExchangeBindOptions::default();
        let bound = self.channel.exchange_bind(destination, source, key, options, arguments);
        bounded(self.limit, Some(entity), bound).await
    }

    async fn queue_binding(&self, name: &str, binding: &Binding) -> Result<(), TopologyError> {
        let entity = binding.entity(Entity::Queue(name.to_owned()));
        let (queue, exchange) = (short(&entity, name)?, short(&entity, binding.exchange())?);
        let key = short(&entity, binding.key())?;
        let arguments = fields(&entity, binding.arguments())?;
        let options = QueueBindOptions::default();
        let bound = self.channel.queue_bind(queue, exchange, key, options, arguments);
        bounded(self.limit, Some(entity), bound).await
    }
}

/// Waits for one answer. `entity` is what it is about, none for the channel itself.
async fn bounded<T>(
    limit: Duration,
    entity: Option<Entity>,
    answer: impl Future<Output = Result<T, lapin::Error>>,
) -> Result<T, TopologyError> {
    match (tokio::time::timeout(limit, answer).await, entity) {
        (Ok(Ok(answer)), _) => Ok(answer),
        (Ok(Err(error)), Some(entity)) => Err(refusal::read(entity, error)),
        (Ok(Err(error)), None) => {
            Err(TopologyError::with_source(TopologyErrorKind::Connection { entity: None }, error))
        }
        (Err(_), entity) => Err(TopologyError::new(TopologyErrorKind::Timeout { entity, limit })),
    }
}

/// lapin's own conversion panics on a name that is too long.
fn short(entity: &Entity, text: &str) -> Result<ShortString, TopologyError> {
    ShortString::try_new(text).map_err(|error| TopologyError::invalid(entity.clone(), error.to_string()))
}

fn fields(entity: &Entity, arguments: &Arguments) -> Result<FieldTable, TopologyError> {
    argument::fields(arguments).map_err(|problem| TopologyError::invalid(entity.clone(), problem))
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
