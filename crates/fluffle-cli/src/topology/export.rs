//! Writes a model as TOML that the library reads.
//!
//! Each part is read back as it is written. What the library would refuse is in the file as a comment, with its reason.

use std::{fmt::Write, time::Duration};

use fluffle::amqp::{ArgumentValue, Topology};
use toml::Value;

use crate::{
    common::output::safe,
    topology::model::{Arguments, Binding, Exchange, Model, Place, Queue, integer, text},
};

/// The TOML, and what is in it only as a comment.
pub(crate) struct Exported {
    pub(crate) text: String,
    pub(crate) left_out: Vec<String>,
}

/// The TOML of a model, sorted by name, so that two exports can be compared.
pub(crate) fn toml(model: &Model) -> Exported {
    let mut exported = Exported { text: String::new(), left_out: Vec::new() };
    let mut exchanges: Vec<&Exchange> = model.exchanges.iter().collect();
    let mut queues: Vec<&Queue> = model.queues.iter().collect();
    exchanges.sort_by(|a, b| a.name.cmp(&b.name));
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    for exchange in &exchanges {
        exported.entity(&exchange.place(), &exchange_table(exchange), model);
    }
    for queue in &queues {
        exported.entity(&queue.place(), &queue_table(queue), model);
    }
    let is_known = |place: &Place| match place {
        Place::Exchange(name) => exchanges.iter().any(|it| it.name == *name),
        Place::Queue(name) => queues.iter().any(|it| it.name == *name),
    };
    for binding in model.bindings.iter().filter(|binding| !is_known(&binding.to)) {
        let why = format!("{} is not declared here", binding.to);
        exported.comment(&format!("the binding of {} to exchange {:?}", binding.to, binding.source), &why, "");
    }
    if let Err(error) = Topology::from_toml(&exported.text) {
        let why = format!("# The library refuses this file as a whole: {}\n\n", safe(&error.to_string()));
        exported.text.insert_str(0, &why);
        exported.left_out.push(error.to_string());
    }
    exported
}

impl Exported {
    /// Adds the table of an entity and its bindings, each as a comment if the library refuses it.
    fn entity(&mut self, place: &Place, table: &str, model: &Model) {
        let mut bindings: Vec<&Binding> = model.bindings.iter().filter(|binding| binding.to == *place).collect();
        bindings.sort_by(|a, b| (&a.source, &a.key, a.headers()).cmp(&(&b.source, &b.key, b.headers())));
        if let Err(error) = Topology::from_toml(table) {
            let all = bindings.iter().filter_map(|binding| binding_table(binding).ok());
            let block = all.fold(table.to_owned(), |block, binding| block + "\n" + &binding);
            self.comment(&place.to_string(), &error.to_string(), &block);
            return;
        }
        self.text.push_str(table);
        for binding in bindings {
            let what = format!("a binding of {place} to exchange {:?}", binding.source);
            match binding_table(binding) {
                Err(why) => self.comment(&what, why, ""),
                Ok(toml) => match Topology::from_toml(&format!("{table}\n{toml}")) {
                    Err(error) => self.comment(&what, &error.to_string(), &toml),
                    Ok(_) => {
                        self.text.push('\n');
                        self.text.push_str(&toml);
                    }
                },
            }
        }
        self.text.push('\n');
    }

    fn comment(&mut self, what: &str, why: &str, block: &str) {
        self.text.push_str(&format!("\n# Left out, {}: {}\n", safe(what), safe(why)));
        for line in block.lines() {
            // Writing to a string does not fail.
            let _ = writeln!(self.text, "# {line}");
        }
        self.text.push('\n');
        self.left_out.push(what.to_owned());
    }
}

fn exchange_table(exchange: &Exchange) -> String {
    let mut table = Table::new("exchange", &exchange.name, &exchange.kind);
    table.unless(exchange.durable, "durable", false);
    table.when(exchange.auto_delete, "auto_delete");
    table.when(exchange.internal, "internal");
    let mut arguments = exchange.arguments.clone();
    if let Some(alternate) = text(&arguments, "alternate-exchange").map(str::to_owned) {
        table.set("alternate", alternate.into());
        arguments.remove("alternate-exchange");
    }
    table.arguments(&arguments);
    table.0
}

