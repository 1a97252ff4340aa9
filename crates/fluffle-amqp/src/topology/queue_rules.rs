//! Rules for queues: combinations that RabbitMQ refuses, or accepts and then ignores.
//!
//! The rules hold for RabbitMQ 3.10 to 4.x. An argument that is not listed here goes to the broker unchecked, because
//! newer versions and plugins define more arguments.

use crate::topology::argument::{self, ArgumentValue, Arguments};
use crate::topology::binding::Binding;
use crate::topology::name;
use crate::topology::queue::Queue;
use crate::topology::queue_kind::QueueKind;

use QueueKind::{Classic, Quorum, Stream};

/// The kinds of queue that accept an argument; the broker refuses it for the others (406).
const ARGUMENTS: &[(&str, &[QueueKind])] = &[
    ("x-dead-letter-exchange", &[Classic, Quorum]),
    ("x-dead-letter-routing-key", &[Classic, Quorum]),
    ("x-dead-letter-strategy", &[Quorum]),
    ("x-delivery-limit", &[Quorum]),
    ("x-expires", &[Classic, Quorum]),
    ("x-max-age", &[Stream]),
    ("x-max-length", &[Classic, Quorum]),
    ("x-max-length-bytes", &[Classic, Quorum, Stream]),
    ("x-consumer-timeout", &[Classic, Quorum]),
    ("x-max-priority", &[Classic, Quorum]),
    ("x-message-ttl", &[Classic, Quorum]),
    ("x-overflow", &[Classic, Quorum]),
    ("x-queue-mode", &[Classic]),
    ("x-single-active-consumer", &[Classic, Quorum]),
    ("x-stream-max-segment-size-bytes", &[Stream]),
];

/// Integer arguments with their least and greatest value. RabbitMQ's own limit for times is ten years, in milliseconds.
const RANGES: &[(&str, i64, i64)] = &[
    ("x-message-ttl", 0, TEN_YEARS_MS),
    ("x-expires", 1, TEN_YEARS_MS),
    ("x-max-length", 0, i64::MAX),
    ("x-max-length-bytes", 0, i64::MAX),
    ("x-consumer-timeout", 1, TEN_YEARS_MS),
    ("x-max-priority", 1, 255),
    ("x-stream-max-segment-size-bytes", 1, LARGEST_SEGMENT),
    // Since RabbitMQ 4.0, -1 means no limit.
    ("x-delivery-limit", -1, u32::MAX as i64),
];

/// The highest priority of a quorum queue, since RabbitMQ 4.3.
const MOST_QUORUM_PRIORITY: i64 = 31;

/// RabbitMQ's own limit, in bytes.
const LARGEST_SEGMENT: i64 = 3_000_000_000;

const TEN_YEARS_MS: i64 = 10 * 365 * 86_400 * 1_000;

/// Checks a queue and its bindings; the first problem is the error.
pub(super) fn check(queue: &Queue) -> Result<(), String> {
    if let Some(problem) = queue.problem() {
        return Err(problem.to_owned());
    }
    name::check_declared(queue.name())?;
    let arguments = queue.arguments();
    argument::check(&arguments)?;
    check_kind(queue, &arguments)?;
    check_ranges(&arguments)?;
    check_max_age(&arguments)?;
    check_dead_letters(queue, &arguments)?;
    queue.bindings().iter().try_for_each(Binding::check)
}

