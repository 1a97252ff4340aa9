//! What a message says of its own past.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fluffle::wire::{
    Headers,
    headers::{self, Attempt, DeadLetterInfo, HeaderValue, Origin},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

use crate::{
    explain::report::at,
    message::fields::{TableHeaders, integer, text},
};

/// Sentences about the past of a message with these properties, as its headers tell it.
pub(crate) fn of(amqp: &BasicProperties) -> Vec<String> {
    let none = FieldTable::default();
    let table = amqp.headers().as_ref().unwrap_or(&none);
    let own = TableHeaders(table);
    let header = |name: &'static str| own.header(name);
    let mut facts = Vec::new();
    if let Some(seconds) = *amqp.timestamp() {
        facts.extend(time(Duration::from_secs(seconds)).map(|time| format!("published at {time} (its timestamp)")));
    }
    fluffles(&header, &mut facts);
    for death in deaths(table) {
        facts.push(death);
    }
    if let Some(count) = table.inner().get("x-delivery-count").and_then(integer) {
        facts.push(format!("the quorum queue has counted {count} deliveries in vain (x-delivery-count)"));
    }
    facts
}

/// What Fluffle's headers tell.
fn fluffles<'a>(header: &impl Fn(&'static str) -> Option<HeaderValue<'a>>, facts: &mut Vec<String>) {
    let of_origin = |origin: &Origin| {
        let place = match origin.exchange.as_str() {
            "" => format!("to the queue {}", origin.key),
            exchange => format!("to the exchange {exchange} with the key {}", origin.key),
        };
        let seen = at(origin.first_seen);
        format!("first published {place}; first delivered from the queue {} at {seen}", origin.queue)
    };
    let error = |facts: &mut Vec<String>| {
        let error = header(headers::ERROR).and_then(|value| value.as_str()).filter(|error| !error.is_empty());
        facts.extend(error.map(|error| format!("its last error: {error}")));
    };
    if let Some(letter) = DeadLetterInfo::read(header) {
        facts.push(format!("a dead letter of Fluffle: {}, after {} attempts", letter.reason, letter.attempts));
        error(facts);
        facts.push(of_origin(&letter.origin));
    } else if let Some(origin) = Origin::read(header) {
        let attempt = Attempt::read(header);
        facts.push(format!("a retry copy: its next attempt is the number {attempt}"));
        error(facts);
        facts.push(of_origin(&origin));
    } else if let Some(reason) = header(headers::REASON).and_then(|value| value.as_str()) {
        facts.push(format!("a dead letter: {reason}"));
        error(facts);
    }
    let retried = header(headers::RETRIED_AT).and_then(|value| value.as_int());
    if let Some(made) = retried.and_then(|millis| time(Duration::from_millis(u64::try_from(millis).ok()?))) {
        facts.push(format!("this copy was made at {made}"));
    }
    if let Some(replay) = header(headers::REPLAY).and_then(|value| value.as_str()) {
        facts.push(format!("it was sent again on purpose: the replay {replay}"));
    }
}

/// What RabbitMQ has written about each of its dead letterings, newest first.
fn deaths(table: &FieldTable) -> Vec<String> {
    let Some(AMQPValue::FieldArray(deaths)) = table.inner().get("x-death") else { return Vec::new() };
    let told = |death: &AMQPValue| {
        let AMQPValue::FieldTable(death) = death else { return None };
        let word = |name: &str| death.inner().get(name).and_then(text).unwrap_or("?").to_owned();
        let count = death.inner().get("count").and_then(integer).unwrap_or(1);
        let when = match death.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => time(Duration::from_secs(*seconds)),
            _ => None,
        };
        let when = when.map_or_else(String::new, |when| format!(", first at {when}"));
        Some(format!("RabbitMQ moved it out of the queue {} ({}), {count} times{when}", word("queue"), word("reason")))
    };
    deaths.as_slice().iter().filter_map(told).take(20).collect()
}

/// A time that a message claims, as text. `None` for one past the year 9999.
fn time(since_1970: Duration) -> Option<String> {
    const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
    let time: SystemTime = UNIX_EPOCH.checked_add(since_1970).filter(|_| since_1970 < YEAR_10000)?;
    Some(at(time))
}