fn queue_table(queue: &Queue) -> String {
    let mut table = Table::new("queue", &queue.name, queue.kind());
    table.unless(queue.durable, "durable", false);
    table.when(queue.exclusive, "exclusive");
    table.when(queue.auto_delete, "auto_delete");
    let mut arguments = queue.arguments.clone();
    arguments.remove("x-queue-type");
    for (argument, key) in [("x-message-ttl", "message_ttl"), ("x-expires", "expires")] {
        if let Some(ms) = positive(&arguments, argument) {
            table.set(key, humantime::format_duration(Duration::from_millis(ms)).to_string().into());
            arguments.remove(argument);
        }
    }
    let numbers = [
        ("x-max-length", "max_length", u64::MAX),
        ("x-max-length-bytes", "max_bytes", u64::MAX),
        ("x-max-priority", "max_priority", u8::MAX.into()),
        ("x-delivery-limit", "delivery_limit", u32::MAX.into()),
    ];
    for (argument, key, most) in numbers {
        if let Some(number) = positive(&arguments, argument).filter(|number| *number <= most) {
            table.set(key, Value::Integer(number.try_into().unwrap_or(i64::MAX)));
            arguments.remove(argument);
        }
    }
    if arguments.get("x-single-active-consumer") == Some(&ArgumentValue::Bool(true)) {
        table.when(true, "single_active_consumer");
        arguments.remove("x-single-active-consumer");
    }
    if let Some(overflow) = text(&arguments, "x-overflow").map(str::to_owned)
        && ["drop-head", "reject-publish", "reject-publish-dlx"].contains(&overflow.as_str())
    {
        table.set("overflow", overflow.into());
        arguments.remove("x-overflow");
    }
    if let Some(locator) = text(&arguments, "x-queue-leader-locator").map(str::to_owned)
        && ["client-local", "balanced"].contains(&locator.as_str())
    {
        table.set("leader_locator", locator.into());
        arguments.remove("x-queue-leader-locator");
    }
    if let Some(exchange) = text(&arguments, "x-dead-letter-exchange").map(str::to_owned) {
        let key = text(&arguments, "x-dead-letter-routing-key").filter(|key| !key.is_empty()).map(str::to_owned);
        let mut target = toml::Table::from_iter([("exchange".to_owned(), exchange.into())]);
        if let Some(key) = key {
            target.insert("key".to_owned(), key.into());
            arguments.remove("x-dead-letter-routing-key");
        }
        arguments.remove("x-dead-letter-exchange");
        table.set("dead_letter", Value::Table(target));
    }
    let seconds = text(&arguments, "x-max-age").and_then(|age| age.strip_suffix('s')?.parse::<u64>().ok());
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
        table.set("max_age", humantime::format_duration(Duration::from_secs(seconds)).to_string().into());
        arguments.remove("x-max-age");
    }
    table.arguments(&arguments);
    table.0
}

fn positive(arguments: &Arguments, name: &str) -> Option<u64> {
    integer(arguments, name).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0)
}

/// The table of a binding; the error says why TOML has no word for it.
fn binding_table(binding: &Binding) -> Result<String, &'static str> {
    let parent = match binding.to {
        Place::Exchange(_) => "exchange",
        Place::Queue(_) => "queue",
    };
    let mut table = Table(format!("[[{parent}.binding]]\n"));
    table.set("exchange", binding.source.as_str().into());
    match (text(&binding.arguments, "x-match"), binding.arguments.is_empty()) {
        (None, true) => {
            if !binding.key.is_empty() {
                table.set("key", binding.key.as_str().into());
            }
        }
        (Some(matching @ ("all" | "any")), false) if binding.key.is_empty() => {
            let headers = binding.arguments.iter().filter(|(name, _)| *name != "x-match");
            table.set("match", matching.into());
            table.set("headers", Value::Table(headers.map(|(name, it)| (name.clone(), value(it))).collect()));
        }
        _ => return Err("the library binds by a key, or by headers with x-match all or any, but not like this"),
    }
    Ok(table.0)
}

/// The lines of one table.
struct Table(String);

impl Table {
    fn new(table: &str, name: &str, kind: &str) -> Self {
        let mut lines = Self(format!("[[{table}]]\n"));
        lines.set("name", name.into());
        lines.set("type", kind.into());
        lines
    }

    fn set(&mut self, key: &str, value: Value) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn when(&mut self, is: bool, key: &str) {
        if is {
            self.set(key, true.into());
        }
    }

    fn unless(&mut self, is: bool, key: &str, value: bool) {
        if !is {
            self.set(key, value.into());
        }
    }

    fn arguments(&mut self, arguments: &Arguments) {
        if !arguments.is_empty() {
            let table = arguments.iter().map(|(name, it)| (name.clone(), value(it))).collect();
            self.set("arguments", Value::Table(table));
        }
    }
}

fn value(argument: &ArgumentValue) -> Value {
    match argument {
        ArgumentValue::Bool(it) => (*it).into(),
        ArgumentValue::Int(it) => (*it).into(),
        ArgumentValue::Float(it) => (*it).into(),
        ArgumentValue::Text(it) => it.as_str().into(),
        ArgumentValue::List(it) => Value::Array(it.iter().map(value).collect()),
        ArgumentValue::Table(it) => Value::Table(it.iter().map(|(name, it)| (name.clone(), value(it))).collect()),
        other => other.to_string().into(),
    }
}
