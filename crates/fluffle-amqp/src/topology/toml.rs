//! Topologies in TOML.

use std::io::Read;
use std::path::Path;

use toml::{Spanned, Table, Value};

use crate::base::written::DurationText;
use crate::topology::error::{Entity, TopologyError, TopologyErrorKind};
use crate::topology::exchange::{Exchange, ExchangeKind};
use crate::topology::queue::Queue;
use crate::topology::toml_values::{
    ArgumentToml, ArgumentsToml, BindingToml, DeadLetterTarget, DeadLetterToml, LeaderLocatorToml, OverflowToml,
};
use crate::topology::topology::Topology;

/// The largest file, in bytes. A topology is a few pages long, so a larger file is not a topology.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

impl Topology {
    /// Reads a topology from TOML. A property that is left out has RabbitMQ's default, except `durable`, which is true
    /// by default.
    ///
    /// ```
    /// let text = r#"
    ///     [[exchange]]
    ///     name = "orders"
    ///     type = "topic"              # direct, fanout, topic, headers, or a plugin's "x-…"
    ///     alternate = "unrouted"      # also: durable, auto_delete, internal, arguments
    ///
    ///     [[queue]]
    ///     name = "orders.eu"
    ///     type = "quorum"             # classic, quorum, stream, or temporary: then name is a prefix
    ///     dead_letter = true          # or { exchange = "graveyard", key = "orders" }
    ///     message_ttl = "30s"         # durations: "500ms", "30s", "5m", "2h", "1d"
    ///     max_length = 100_000
    ///     overflow = "reject-publish" # or "drop-head", "reject-publish-dlx"
    ///     leader_locator = "balanced" # or "client-local"
    ///     arguments = { x-quorum-initial-group-size = 3 }
    ///
    ///     [[queue.binding]]           # [[exchange.binding]] binds an exchange to another
    ///     exchange = "orders"
    ///     key = "eu.#"
    ///
    ///     [[queue.binding]]
    ///     exchange = "amq.headers"
    ///     match = "any"               # or "all"
    ///     headers = { region = "eu", urgent = true }
    /// "#;
    /// let topology = fluffle_amqp::Topology::from_toml(text)?;
    /// assert_eq!(topology.queues().len(), 2); // orders.eu and orders.eu.dead
    /// # Ok::<(), fluffle_amqp::TopologyError>(())
    /// ```
    ///
    /// The other keys of a queue have the names of [`Queue`]'s setters: `durable`, `exclusive`, `auto_delete`,
    /// `expires`, `max_bytes`, `max_priority`, `consumer_timeout`, `single_active_consumer`, `delivery_limit`,
    /// `max_age`.
    ///
    /// # Errors
    ///
    /// [`TopologyErrorKind::Toml`], with line and entity if they are known, if the text is not TOML, a value does not
    /// fit or a key is unknown (the error lists the known keys); and the errors of [`Topology::validate`].
    pub fn from_toml(text: &str) -> Result<Self, TopologyError> {
        let topology = read(text)?;
        topology.validate()?;
        Ok(topology)
    }

    /// Reads a topology from a TOML file of at most 1 MiB, as [`Topology::from_toml`] does. Blocks the thread while it
    /// reads.
    ///
    /// # Errors
    ///
    /// As [`Topology::from_toml`], with the name of the file; also if the file cannot be read or is too large.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self, TopologyError> {
        let path = path.as_ref();
        let text = read_file(path).map_err(|problem| error(Some(path), None, None, problem))?;
        let topology = read(&text).map_err(|error| error.in_file(path))?;
        topology.validate()?;
        Ok(topology)
    }
}

/// Reads the text; the caller validates the topology.
fn read(text: &str) -> Result<Topology, TopologyError> {
    let file: File = ::toml::from_str(text).map_err(|problem| located(text, &problem))?;
    let exchanges = file.exchange.into_iter().map(ExchangeToml::into_exchange);
    let queues = file.queue.into_iter().map(QueueToml::into_queue);
    let topology = exchanges.fold(Topology::new(), Topology::exchange);
    Ok(queues.fold(topology, Topology::queue))
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    match read {
        Err(error) => Err(error.to_string()),
        Ok(bytes) if bytes as u64 > MAX_FILE_BYTES => {
            Err(format!("it has more than {MAX_FILE_BYTES} bytes, the limit for a topology: is it another file?"))
        }
        Ok(_) => Ok(text),
    }
}

/// Adds the line, and the exchange or queue that it belongs to, to the parser's error.
fn located(text: &str, problem: &::toml::de::Error) -> TopologyError {
    let span = problem.span();
    let line = span.as_ref().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
    let entity = span.and_then(|span| entity_at(text, span.start));
    error(None, line, entity, problem.message().to_owned())
}