fn check_kind(queue: &Queue, arguments: &Arguments) -> Result<(), String> {
    let kind = queue.kind();
    if arguments.get("x-queue-type") != Some(&kind.as_str().into()) {
        return Err(format!(
            "its x-queue-type contradicts its kind, {kind}: remove the argument, and choose the kind by the \
             constructor (or `type` in TOML)"
        ));
    }
    if kind != Classic {
        let forbidden = [
            (!queue.is_durable(), "transient"),
            (queue.is_exclusive(), "exclusive"),
            (queue.is_auto_delete(), "auto-delete"),
        ];
        if let Some((_, property)) = forbidden.iter().find(|(is, _)| *is) {
            return Err(format!("a {kind} queue cannot be {property}: make it classic, or remove that property"));
        }
    }
    for (name, kinds) in ARGUMENTS {
        if arguments.contains_key(*name) && !kinds.contains(&kind) {
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
            return Err(format!("a {kind} queue takes no {name}: only {} queues do", kinds.join(" and ")));
        }
    }
    if kind == Quorum
        && let Some(ArgumentValue::Int(priority)) = arguments.get("x-max-priority")
        && *priority > MOST_QUORUM_PRIORITY
    {
        return Err(format!("x-max-priority = {priority}: a quorum queue has priorities up to {MOST_QUORUM_PRIORITY}"));
    }
    if kind == Quorum && queue.text("x-overflow") == Some("reject-publish-dlx") {
        return Err("a quorum queue does not support the overflow reject-publish-dlx and drops its oldest message \
                    instead: use reject-publish, or make it classic"
            .into());
    }
    Ok(())
}

fn check_ranges(arguments: &Arguments) -> Result<(), String> {
    for (name, least, most) in RANGES {
        match arguments.get(*name) {
            None => {}
            Some(ArgumentValue::Int(value)) if (least..=most).contains(&value) => {}
            Some(value) => {
                return Err(format!(
                    "{name} = {value} is not an integer from {least} to {most}{}",
                    if *most == TEN_YEARS_MS { " (milliseconds, ten years)" } else { "" }
                ));
            }
        }
    }
    Ok(())
}

/// RabbitMQ takes a positive number and a unit. The setter `max_age` writes seconds.
fn check_max_age(arguments: &Arguments) -> Result<(), String> {
    let is_age = |age: &str| {
        let digits = age.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's'])?;
        digits.parse::<u64>().ok().filter(|number| *number > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match arguments.get("x-max-age") {
        None => Ok(()),
        Some(ArgumentValue::Text(age)) if is_age(age).is_some() => Ok(()),
        Some(value) => Err(format!(
            "x-max-age = {value} is no age: write a number and one of the units Y, M, D, h, m, s, for example \"7D\", \
             or use max_age"
        )),
    }
}

fn check_dead_letters(queue: &Queue, arguments: &Arguments) -> Result<(), String> {
    let exchange = queue.text("x-dead-letter-exchange");
    let key = queue.text("x-dead-letter-routing-key");
    if exchange.is_none() {
        return match ["x-dead-letter-routing-key", "x-dead-letter-strategy"]
            .iter()
            .find(|name| arguments.contains_key(**name))
        {
            Some(name) => Err(format!(
                "{name} has no effect without x-dead-letter-exchange: use dead_letter_to, which sets \
                 both"
            )),
            None => Ok(()),
        };
    }
    if let Some(exchange) = exchange.filter(|exchange| !exchange.is_empty()) {
        name::check_bound_exchange(exchange)?;
    }
    name::check_key(key.unwrap_or_default())?;
    if exchange == Some("") && key == Some(queue.name()) {
        return Err("it dead-letters to itself: RabbitMQ drops a message that expires there, and redelivers a \
                    rejected message for ever; name another queue"
            .into());
    }
    if queue.prefix().is_some() && queue.implied_dead_letter_queue().is_some() {
        return Err("a temporary queue's dead-letter queue outlives it under a name that no process knows: \
                    use dead_letter_to with a queue that has a fixed name"
            .into());
    }
    let at_least_once = arguments.get("x-dead-letter-strategy") == Some(&"at-least-once".into());
    if at_least_once && arguments.get("x-overflow") != Some(&"reject-publish".into()) {
        return Err("x-dead-letter-strategy = at-least-once needs overflow reject-publish; without \
                    it RabbitMQ silently falls back to at-most-once"
            .into());
    }
    Ok(())
}
