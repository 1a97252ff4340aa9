//! RabbitMQ's definitions, as JSON: from `rabbitmqctl export_definitions`, the management API or a file for
//! `load_definitions`. See <https://www.rabbitmq.com/docs/definitions>.

use std::collections::BTreeSet;

use fluffle::amqp::ArgumentValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    common::failure::Failure,
    topology::model::{Arguments, Binding, Exchange, Model, Place, Queue},
};

#[derive(Deserialize)]
struct Definitions {
    #[serde(default)]
    exchanges: Vec<ExchangeJson>,
    #[serde(default)]
    queues: Vec<QueueJson>,
    #[serde(default)]
    bindings: Vec<BindingJson>,
}

#[derive(Deserialize)]
struct ExchangeJson {
    name: String,
    vhost: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: ArgumentsJson,
}

#[derive(Deserialize)]
struct QueueJson {
    name: String,
    vhost: Option<String>,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    arguments: ArgumentsJson,
}

#[derive(Deserialize)]
struct BindingJson {
    source: String,
    vhost: Option<String>,
    destination: String,
    destination_type: String,
    #[serde(default)]
    routing_key: String,
    #[serde(default)]
    arguments: ArgumentsJson,
}

/// A table. RabbitMQ's API writes an empty one as `[]` in some versions, because Erlang does not tell them apart.
#[derive(Deserialize)]
#[serde(untagged)]
enum ArgumentsJson {
    Table(Map<String, Value>),
    Empty([Value; 0]),
}

impl Default for ArgumentsJson {
    fn default() -> Self {
        Self::Empty([])
    }
}

fn yes() -> bool {
    true
}

/// Reads the entities of one virtual host. Without `vhost`, the definitions may be about one virtual host only.
///
/// The default exchange and its bindings, and the broker's own exchanges (`amq.…`) are left out: each broker has them.
pub(crate) fn read(json: &str, vhost: Option<&str>) -> Result<Model, Failure> {
    let read: Definitions = serde_json::from_str(json)
        .map_err(|error| Failure::new(format!("this is no file of RabbitMQ's definitions: {error}")))?;
    let vhosts: BTreeSet<&str> = (read.exchanges.iter().map(|it| &it.vhost))
        .chain(read.queues.iter().map(|it| &it.vhost))
        .chain(read.bindings.iter().map(|it| &it.vhost))
        .filter_map(Option::as_deref)
        .collect();
    let only = match (vhost, vhosts.len()) {
        (Some(vhost), 1..) if !vhosts.contains(vhost) => {
            return Err(Failure::new(format!(
                "the definitions have no exchange, queue or binding in the virtual host {vhost:?}, only in {}: name \
                 one of them with --vhost",
                named(&vhosts)
            )));
        }
        (Some(vhost), _) => Some(vhost.to_owned()),
        (None, 0 | 1) => None,
        (None, _) => {
            let problem =
                format!("the definitions are about the virtual hosts {}: choose one, --vhost", named(&vhosts));
            return Err(Failure::new(problem));
        }
    };
    let is_meant = |vhost: &Option<String>| match (vhost, &only) {
        (Some(vhost), Some(only)) => vhost == only,
        _ => true,
    };
    let exchanges = read.exchanges.into_iter().filter(|it| is_meant(&it.vhost) && !is_built_in(&it.name));
    let queues = read.queues.into_iter().filter(|it| is_meant(&it.vhost));
    let bindings = read.bindings.into_iter().filter(|it| is_meant(&it.vhost) && !it.source.is_empty());
    Ok(Model {
        exchanges: exchanges.map(exchange).collect::<Result<_, _>>()?,
        queues: queues.map(queue).collect::<Result<_, _>>()?,
        bindings: bindings.map(binding).collect::<Result<_, _>>()?,
    })
}

fn named(vhosts: &BTreeSet<&str>) -> String {
    vhosts.iter().map(|vhost| format!("{vhost:?}")).collect::<Vec<_>>().join(", ")
}

fn is_built_in(exchange: &str) -> bool {
    exchange.is_empty() || exchange.starts_with("amq.")
}

fn exchange(it: ExchangeJson) -> Result<Exchange, Failure> {
    Ok(Exchange {
        arguments: arguments(&format!("exchange {:?}", it.name), it.arguments)?,
        name: it.name,
        kind: it.kind,
        durable: it.durable,
        auto_delete: it.auto_delete,
        internal: it.internal,
    })
}

fn queue(it: QueueJson) -> Result<Queue, Failure> {
    Ok(Queue {
        arguments: arguments(&format!("queue {:?}", it.name), it.arguments)?,
        name: it.name,
        durable: it.durable,
        auto_delete: it.auto_delete,
        exclusive: it.exclusive,
    })
}

fn binding(it: BindingJson) -> Result<Binding, Failure> {
    let to = match it.destination_type.as_str() {
        "queue" => Place::Queue(it.destination),
        "exchange" => Place::Exchange(it.destination),
        other => {
            return Err(Failure::new(format!("a binding goes to a {other:?}, which is neither queue nor exchange")));
        }
    };
    let what = format!("the binding of {to} to exchange {:?}", it.source);
    Ok(Binding { source: it.source, to, key: it.routing_key, arguments: arguments(&what, it.arguments)? })
}

fn arguments(what: &str, json: ArgumentsJson) -> Result<Arguments, Failure> {
    let ArgumentsJson::Table(table) = json else { return Ok(Arguments::new()) };
    table.into_iter().map(|(name, json)| value(what, &name, json).map(|value| (name, value))).collect()
}

fn value(what: &str, name: &str, json: Value) -> Result<ArgumentValue, Failure> {
    let unreadable = |json: Value| {
        Failure::new(format!("{what}: the argument {name:?} is {json}, which AMQP does not have: correct the file"))
    };
    Ok(match json {
        Value::Bool(value) => ArgumentValue::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => ArgumentValue::Int(number),
            (None, Some(number)) => ArgumentValue::Float(number),
            (None, None) => return Err(unreadable(Value::Number(number))),
        },
        Value::String(text) => ArgumentValue::Text(text),
        Value::Array(values) => {
            ArgumentValue::List(values.into_iter().map(|it| value(what, name, it)).collect::<Result<_, _>>()?)
        }
        Value::Object(table) => ArgumentValue::Table(
            table.into_iter().map(|(key, it)| value(what, name, it).map(|it| (key, it))).collect::<Result<_, _>>()?,
        ),
        Value::Null => return Err(unreadable(Value::Null)),
    })
}