/// The last exchange or queue that begins at or before this offset of the text.
fn entity_at(text: &str, offset: usize) -> Option<Entity> {
    let outline: Outline = ::toml::from_str(text).ok()?;
    let exchanges = outline.exchange.into_iter().map(|it| (it, Entity::Exchange as fn(String) -> Entity));
    let queues = outline.queue.into_iter().map(|it| (it, Entity::Queue as fn(String) -> Entity));
    let before = exchanges.chain(queues).filter(|(table, _)| table.span().start <= offset);
    let (table, entity) = before.max_by_key(|(table, _)| table.span().start)?;
    let name = table.as_ref().get("name").and_then(Value::as_str).unwrap_or("(without a name)");
    Some(entity(name.to_owned()))
}

fn error(file: Option<&Path>, line: Option<usize>, entity: Option<Entity>, problem: String) -> TopologyError {
    let file = file.map(Path::to_owned);
    TopologyError::new(TopologyErrorKind::Toml { file, line, entity, problem })
}

/// The parts of the file that tell which exchange or queue a line belongs to.
#[derive(serde::Deserialize)]
struct Outline {
    #[serde(default)]
    exchange: Vec<Spanned<Table>>,
    #[serde(default)]
    queue: Vec<Spanned<Table>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exchange: Vec<ExchangeToml>,
    #[serde(default)]
    queue: Vec<QueueToml>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeToml {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    alternate: Option<String>,
    #[serde(default)]
    arguments: ArgumentsToml,
    #[serde(default)]
    binding: Vec<BindingToml>,
}

impl ExchangeToml {
    fn into_exchange(self) -> Exchange {
        let mut exchange = Exchange::of(ExchangeKind::from_name(&self.kind), self.name);
        exchange = if self.durable { exchange } else { exchange.transient() };
        exchange = if self.auto_delete { exchange.auto_delete() } else { exchange };
        exchange = if self.internal { exchange.internal() } else { exchange };
        exchange = set(exchange, self.alternate, Exchange::alternate);
        for (name, ArgumentToml(value)) in self.arguments {
            exchange = exchange.argument(name, value);
        }
        self.binding.into_iter().fold(exchange, |exchange, BindingToml(binding)| exchange.bound(binding))
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueToml {
    name: String,
    #[serde(rename = "type")]
    kind: KindToml,
    durable: Option<bool>,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    auto_delete: bool,
    message_ttl: Option<DurationText>,
    expires: Option<DurationText>,
    max_length: Option<u64>,
    max_bytes: Option<u64>,
    overflow: Option<OverflowToml>,
    leader_locator: Option<LeaderLocatorToml>,
    dead_letter: Option<DeadLetterToml>,
    max_priority: Option<u8>,
    consumer_timeout: Option<DurationText>,
    #[serde(default)]
    single_active_consumer: bool,
    delivery_limit: Option<u32>,
    max_age: Option<DurationText>,
    segment_bytes: Option<u64>,
    #[serde(default)]
    arguments: ArgumentsToml,
    #[serde(default)]
    binding: Vec<BindingToml>,
}

impl QueueToml {
    fn into_queue(self) -> Queue {
        let mut queue = match self.kind {
            KindToml::Classic => Queue::classic(self.name),
            KindToml::Quorum => Queue::quorum(self.name),
            KindToml::Stream => Queue::stream(self.name),
            KindToml::Temporary => Queue::temporary(self.name),
        };
        if let Some(durable) = self.durable {
            queue.set_durable(durable);
        }
        queue = if self.exclusive { queue.exclusive() } else { queue };
        queue = if self.auto_delete { queue.auto_delete() } else { queue };
        queue = if self.single_active_consumer { queue.single_active_consumer() } else { queue };
        queue = set(queue, self.message_ttl, |queue, ttl| queue.message_ttl(ttl.0));
        queue = set(queue, self.expires, |queue, after| queue.expires(after.0));
        queue = set(queue, self.max_length, Queue::max_length);
        queue = set(queue, self.max_bytes, Queue::max_bytes);
        queue = set(queue, self.overflow, |queue, overflow| queue.overflow(overflow.into()));
        queue = set(queue, self.leader_locator, |queue, locator| queue.leader_locator(locator.into()));
        queue = set(queue, self.max_priority, Queue::max_priority);
        queue = set(queue, self.consumer_timeout, |queue, timeout| queue.consumer_timeout(timeout.0));
        queue = set(queue, self.delivery_limit, Queue::delivery_limit);
        queue = set(queue, self.max_age, |queue, age| queue.max_age(age.0));
        queue = set(queue, self.segment_bytes, Queue::segment_bytes);
        queue = match self.dead_letter {
            Some(DeadLetterToml::Own(true)) => queue.dead_letter(),
            Some(DeadLetterToml::To(DeadLetterTarget { exchange, key })) => queue.dead_letter_to(exchange, key),
            Some(DeadLetterToml::Own(false)) | None => queue,
        };
        for (name, ArgumentToml(value)) in self.arguments {
            queue = queue.argument(name, value);
        }
        self.binding.into_iter().fold(queue, |queue, BindingToml(binding)| queue.bound(binding))
    }
}

fn set<E, V>(entity: E, value: Option<V>, setter: impl FnOnce(E, V) -> E) -> E {
    match value {
        Some(value) => setter(entity, value),
        None => entity,
    }
}

fn yes() -> bool {
    true
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindToml {
    Classic,
    Quorum,
    Stream,
    Temporary,
}
