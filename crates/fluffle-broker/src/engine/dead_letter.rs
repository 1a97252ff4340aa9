//! Dead letters: what left a queue without being taken, with its history in `x-death`.
//!
//! Semantics: <https://www.rabbitmq.com/docs/3.13/dlx>.

use std::{
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Engine, QueueKey,
    message::{Message, Property},
    publish::carbon_copies,
    table::{self, Table},
};

impl Engine {
    /// Publishes a message that leaves `key` to the queue's dead-letter exchange; without one it is dropped.
    pub(super) fn dead_letter(&mut self, key: QueueKey, message: &Rc<Message>, reason: &'static str) {
        let Some(queue) = self.queues.get(key) else { return };
        let Some(exchange) = queue.spec.dead_letter_exchange.clone() else { return };
        let (vhost, name, new_key) = (queue.vhost, queue.name.clone(), queue.spec.dead_letter_key.clone());
        // The name of an exchange is always UTF-8; that of a queue's argument need not be, and then names none.
        let exchange_name = std::str::from_utf8(&exchange).ok();
        let exchange = exchange_name.and_then(|name| self.vhosts.get(vhost)?.exchanges.get(name));
        let Some(exchange) = exchange.map(|exchange| exchange.name.clone()) else { return };
        let Some(letter) = letter(message, exchange, new_key, &name, reason) else { return };
        let queues = self.route_all(vhost, &letter);
        let letter = Rc::new(letter);
        let deaths = if reason == "rejected" { Vec::new() } else { deaths(&letter.properties.headers()) };
        for target in queues.iter() {
            let Some(target_name) = self.queues.get(*target).map(|queue| queue.name.clone()) else { continue };
            // A message that has come round by itself, without a rejection on the way, would go on for ever.
            if !is_cycle(&target_name, &deaths) {
                self.waiting_letters.push_back((*target, letter.clone()));
            }
        }
        self.deliver_letters();
    }

    /// Enqueues dead letters one after the other: a letter may push out the next one, and so on, and a
    /// long chain of queues must not become a deep recursion.
    fn deliver_letters(&mut self) {
        if std::mem::replace(&mut self.delivering_letters, true) {
            return;
        }
        while let Some((queue, letter)) = self.waiting_letters.pop_front() {
            self.enqueue(queue, &letter);
        }
        self.delivering_letters = false;
    }
}

/// The message as it is published to the dead-letter exchange.
fn letter(
    message: &Message,
    exchange: Rc<str>,
    new_key: Option<Rc<[u8]>>,
    queue: &str,
    reason: &str,
) -> Option<Message> {
    let mut headers = message.properties.headers().canonical();
    let copies = carbon_copies(&message.properties, &["CC"]);
    let keys: Vec<_> = std::iter::once(&message.key).chain(&copies).map(|key| table::text(key)).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut death = vec![
        ("count", table::long(1)),
        ("reason", table::text(reason.as_bytes())),
        ("queue", table::text(queue.as_bytes())),
        ("time", table::timestamp(now)),
        ("exchange", table::text(message.exchange.as_bytes())),
        ("routing-keys", table::array(&keys)),
    ];
    if let Some(expiration) = message.properties.expiration() {
        death.push(("original-expiration", table::text(expiration)));
    }
    if new_key.is_some() {
        headers = headers.without("CC");
    }
    let headers = record(&headers, Table::of(death), queue, reason, &message.exchange);
    // A dead letter does not expire again.
    let properties = message.properties.with_headers(&headers)?.with(Property::Expiration, None)?;
    let key = new_key.unwrap_or_else(|| message.key.clone());
    Some(message.copy((exchange, key), properties, None))
}

/// Adds a death in front, or counts it on the one of the same queue and reason and moves that to the front. What is not
/// a table among the deaths is left out: RabbitMQ's queue process dies of it.
fn record(headers: &Table, death: Table, queue: &str, reason: &str, exchange: &str) -> Table {
    let mut recorded = headers.clone();
    let mut known = deaths(headers);
    if !headers.contains("x-death") {
        for (name, value) in [("reason", reason), ("queue", queue), ("exchange", exchange)] {
            recorded = recorded.with(&format!("x-first-death-{name}"), &table::text(value.as_bytes()));
        }
    }
    let same = known.iter().position(|death| is(death, "queue", queue) && is(death, "reason", reason));
    let death = match same.map(|at| known.remove(at)) {
        // RabbitMQ sorts the fields of a death that it adds to others, and of none that is the first.
        None if headers.get("x-death").is_some_and(|value| value.items().is_some()) => death.sorted(),
        None => death,
        Some(again) => {
            let count = again.get("count").and_then(table::Value::integer).unwrap_or(0);
            again.with("count", &table::long(count.saturating_add(1)))
        }
    };
    known.insert(0, death);
    let known: Vec<_> = known.iter().map(Table::value).collect();
    recorded.with("x-death", &table::array(&known))
}

fn deaths(headers: &Table) -> Vec<Table> {
    let deaths = headers.get("x-death").and_then(table::Value::items);
    deaths.into_iter().flatten().filter_map(table::Value::table).collect()
}

/// Whether a death's field is this text.
fn is(death: &Table, name: &str, text: &str) -> bool {
    death.get(name).and_then(table::Value::text) == Some(text.as_bytes())
}

fn is_cycle(queue: &str, deaths: &[Table]) -> bool {
    let Some(seen) = deaths.iter().position(|death| is(death, "queue", queue)) else { return false };
    deaths.iter().take(seen + 1).all(|death| !is(death, "reason", "rejected"))
}
