//! Dead letters: messages that left a queue without being consumed, with their history in `x-death`.
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
    table::{self, Table, TableValue},
};

impl Engine {
    /// Publishes a message that leaves `key` to the dead-letter exchange of the queue. Without such an exchange the
    /// message is dropped.
    pub(super) fn dead_letter(&mut self, key: QueueKey, message: &Rc<Message>, reason: &'static str) {
        let Some(queue) = self.queues.get(key) else { return };
        let Some(exchange) = queue.spec.dead_letter_exchange.clone() else { return };
        let (vhost, name, new_key) = (queue.vhost, queue.name.clone(), queue.spec.dead_letter_key.clone());
        // The name of an exchange is always UTF-8. If the queue's argument is not, it names no exchange.
        let exchange_name = std::str::from_utf8(&exchange).ok();
        let exchange = exchange_name.and_then(|name| self.vhosts.get(vhost)?.exchanges.get(name));
        let Some(exchange) = exchange.map(|exchange| exchange.name.clone()) else { return };
        let Some(letter) = letter(message, exchange, new_key, &name, reason) else { return };
        let queues = self.route_all(vhost, &letter);
        let letter = Rc::new(letter);
        let deaths = if reason == "rejected" { Vec::new() } else { deaths(&letter.properties.headers()) };
        for target in queues.iter() {
            // RabbitMQ 3.10 drops dead letters for streams (rabbitmq-server #7846).
            if self.is_stream(*target) {
                continue;
            }
            let Some(target_name) = self.queues.get(*target).map(|queue| queue.name.clone()) else { continue };
            // Drop a message that returned to a queue without a rejection on the way, because it would circulate for
            // ever.
            if !is_cycle(&target_name, &deaths) {
                self.waiting_letters.push_back((*target, letter.clone()));
            }
        }
        self.deliver_letters();
    }

    /// Enqueues dead letters one after the other. Each letter may push out the next one, so a loop avoids a deep
    /// recursion over a long chain of queues.
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

/// Builds the message that is published to the dead-letter exchange.
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

/// Adds a death at the front. If there is already one for the same queue and reason, counts it there and moves it to
/// the front. Items that are no tables are left out; RabbitMQ's queue process crashes over them.
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
        // RabbitMQ sorts the fields of a new death only if there are other deaths already.
        None if headers.get("x-death").is_some_and(|value| value.items().is_some()) => death.sorted(),
        None => death,
        Some(again) => {
            let count = again.get("count").and_then(TableValue::integer).unwrap_or(0);
            again.with("count", &table::long(count.saturating_add(1)))
        }
    };
    known.insert(0, death);
    let known: Vec<_> = known.iter().map(Table::value).collect();
    recorded.with("x-death", &table::array(&known))
}

fn deaths(headers: &Table) -> Vec<Table> {
    let deaths = headers.get("x-death").and_then(TableValue::items);
    deaths.into_iter().flatten().filter_map(TableValue::table).collect()
}

/// Whether a field of a death has this text.
fn is(death: &Table, name: &str, text: &str) -> bool {
    death.get(name).and_then(TableValue::text) == Some(text.as_bytes())
}

fn is_cycle(queue: &str, deaths: &[Table]) -> bool {
    let Some(seen) = deaths.iter().position(|death| is(death, "queue", queue)) else { return false };
    deaths.iter().take(seen + 1).all(|death| !is(death, "reason", "rejected"))
}
