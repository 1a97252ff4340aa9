//! Dead letters: what left a queue without being taken, with its history in `x-death`.
//!
//! Semantics: <https://www.rabbitmq.com/docs/3.13/dlx>.

use std::{
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, LongString};

use super::{
    Engine, QueueKey,
    message::{Message, Properties},
    publish::carbon_copies,
};

impl Engine {
    /// Publishes a message that leaves `key` to the queue's dead-letter exchange; without one it is dropped.
    pub(super) fn dead_letter(&mut self, key: QueueKey, message: &Rc<Message>, reason: &'static str) {
        let Some(queue) = self.queues.get(key) else { return };
        let Some(exchange) = queue.spec.dead_letter_exchange.clone() else { return };
        let (vhost, name, new_key) = (queue.vhost, queue.name.clone(), queue.spec.dead_letter_key.clone());
        let known = self.vhosts.get(vhost).is_some_and(|home| home.exchanges.contains_key(&exchange));
        let Some(letter) = letter(message, exchange, new_key, &name, reason).filter(|_| known) else { return };
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

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// The message as it is published to the dead-letter exchange.
fn letter(
    message: &Message,
    exchange: Rc<str>,
    new_key: Option<Rc<str>>,
    queue: &str,
    reason: &str,
) -> Option<Message> {
    let properties = message.properties.decode();
    let mut headers = properties.headers().clone().unwrap_or_default();
    let mut keys = vec![message.key.clone()];
    keys.extend(carbon_copies(&message.properties, &["CC"]));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut death = FieldTable::default();
    death.insert("count".into(), AMQPValue::LongLongInt(1));
    death.insert("reason".into(), text(reason));
    death.insert("queue".into(), text(queue));
    death.insert("time".into(), AMQPValue::Timestamp(now));
    death.insert("exchange".into(), text(&message.exchange));
    let keys: Vec<_> = keys.iter().map(|key| text(key)).collect();
    death.insert("routing-keys".into(), AMQPValue::FieldArray(FieldArray::from(keys)));
    if let Some(expiration) = &message.properties.expiration {
        death.insert("original-expiration".into(), text(expiration));
    }
    if new_key.is_some() {
        headers = without(&headers, "CC");
    }
    record(&mut headers, death, queue, reason, &message.exchange);
    let properties = cleared_expiration(properties.with_headers(headers));
    let properties = Properties::encode(&properties)?;
    let key = new_key.unwrap_or_else(|| message.key.clone());
    Some(message.copy((exchange, key), properties, None))
}

/// Adds a death in front, or counts it on the one of the same queue and reason and moves that to the front.
fn record(headers: &mut FieldTable, death: FieldTable, queue: &str, reason: &str, exchange: &str) {
    let mut known = deaths(headers);
    if !headers.contains_key("x-death") {
        for (name, value) in [("reason", reason), ("queue", queue), ("exchange", exchange)] {
            headers.insert(format!("x-first-death-{name}").as_str().into(), text(value));
        }
    }
    let same =
        known.iter().position(|death| field(death, "queue") == Some(queue) && field(death, "reason") == Some(reason));
    let death = match same.map(|at| known.remove(at)) {
        None => death,
        Some(mut again) => {
            let count = again.inner().get("count").and_then(super::arguments::integer).unwrap_or(0);
            again.insert("count".into(), AMQPValue::LongLongInt(count.saturating_add(1)));
            again
        }
    };
    known.insert(0, death);
    let known: Vec<_> = known.into_iter().map(AMQPValue::FieldTable).collect();
    headers.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(known)));
}

fn deaths(headers: &FieldTable) -> Vec<FieldTable> {
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else { return Vec::new() };
    let tables = deaths.as_slice().iter().filter_map(|death| match death {
        AMQPValue::FieldTable(table) => Some(table.clone()),
        _ => None,
    });
    tables.collect()
}

fn field<'a>(death: &'a FieldTable, name: &str) -> Option<&'a str> {
    super::arguments::text(death, name)
}

fn is_cycle(queue: &str, deaths: &[FieldTable]) -> bool {
    let Some(seen) = deaths.iter().position(|death| field(death, "queue") == Some(queue)) else { return false };
    deaths.iter().take(seen + 1).all(|death| field(death, "reason") != Some("rejected"))
}

pub(super) fn without(headers: &FieldTable, name: &str) -> FieldTable {
    let kept = headers.inner().iter().filter(|(key, _)| key.as_str() != name);
    kept.map(|(key, value)| (key.clone(), value.clone())).collect::<std::collections::BTreeMap<_, _>>().into()
}

/// The same properties without `expiration`: a dead letter does not expire again.
fn cleared_expiration(
    from: amq_protocol::protocol::basic::AMQPProperties,
) -> amq_protocol::protocol::basic::AMQPProperties {
    let mut to = amq_protocol::protocol::basic::AMQPProperties::default();
    macro_rules! copy {
        ($($name:ident: $with:ident),*) => { $(if let Some(value) = from.$name() { to = to.$with(value.clone()); })* };
    }
    copy!(
        content_type: with_content_type,
        content_encoding: with_content_encoding,
        headers: with_headers,
        delivery_mode: with_delivery_mode,
        priority: with_priority,
        correlation_id: with_correlation_id,
        reply_to: with_reply_to,
        message_id: with_message_id,
        timestamp: with_timestamp,
        kind: with_type,
        user_id: with_user_id,
        app_id: with_app_id,
        cluster_id: with_cluster_id
    );
    to
}
